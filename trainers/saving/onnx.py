"""Exports finished models to ONNX."""

from pathlib import Path

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ...data import replace_files
from ...modeling.encoding import INT8_RANGES_FILE, SentenceEncoder, write_int8_ranges
from ...modeling.onnx import export_embeddings, export_onnx


def save_onnx(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, beside_model: bool) -> None:
    """Export a model, with its configuration and tokenizer unless `beside_model`. All files are written, or none."""
    with replace_files(folder) as staging:
        if not beside_model:
            model.config.save_pretrained(staging)
            tokenizer.save_pretrained(staging)
        export_onnx(model, tokenizer, staging)


def save_embeddings_onnx(
    encoder: SentenceEncoder, folder: Path, beside_model: bool, int8_ranges: Tensor | None = None
) -> None:
    """As `save_onnx`, for an encoder with its pooling and modules, including prompts and maximum length, and with the
    ranges of its int8 embeddings."""
    with replace_files(folder, outdated=[] if beside_model else [INT8_RANGES_FILE]) as staging:
        if not beside_model:
            if int8_ranges is not None:
                write_int8_ranges(staging, int8_ranges)
            encoder.model.config.save_pretrained(staging)
            encoder.tokenizer.save_pretrained(staging)
            encoder.write_modules(staging)
        export_embeddings(encoder, staging)
