"""Exports finished models to ONNX."""

from importlib.metadata import version
from pathlib import Path

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ...data import replace_files
from ...modeling.encoding import INT8_RANGES_FILE, SentenceEncoder, write_int8_ranges
from ...modeling.onnx import FLOAT32_FILE, INT8_FILE, export_embeddings, export_onnx, onnx_library
from .ownership import CARD_FILE, is_own_card

# Key of an ONNX file's metadata that tells that retort wrote it.
_STAMP = "retort"


def save_onnx(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, beside_model: bool) -> None:
    """Export a model, with its configuration and tokenizer unless `beside_model`. All files are written, or none."""
    with replace_files(folder) as staging:
        if not beside_model:
            model.config.save_pretrained(staging)
            tokenizer.save_pretrained(staging)
        _stamp(export_onnx(model, tokenizer, staging))


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
        _stamp(export_embeddings(encoder, staging))


def others_onnx(folder: Path, *, int8: bool) -> str | None:
    """The name of a file in a folder that an export would replace, but that retort didn't write; None if there is none.

    Args:
        folder: where the export is written.
        int8: whether a quantised file is written, too.
    """
    there = [name for name in (FLOAT32_FILE, *([INT8_FILE] if int8 else [])) if (folder / name).is_file()]
    return there[0] if there and not _is_own(folder / FLOAT32_FILE) else None


def _stamp(file: Path) -> None:
    """Add retort's mark to a file's metadata."""
    onnx = onnx_library("onnx")
    model = onnx.load(file, load_external_data=False)
    model.metadata_props.add(key=_STAMP, value=version("retort"))
    onnx.save(model, file)


def _is_own(file: Path) -> bool:
    """Whether an ONNX file has retort's mark, or lies beside a model card of retort's, as those of earlier versions."""
    if is_own_card(file.with_name(CARD_FILE)):
        return True
    onnx = onnx_library("onnx")
    try:
        properties = onnx.load(file, load_external_data=False).metadata_props
    except Exception:  # absent, or no ONNX file: protobuf has errors of its own
        return False
    return any(each.key == _STAMP for each in properties)
