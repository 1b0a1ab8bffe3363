"""Saves students as SentenceTransformer folders."""

import os
from pathlib import Path

import torch
from safetensors import safe_open
from transformers import AutoConfig, AutoModel, PreTrainedConfig

from ...data import replace_files
from ...modeling.encoding import SentenceModules, most_positions, write_sentence_modules


def save_sentence_transformer(folder: str | os.PathLike, modules: SentenceModules) -> None:
    """Add sentence-transformers modules to a folder with a saved encoder and tokenizer.

    `AutoModel.from_pretrained(folder)` loads the same weights as before. The tokenizer's `model_max_length` is set to
    `modules.max_length`, since sentence-transformers reads it there. If anything fails, the folder is not changed.

    Args:
        folder: folder with an encoder and its tokenizer, written by `save_pretrained`.
        modules: the modules after the encoder. The pooler `"cls"` is exported as the encoder's own `pooler_output`,
            hidden states other than the last as a `WeightedLayerPooling`.

    Raises:
        FileNotFoundError: the folder lacks the configuration, the weights or the tokenizer.
        ValueError: the encoder has no pooler, or the folder has no weights for it; the encoder has fewer than
            `modules.max_length` positions; or a module doesn't fit.
    """
    folder = Path(folder)
    _require_saved_model(folder)
    config = AutoConfig.from_pretrained(folder)
    positions = most_positions(config)
    if not 0 < modules.max_length <= positions:
        raise ValueError(f"max_length={modules.max_length}, but the encoder has positions for 1 to {positions} tokens.")
    if modules.pooling.modes == ("cls",):
        _require_pooler_weights(folder, config)
    with replace_files(folder) as staging:
        write_sentence_modules(staging, modules, folder)


def _require_saved_model(folder: Path) -> None:
    needed = ("config.json", "*.safetensors", "tokenizer_config.json")
    if missing := [pattern for pattern in needed if not any(folder.glob(pattern))]:
        raise FileNotFoundError(
            f"{folder} has no {' and no '.join(missing)}. Save the encoder and its tokenizer there first "
            "(save_pretrained)."
        )


def _require_pooler_weights(folder: Path, config: PreTrainedConfig) -> None:
    with torch.device("meta"):
        needed = [name for name in AutoModel.from_config(config).state_dict() if name.startswith("pooler.")]
    if not needed:
        raise ValueError(
            f"pooler='cls' uses the encoder's own pooler, but {config.model_type} encoders have none. Train and export "
            "with 'cls_before_pooler' or 'mean'."
        )
    stored = set()
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            stored.update(file.keys())
    absent = [name for name in needed if not any(key.endswith(name) for key in stored)]
    if absent:
        raise ValueError(
            f"pooler='cls', but the weights in {folder} lack {', '.join(absent)}, so the pooler would be random after "
            "loading. Build the student with its pooler (add_pooling_layer=True)."
        )
