"""Exports finished models to ONNX."""

from pathlib import Path

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ...data import replace_files
from ...modeling.encoding import INT8_RANGES_FILE, SentenceEncoder, write_int8_ranges
from ...modeling.onnx import FLOAT32_FILE, INT8_FILE, export_embeddings, export_onnx, is_marked


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


def others_onnx(folder: Path, *, int8: bool) -> str | None:
    """The name of a file in a folder that an export would replace, but that retort didn't write; None if there is none.

    Args:
        folder: where the export is written.
        int8: whether a quantised file is written, too.
    """
    written = (FLOAT32_FILE, *([INT8_FILE] if int8 else []))
    others = (name for name in written if (folder / name).is_file() and not is_marked(folder / name))
    return next(others, None)


def has_own_onnx(folder: Path) -> bool:
    """Whether an export of retort's lies in a folder."""
    return any((folder / name).is_file() and is_marked(folder / name) for name in (FLOAT32_FILE, INT8_FILE))
