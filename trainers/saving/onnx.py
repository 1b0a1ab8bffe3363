"""A finished model as an ONNX file."""

from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ...data import replace_files
from ...modeling.onnx import export_onnx


def save_onnx(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, beside_model: bool) -> None:
    """Export the model, with what belongs to it if it is to lie elsewhere; all files or none."""
    with replace_files(folder) as staging:
        if not beside_model:
            model.config.save_pretrained(staging)
            tokenizer.save_pretrained(staging)
        export_onnx(model, tokenizer, staging)
