"""Students in the layout of sentence-transformers.

The format is the one that sentence-transformers 6.2 saves. It isn't imported: a student is trained and exported where
it may not be installed.
"""

import json
import os
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig

from ...data import replace_files, write_json
from ...modeling.encoding import pooled_hidden_states

FORMAT_VERSION = "6.2.0"
_CLASSES = {
    "Transformer": "sentence_transformers.base.modules.transformer.Transformer",
    "WeightedLayerPooling": (
        "sentence_transformers.sentence_transformer.modules.weighted_layer_pooling.WeightedLayerPooling"
    ),
    "Pooling": "sentence_transformers.sentence_transformer.modules.pooling.Pooling",
    "Dense": "sentence_transformers.base.modules.dense.Dense",
    "Normalize": "sentence_transformers.base.modules.normalize.Normalize",
}
_EMBEDDING_TO_EMBEDDING = {"module_input_name": "sentence_embedding", "module_output_name": "sentence_embedding"}


def save_sentence_transformer(
    folder: str | os.PathLike, *, pooler: str, max_length: int, normalize: bool, projector: nn.Linear | None = None
) -> None:
    """Make a folder with a saved encoder and tokenizer loadable by `SentenceTransformer(folder)`.

    `AutoModel.from_pretrained(folder)` gives the same weights as before. The tokenizer's `model_max_length` becomes
    `max_length`: that is where sentence-transformers reads it. If anything fails, the folder stays as it was.

    Args:
        folder: holds what `save_pretrained` of the encoder and of its tokenizer wrote.
        pooler: one of `POOLERS`. `"cls"` is exported as the encoder's own `pooler_output`, hidden
            states other than the last as a `WeightedLayerPooling`.
        max_length: tokens to which texts are cut, special tokens included.
        normalize: whether embeddings are scaled to unit length.
        projector: a linear map that the pooled embedding goes through before it is normalised, `hidden -> dim`.

    Raises:
        FileNotFoundError: the folder lacks the configuration, the weights or the tokenizer.
        ValueError: the encoder has no pooler, or the folder no weights for it; it has fewer than `max_length`
            positions; the projector doesn't fit.
    """
    folder = Path(folder)
    _require_saved_model(folder)
    config = AutoConfig.from_pretrained(folder)
    positions = getattr(config, "max_position_embeddings", max_length)
    if not 0 < max_length <= positions:
        raise ValueError(f"max_length={max_length}, but the encoder has positions for 1 to {positions} tokens.")
    if pooler == "cls":
        _require_pooler_weights(folder, config)
    modules = _modules_after_encoder(config, pooler, normalize, projector)
    versions = {
        "sentence_transformers": FORMAT_VERSION,
        "transformers": transformers.__version__,
        "pytorch": str(torch.__version__),
    }
    settings = {
        "__version__": versions,
        "default_prompt_name": None,
        "model_type": "SentenceTransformer",
        "prompts": {"document": "", "query": ""},
        "similarity_fn_name": "cosine",
    }
    tokenizer_config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    with replace_files(folder) as staging:
        write_json(staging / "tokenizer_config.json", tokenizer_config | {"model_max_length": max_length})
        write_json(staging / "sentence_bert_config.json", _encoder_settings(config, pooler))
        write_json(staging / "config_sentence_transformers.json", settings)
        listed = [{"idx": 0, "name": "0", "path": "", "type": _CLASSES["Transformer"]}]
        for index, (kind, module, weights) in enumerate(modules, start=1):
            path = f"{index}_{kind}"
            write_json(staging / path / "config.json", module)
            if weights:
                save_file(weights, staging / path / "model.safetensors")
            listed.append({"idx": index, "name": str(index), "path": path, "type": _CLASSES[kind]})
        write_json(staging / "modules.json", listed)


def _require_saved_model(folder: Path) -> None:
    missing = [
        pattern
        for pattern in ("config.json", "*.safetensors", "tokenizer_config.json")
        if not any(folder.glob(pattern))
    ]
    if missing:
        raise FileNotFoundError(
            f"{folder} has no {' and no '.join(missing)}. Save the encoder and its tokenizer there first "
            "(save_pretrained)."
        )


def _require_pooler_weights(folder: Path, config: PreTrainedConfig) -> None:
    with torch.device("meta"):
        needed = [name for name in AutoModel.from_config(config).state_dict() if name.startswith("pooler.")]
    if not needed:
        raise ValueError(
            f"pooler='cls' is the encoder's own pooler, and {config.model_type} encoders have none. Train and export "
            "with 'cls_before_pooler' or 'mean'."
        )
    stored = set()
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            stored.update(file.keys())
    absent = [name for name in needed if not any(key.endswith(name) for key in stored)]
    if absent:
        raise ValueError(
            f"pooler='cls', but the weights in {folder} lack {', '.join(absent)}: whoever loads them would get a "
            "random pooler. Build the student with its pooler (add_pooling_layer=True)."
        )


def _encoder_settings(config: PreTrainedConfig, pooler: str) -> dict[str, Any]:
    read, written = (
        ("pooler_output", "sentence_embedding") if pooler == "cls" else ("last_hidden_state", "token_embeddings")
    )
    settings = {
        "transformer_task": "feature-extraction",
        "modality_config": {"text": {"method": "forward", "method_output_name": read}},
        "module_output_name": written,
    }
    depth = config.num_hidden_layers
    if pooled_hidden_states(pooler, depth) != (depth,):
        settings["config_kwargs"] = {"output_hidden_states": True}
    return settings


def _modules_after_encoder(
    config: PreTrainedConfig, pooler: str, normalize: bool, projector: nn.Linear | None
) -> list[tuple[str, dict[str, Any], dict[str, Tensor]]]:
    """Each module's kind, configuration and weights, in order."""
    depth, width = config.num_hidden_layers, config.hidden_size
    states = pooled_hidden_states(pooler, depth)
    modules = []
    if states != (depth,):
        weights = torch.zeros(depth + 1 - states[0])
        weights[[state - states[0] for state in states]] = 1
        averaging = {"embedding_dimension": width, "layer_start": states[0], "num_hidden_layers": depth}
        modules.append(("WeightedLayerPooling", averaging, {"layer_weights": weights}))
    if pooler != "cls":
        mode = "cls" if pooler == "cls_before_pooler" else "mean"
        pooling = {"embedding_dimension": width, "pooling_mode": mode, "include_prompt": True}
        modules.append(("Pooling", pooling, {}))
    if projector is not None:
        modules.append(("Dense", *_dense(projector, width)))
    if normalize:
        modules.append(("Normalize", _EMBEDDING_TO_EMBEDDING, {}))
    return modules


def _dense(projector: nn.Linear, width: int) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if tuple(projector.weight.shape) != (projector.out_features, width):
        raise ValueError(
            f"The projector's weight has the shape {tuple(projector.weight.shape)}, but embeddings of {width} numbers "
            f"need ({projector.out_features}, {width}). Under ZeRO-3, gather it first (deepspeed.zero."
            "GatheredParameters)."
        )
    config = {
        "in_features": width,
        "out_features": projector.out_features,
        "bias": projector.bias is not None,
        "activation_function": "torch.nn.modules.linear.Identity",
    }
    weights = {f"linear.{name}": value.float().cpu() for name, value in projector.state_dict().items()}
    return config | _EMBEDDING_TO_EMBEDDING, weights
