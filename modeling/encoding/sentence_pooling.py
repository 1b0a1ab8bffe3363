"""How a sentence-transformers model makes embeddings, read from its files."""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig

from .pooling import POOLERS, pooled_hidden_states

_ORDER = re.compile(r"Transformer( WeightedLayerPooling)?( Pooling)?( Dense)*( Normalize)?")
_POOLER_OF_MODE = {"mean": "mean", "cls": "cls_before_pooler"}
# Before version 6 every mode was a flag of its own.
_MODE_OF_FLAG = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}


@dataclass(frozen=True)
class SentencePooling:
    """From an encoder's output to an embedding.

    Attributes:
        pooler: one of `modeling.pooling.POOLERS`.
        normalize: whether embeddings are scaled to unit length, last of all.
        max_length: tokens to which texts are cut, special tokens included.
        dense: layers between pooler and normalisation, `[rows, hidden] -> [rows, dim]`, in eval mode and float32; None
            if there are none. LaBSE has one, and so have the multilingual distiluse models.
    """

    pooler: str
    normalize: bool
    max_length: int
    dense: nn.Sequential | None = None


def read_sentence_pooling(name_or_path: str | os.PathLike) -> SentencePooling | None:
    """Read how a sentence-transformers model of any version makes embeddings.

    Args:
        name_or_path: a folder, or a model id on the Hub.

    Returns:
        None if it has no `modules.json`: a plain encoder, for which somebody has to choose a pooler.

    Raises:
        ValueError: it does something to texts or embeddings that retort would leave out; the message says what.
    """
    source = os.fspath(name_or_path)
    listed = _json(source, "modules.json")
    if listed is None:
        return None
    kinds = [entry["type"].rsplit(".", 1)[-1] for entry in listed]
    if not _ORDER.fullmatch(" ".join(kinds)) or listed[0]["path"]:
        raise ValueError(
            f"{source} is made of {', '.join(kinds)}, its first module in {listed[0]['path'] or 'the root'!r}. retort "
            "reads a Transformer in the root, then at most WeightedLayerPooling, Pooling, Dense and Normalize, in this "
            "order."
        )
    paths = {kind: [e["path"] for e, k in zip(listed, kinds, strict=True) if k == kind] for kind in kinds}
    config = AutoConfig.from_pretrained(source)
    names = ("sentence_bert_config.json", f"sentence_{config.model_type}_config.json")
    settings = next((found for name in names if (found := _json(source, name))), {})
    _require_plain_texts(source, settings)
    dense = [layer for path in paths.get("Dense", ()) for layer in _dense_layers(source, path)]
    return SentencePooling(
        pooler=_pooler(source, settings, paths),
        normalize="Normalize" in paths,
        max_length=_max_length(source, settings, config),
        dense=nn.Sequential(*dense).requires_grad_(False).eval() if dense else None,
    )


def _file(source: str, path: str) -> Path | None:
    """A model's file, from its folder or from the Hub; None if it has none of that name."""
    if os.path.isdir(source):
        return local if (local := Path(source, path)).is_file() else None
    try:
        return Path(hf_hub_download(source, path))
    except EntryNotFoundError:
        return None


def _json(source: str, path: str) -> Any:
    file = _file(source, path)
    return None if file is None else json.loads(file.read_text(encoding="utf-8"))


def _weights(source: str, folder: str) -> dict[str, Tensor]:
    if file := _file(source, f"{folder}/model.safetensors"):
        return load_file(file)
    if file := _file(source, f"{folder}/pytorch_model.bin"):
        return torch.load(file, map_location="cpu", weights_only=True)
    raise ValueError(f"{source}/{folder} has neither model.safetensors nor pytorch_model.bin.")


def _require_plain_texts(source: str, settings: Mapping[str, Any]) -> None:
    """Refuse what a model does to texts outside its tokenizer, and to embeddings outside its modules."""
    config = _json(source, "config_sentence_transformers.json") or {}
    prompt = (config.get("prompts") or {}).get(config.get("default_prompt_name"))
    if prompt:
        raise ValueError(
            f"{source} puts {prompt!r} before every text, and retort gives a teacher the texts as they are. Put it "
            "into the texts, and use a copy of the model whose default_prompt_name is null."
        )
    if config.get("truncate_dim"):
        raise ValueError(
            f"{source} cuts its embeddings to {config['truncate_dim']} numbers (truncate_dim), and retort does not. "
            "Use a copy of the model without truncate_dim."
        )
    if settings.get("do_lower_case"):
        normalizer = AutoTokenizer.from_pretrained(source).backend_tokenizer.normalizer
        if normalizer is None or normalizer.normalize_str("A") != "a":
            raise ValueError(
                f"{source} lowercases texts outside its tokenizer (do_lower_case), and retort does not. Lowercase "
                "the texts, and use a copy of the model whose do_lower_case is false."
            )


def _max_length(source: str, settings: Mapping[str, Any], config: PreTrainedConfig) -> int:
    if length := settings.get("max_seq_length"):
        return length
    tokenizer = _json(source, "tokenizer_config.json") or {}
    limits = tokenizer.get("model_max_length"), getattr(config, "max_position_embeddings", None)
    if not any(limits):
        raise ValueError(f"{source} says nowhere how long its texts may be (max_seq_length).")
    return min(filter(None, limits))


def _pooler(source: str, settings: Mapping[str, Any], paths: Mapping[str, list[str]]) -> str:
    read = settings.get("modality_config", {}).get("text", {}).get("method_output_name", "last_hidden_state")
    read = read if isinstance(read, str) else ".".join(map(str, read))
    if "Pooling" not in paths:
        if read == "pooler_output" and "WeightedLayerPooling" not in paths:
            return "cls"
        raise ValueError(f"{source} has no Pooling, and its embedding isn't its encoder's pooler_output but {read}.")
    if read != "last_hidden_state":
        raise ValueError(f"{source} pools {read}; retort pools last_hidden_state.")
    mode = _pooling_mode(_json(source, f"{paths['Pooling'][0]}/config.json"))
    if "WeightedLayerPooling" in paths:
        return _averaging_pooler(source, paths["WeightedLayerPooling"][0], mode)
    if mode not in _POOLER_OF_MODE:
        raise ValueError(f"{source} pools by {mode!r}; retort has {' and '.join(map(repr, _POOLER_OF_MODE))}.")
    return _POOLER_OF_MODE[mode]


def _pooling_mode(config: Mapping[str, Any]) -> str:
    """The mode, or all of them joined by a plus sign where vectors are concatenated."""
    modes = config.get("pooling_mode")
    if modes is None:
        active = [flag for flag, value in config.items() if flag.startswith("pooling_mode_") and value]
        modes = [_MODE_OF_FLAG.get(flag, flag) for flag in active] or ["mean"]
    return modes if isinstance(modes, str) else "+".join(modes)


def _averaging_pooler(source: str, path: str, mode: str) -> str:
    """The pooler that averages the hidden states to which a `WeightedLayerPooling` gives weight."""
    config = _json(source, f"{path}/config.json")
    weights = _weights(source, path)["layer_weights"].tolist()
    states = tuple(config["layer_start"] + place for place, weight in enumerate(weights) if weight)
    equal = len({weight for weight in weights if weight}) == 1
    depth = config["num_hidden_layers"]
    means = [name for name in POOLERS if name.startswith("mean") and pooled_hidden_states(name, depth) == states]
    if mode == "mean" and equal and means:
        return means[0]
    raise ValueError(
        f"{source} pools by {mode!r} after weighing hidden states from {config['layer_start']} on by {weights}. retort "
        "pools by 'mean' after averaging the last two, the first and the last, or by the first alone."
    )


def _dense_layers(source: str, path: str) -> list[nn.Module]:
    config = _json(source, f"{path}/config.json")
    module, _, name = config.get("activation_function", "torch.nn.modules.activation.Tanh").rpartition(".")
    activation = getattr(nn, name, None) if module.startswith("torch.nn.modules.") else None
    if activation is None or config.get("use_residual") or "token_embeddings" in config.values():
        raise ValueError(f"{source}/{path} isn't a linear map of embeddings and an activation of torch.nn: {config}.")
    linear = nn.Linear(config["in_features"], config["out_features"], bias=config.get("bias", True))
    weights = _weights(source, path)
    linear.load_state_dict({name.removeprefix("linear."): tensor.float() for name, tensor in weights.items()})
    return [linear, activation()]
