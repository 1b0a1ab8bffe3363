"""Exports finished models to ONNX."""

from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ...data import replace_files
from ...modeling.encoding import SentenceEncoder
from ...modeling.onnx import export_embeddings, export_onnx


def save_onnx(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, beside_model: bool) -> None:
    """Export a model, with its configuration and tokenizer unless `beside_model`. All files are written, or none."""
    with replace_files(folder) as staging:
        if not beside_model:
            model.config.save_pretrained(staging)
            tokenizer.save_pretrained(staging)
        export_onnx(model, tokenizer, staging)


def save_embeddings_onnx(encoder: SentenceEncoder, folder: Path, beside_model: bool) -> None:
    """As `save_onnx`, for an encoder with its pooling and modules, including prompts and maximum length."""
    with replace_files(folder) as staging:
        if not beside_model:
            encoder.model.config.save_pretrained(staging)
            encoder.tokenizer.save_pretrained(staging)
            encoder.write_modules(staging)
        export_embeddings(encoder, staging)
