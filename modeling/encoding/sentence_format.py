"""The format in which sentence-transformers 6.2 stores modules, for reading and writing.

sentence-transformers is not imported, so students can be trained and exported without it.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from ..architectures.static import StaticConfig, StaticModel
from .pooling import POOLERS, Pooling, pooled_hidden_states
from .sentence_modules import Dense, Normalize, SentenceModules

FORMAT_VERSION = "6.2.0"
CLASSES = {
    "StaticEmbedding": "sentence_transformers.sentence_transformer.modules.static_embedding.StaticEmbedding",
    "Transformer": "sentence_transformers.base.modules.transformer.Transformer",
    "WeightedLayerPooling": (
        "sentence_transformers.sentence_transformer.modules.weighted_layer_pooling.WeightedLayerPooling"
    ),
    "Pooling": "sentence_transformers.sentence_transformer.modules.pooling.Pooling",
    "Dense": "sentence_transformers.base.modules.dense.Dense",
    "LayerNorm": "sentence_transformers.sentence_transformer.modules.layer_norm.LayerNorm",
    "Normalize": "sentence_transformers.base.modules.normalize.Normalize",
}
# Dropout has no effect in eval mode.
_ORDER = re.compile(
    r"(StaticEmbedding|Transformer( WeightedLayerPooling)?( Pooling)?)( Dense| LayerNorm| Normalize| Dropout)*"
)
_POOLER_OF_MODE = {"mean": "mean", "cls": "cls_before_pooler", "max": "max", "lasttoken": "last_token"}
_MODE_OF_POOLER = {pooler: mode for mode, pooler in _POOLER_OF_MODE.items()}
# Before version 6 each mode was a separate flag. The vectors are concatenated in this order.
_MODE_OF_FLAG = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_EMBEDDING = "sentence_embedding"
_EMBEDDING_TO_EMBEDDING = {"module_input_name": _EMBEDDING, "module_output_name": _EMBEDDING}
# Loading arguments that don't change an encoder's outputs.
_HARMLESS = {"output_hidden_states", "dtype", "torch_dtype", "attn_implementation", "model_max_length", "use_cache"}
_LOADING = ("config_kwargs", "model_kwargs", "processor_kwargs", "config_args", "model_args", "tokenizer_args")


@dataclass(frozen=True)
class StoredModule:
    """A stored module: its kind (a key of `CLASSES` if retort supports it), configuration and weights.

    Weights that are parameters in float32 are used by the modules made from them, not copied.
    """

    kind: str
    config: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, Tensor] = field(default_factory=dict)


# --- Reading ----------------------------------------------------------------------------------------------------------


def require_known(source: str, kinds: Sequence[str]) -> None:
    """Refuse modules that retort doesn't support, or in an order that it doesn't support."""
    if not _ORDER.fullmatch(" ".join(kinds)):
        raise ValueError(
            f"{source} has the modules {', '.join(kinds)}. retort supports a Transformer, then optionally "
            "WeightedLayerPooling and Pooling, or a StaticEmbedding; then Dense, LayerNorm and Normalize in any order."
        )


def parse_modules(
    source: str, stored: Sequence[StoredModule], settings: Mapping[str, Any], max_length: int
) -> SentenceModules:
    """Convert stored modules to `SentenceModules`.

    Args:
        source: the model's name in error messages.
        stored: the modules in an order that `require_known` takes.
        settings: contents of `config_sentence_transformers.json`: prompts, `truncate_dim` and the similarity.
        max_length: number of tokens to which texts are truncated.
    """
    by_kind = {module.kind: module for module in stored}
    pooling = by_kind.get("Pooling")
    head = [_parse_head(source, module) for module in stored if module.kind in ("Dense", "LayerNorm", "Normalize")]
    if stored[0].kind == "StaticEmbedding":
        pooled_by = Pooling(("mean",))
    else:
        pooled_by = _parse_pooling(source, stored[0].config, by_kind.get("WeightedLayerPooling"), pooling)
    return SentenceModules(
        pooling=pooled_by,
        max_length=max_length,
        head=nn.Sequential(*head).eval(),
        prompts={name: text or "" for name, text in (settings.get("prompts") or {}).items()},
        default_prompt_name=settings.get("default_prompt_name"),
        include_prompt=pooling is None or pooling.config.get("include_prompt", True),
        truncate_dim=settings.get("truncate_dim"),
        similarity=settings.get("similarity_fn_name") or "cosine",
    )


def _parse_pooling(
    source: str, encoder: Mapping[str, Any], averaging: StoredModule | None, pooling: StoredModule | None
) -> Pooling:
    _require_plain_encoder(source, encoder)
    read = encoder.get("modality_config", {}).get("text", {}).get("method_output_name", "last_hidden_state")
    read = read if isinstance(read, str) else ".".join(map(str, read))
    if pooling is None:
        if read == "pooler_output" and averaging is None:
            return Pooling(("cls",))
        raise ValueError(f"{source} has no Pooling, and its embedding is {read}, not its encoder's pooler_output.")
    if read != "last_hidden_state":
        raise ValueError(f"{source} pools {read}; retort pools last_hidden_state.")
    modes = _pooling_modes(pooling.config)
    if averaging is not None:
        return _averaging_pooler(source, averaging, modes)
    unknown = [mode for mode in modes if mode not in _POOLER_OF_MODE]
    if unknown:
        raise ValueError(f"{source} pools by {unknown[0]!r}; retort has {', '.join(map(repr, _POOLER_OF_MODE))}.")
    return Pooling(tuple(_POOLER_OF_MODE[mode] for mode in modes))


def _require_plain_encoder(source: str, settings: Mapping[str, Any]) -> None:
    """Refuse a `Transformer` module that does more than run its encoder on text."""
    task = settings.get("transformer_task", "feature-extraction")
    if task != "feature-extraction":
        raise ValueError(f"{source} uses its encoder for {task!r}; retort supports only 'feature-extraction'.")
    changed = {
        f"{name}.{key}": value
        for name in _LOADING
        for key, value in (settings.get(name) or {}).items()
        if key not in _HARMLESS
    }
    changed |= {name: value for name in ("processing_kwargs", "query_expansion") if (value := settings.get(name))}
    if changed:
        listed = ", ".join(f"{name}={value!r}" for name, value in changed.items())
        raise ValueError(f"{source} loads its encoder with {listed}, but retort doesn't. Save the model without it.")


def _pooling_modes(config: Mapping[str, Any]) -> tuple[str, ...]:
    modes = config.get("pooling_mode")
    if modes is None:
        modes = [mode for flag, mode in _MODE_OF_FLAG.items() if config.get(flag)] or ["mean"]
    return (modes,) if isinstance(modes, str) else tuple(modes)


def _averaging_pooler(source: str, module: StoredModule, modes: tuple[str, ...]) -> Pooling:
    """The pooler that averages the same hidden states as a `WeightedLayerPooling`."""
    config, weights = module.config, module.weights["layer_weights"].tolist()
    states = tuple(config["layer_start"] + place for place, weight in enumerate(weights) if weight)
    equal = len({weight for weight in weights if weight}) == 1
    depth = config["num_hidden_layers"]
    means = [name for name in POOLERS if name.startswith("mean") and pooled_hidden_states(name, depth) == states]
    if modes == ("mean",) and equal and means:
        return Pooling((means[0],))
    raise ValueError(
        f"{source} pools by {'+'.join(modes)!r} after weighting the hidden states from {config['layer_start']} on by "
        f"{weights}. retort supports 'mean' over the average of the last two, the first and the last, or the first one."
    )


def _parse_head(source: str, module: StoredModule) -> nn.Module:
    config = module.config
    names = (config.get("module_input_name"), config.get("module_output_name"))
    if {name for name in names if name} - {_EMBEDDING}:
        raise ValueError(
            f"{source} has a {module.kind} that maps {names[0]} to {names[1]}; retort supports modules that map "
            f"{_EMBEDDING} to {_EMBEDDING}."
        )
    if module.kind == "Normalize":
        return Normalize()
    weights = {name.partition(".")[2]: tensor for name, tensor in module.weights.items()}
    if module.kind == "LayerNorm":
        return _with_weights(nn.LayerNorm(len(weights["weight"])), weights)
    path, _, name = config.get("activation_function", "torch.nn.modules.activation.Tanh").rpartition(".")
    activation = getattr(nn, name, None) if path.startswith("torch.nn.modules.") else None
    if activation is None or config.get("use_residual"):
        raise ValueError(f"{source} has a Dense that isn't a linear map and an activation of torch.nn: {dict(config)}.")
    linear = nn.Linear(config["in_features"], config["out_features"], bias=config.get("bias", True))
    return Dense(_with_weights(linear, weights), activation())


def _with_weights(module: nn.Module, weights: Mapping[str, Tensor]) -> nn.Module:
    """The module with these weights: with the parameters themselves, but with float32 copies of other tensors."""
    module.load_state_dict({name: tensor.detach().float().cpu() for name, tensor in weights.items()})
    for name, tensor in weights.items():
        if isinstance(tensor, nn.Parameter) and tensor.dtype == torch.float32:
            setattr(module, name, tensor)
    return module


# --- Writing ----------------------------------------------------------------------------------------------------------


def store_modules(modules: SentenceModules, config: PreTrainedConfig) -> list[StoredModule]:
    """Convert modules to the format of sentence-transformers, the `Transformer` or `StaticEmbedding` first."""
    depth, width = config.num_hidden_layers, config.hidden_size
    modules.embedding_size(width)
    if isinstance(config, StaticConfig):
        return [StoredModule("StaticEmbedding"), *map(_store_head, modules.head)]
    poolers = modules.pooling.modes
    states = pooled_hidden_states(modules.pooling, depth)
    stored = [StoredModule("Transformer", _encoder_settings(poolers == ("cls",), averages=states != (depth,)))]
    if states != (depth,):
        weights = torch.zeros(depth + 1 - states[0])
        weights[[state - states[0] for state in states]] = 1
        averaging = {"embedding_dimension": width, "layer_start": states[0], "num_hidden_layers": depth}
        stored.append(StoredModule("WeightedLayerPooling", averaging, {"layer_weights": weights}))
    if poolers != ("cls",):
        modes = [_MODE_OF_POOLER.get(pooler, "mean") for pooler in poolers]
        pooling = {"embedding_dimension": width, "pooling_mode": modes[0] if len(modes) == 1 else modes}
        stored.append(StoredModule("Pooling", pooling | {"include_prompt": modules.include_prompt}))
    return [*stored, *map(_store_head, modules.head)]


def check_static(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, modules: SentenceModules) -> None:
    """Refuse what the files of a static model can't store. Does nothing for other models.

    Raises:
        ValueError: the tokenizer adds special tokens; or the modules are more than a mean, a Normalize and
            `truncate_dim`.
    """
    if not isinstance(model, StaticModel):
        return
    if added := tokenizer.num_special_tokens_to_add():
        raise ValueError(
            f"The tokenizer adds {added} special tokens to a text, but the embedding of a static model is the mean of "
            "the text's tokens alone. Use the tokenizer of static_student(...), or static_tokenizer(tokenizer)."
        )
    if modules.pooling.modes != ("mean",) or not modules.include_prompt:
        how = str(modules.pooling) if modules.include_prompt else "mean, without its prompt"
        raise ValueError(f"A static model pools by mean over all tokens, not by {how}. Set pooler to 'mean'.")
    if other := [type(module).__name__ for module in modules.head if not isinstance(module, Normalize)]:
        raise ValueError(
            f"A static model has a {other[0]} after its mean, which model2vec's format can't store. Apply it to the "
            "token vectors instead."
        )


def _encoder_settings(by_own_pooler: bool, averages: bool) -> dict[str, Any]:
    read, written = ("pooler_output", _EMBEDDING) if by_own_pooler else ("last_hidden_state", "token_embeddings")
    settings = {
        "transformer_task": "feature-extraction",
        "modality_config": {"text": {"method": "forward", "method_output_name": read}},
        "module_output_name": written,
    }
    return settings | ({"config_kwargs": {"output_hidden_states": True}} if averages else {})


def _store_head(module: nn.Module) -> StoredModule:
    if isinstance(module, Normalize):
        return StoredModule("Normalize", _EMBEDDING_TO_EMBEDDING)
    if isinstance(module, nn.LayerNorm):
        weights = {f"norm.{name}": value.float().cpu() for name, value in module.state_dict().items()}
        return StoredModule("LayerNorm", {"dimension": module.normalized_shape[0]}, weights)
    linear, activation = module.linear, type(module.activation)
    config = {
        "in_features": linear.in_features,
        "out_features": linear.out_features,
        "bias": linear.bias is not None,
        "activation_function": f"{activation.__module__}.{activation.__qualname__}",
    }
    weights = {f"linear.{name}": value.float().cpu() for name, value in linear.state_dict().items()}
    return StoredModule("Dense", config | _EMBEDDING_TO_EMBEDDING, weights)


def store_settings(modules: SentenceModules, versions: Mapping[str, str]) -> dict[str, Any]:
    """The contents of `config_sentence_transformers.json`."""
    settings = {
        "__version__": {"sentence_transformers": FORMAT_VERSION, **versions},
        "default_prompt_name": modules.default_prompt_name,
        "model_type": "SentenceTransformer",
        "prompts": {"document": "", "query": ""} | dict(modules.prompts),
        "similarity_fn_name": modules.similarity,
    }
    return settings | ({"truncate_dim": modules.truncate_dim} if modules.truncate_dim else {})
