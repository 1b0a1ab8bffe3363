"""Finding the parts of an encoder by what they are, not by the name of its family."""

from __future__ import annotations

from torch import nn
from transformers import PreTrainedModel

# The names under which encoders keep the linear maps of self-attention. A fused map holds query, key and value in
# one matrix, in that order.
PROJECTION_NAMES = {
    "query": ("query", "q_lin", "q", "query_proj", "q_proj"),
    "key": ("key", "k_lin", "k", "key_proj", "k_proj"),
    "value": ("value", "v_lin", "v", "value_proj", "v_proj"),
}
FUSED_PROJECTION_NAMES = ("Wqkv", "qkv", "qkv_proj")


def backbone(model: PreTrainedModel) -> PreTrainedModel:
    """The encoder below a task head; the model itself if it has none."""
    return model.base_model


def encoder_layers(model: PreTrainedModel) -> nn.ModuleList:
    """The transformer layers of an encoder, first to last.

    Raises:
        ValueError: no list of modules is as long as `config.num_hidden_layers`.
    """
    depth = model.config.num_hidden_layers
    for module in backbone(model).modules():
        if isinstance(module, nn.ModuleList) and len(module) == depth and len({type(m) for m in module}) == 1:
            return module
    raise ValueError(
        f"{type(model).__name__} holds no list of {depth} equal layers (config.num_hidden_layers={depth}). "
        "retort distils encoders whose layers lie in one nn.ModuleList."
    )


def attention_projections(layer: nn.Module) -> dict[str, nn.Linear]:
    """The linear maps that make queries, keys and values in one encoder layer.

    Returns:
        `{"query": ..., "key": ..., "value": ...}`, or `{"fused": ...}` for one matrix
        `[3 * heads * head_size, hidden]`.
    """
    linears = {
        name.rsplit(".", 1)[-1]: module for name, module in layer.named_modules() if isinstance(module, nn.Linear)
    }
    for name in FUSED_PROJECTION_NAMES:
        if name in linears:
            return {"fused": linears[name]}
    found = {role: linears[name] for role, names in PROJECTION_NAMES.items() for name in names if name in linears}
    if set(found) != set(PROJECTION_NAMES):
        raise ValueError(
            f"{type(layer).__name__} has no query, key and value maps by a known name; its linear maps are "
            f"{', '.join(linears) or 'none'}."
        )
    return found


def parameter_count(module: nn.Module) -> int:
    """Parameters of a module, shared ones counted once."""
    return sum(p.numel() for p in module.parameters())
