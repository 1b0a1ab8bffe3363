"""Finding the parts of an encoder by what they are, not by the name of its family."""

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
# DeBERTa projects its relative positions as well, where they don't share the maps of the content.
POSITION_PROJECTION_NAMES = ("pos_key_proj", "pos_query_proj")


def backbone(model: PreTrainedModel) -> PreTrainedModel:
    """The encoder below a task head; the model itself if it has none."""
    return model.base_model


def is_causal(model: PreTrainedModel) -> bool:
    """Whether tokens attend only to those before them, as in decoders."""
    return any(getattr(module, "is_causal", False) for module in backbone(model).modules())


def encoder_layers(model: PreTrainedModel) -> nn.ModuleList:
    """The transformer layers of an encoder, first to last; those of a RecurrentBert once each.

    Raises:
        ValueError: no list of modules is as long as `config.num_hidden_layers`.
    """
    depth = getattr(model.config, "num_unique_layers", model.config.num_hidden_layers)
    for module in backbone(model).modules():
        if isinstance(module, nn.ModuleList) and len(module) == depth and len({type(m) for m in module}) == 1:
            return module
    raise ValueError(
        f"{type(model).__name__} holds no list of {depth} equal layers (config.num_hidden_layers={depth}). "
        "retort distils encoders whose layers lie in one nn.ModuleList."
    )


def layers_name(model: PreTrainedModel) -> str:
    """Dotted name of the list of layers: layer 3's weights are called `<layers_name>.3.…` in `model.state_dict()`."""
    layers = encoder_layers(model)
    return next(name for name, module in model.named_modules() if module is layers)


def split_layer_name(name: str, layers_name: str) -> tuple[int | None, str]:
    """Take a weight's name apart: `(3, "attention.self.query.weight")`, or `(None, name)` outside the layers."""
    if not name.startswith(f"{layers_name}."):
        return None, name
    position, _, part = name.removeprefix(f"{layers_name}.").partition(".")
    return int(position), part


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


def position_projections(layer: nn.Module) -> list[nn.Linear]:
    """The linear maps that make queries and keys of relative positions in one encoder layer; often none."""
    return [module for name, module in layer.named_modules() if name.rsplit(".", 1)[-1] in POSITION_PROJECTION_NAMES]


def attention_output(layer: nn.Module) -> nn.Linear:
    """The linear map that mixes the heads of one encoder layer: `[hidden, heads * head_size]`.

    It is the first linear map after those that make queries, keys and values: encoders register their modules in the
    order in which they are used, and call this one `output.dense`, `out_lin`, `o`, `Wo`...

    Raises:
        ValueError: the layer's projections are not known by name, or nothing follows them.
    """
    projections = [*attention_projections(layer).values(), *position_projections(layer)]
    linears = [module for module in layer.modules() if isinstance(module, nn.Linear)]
    last = max(linears.index(projection) for projection in projections)
    if last + 1 == len(linears):
        raise ValueError(f"{type(layer).__name__} has no linear map after its queries, keys and values.")
    return linears[last + 1]


def classifier(model: PreTrainedModel) -> tuple[str, nn.Linear]:
    """The linear map of a classification head that gives the logits, and its dotted name.

    It is the last one outside the encoder with an output for each class.

    Raises:
        ValueError: the model has no such head.
    """
    inside, classes = set(backbone(model).modules()), model.config.num_labels
    found = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module.out_features == classes and module not in inside
    ]
    if not found:
        raise ValueError(
            f"{type(model).__name__} has no linear map to {classes} classes after its encoder. Load it with "
            "AutoModelForTokenClassification or AutoModelForSequenceClassification."
        )
    return found[-1]


def is_row_wise(model: PreTrainedModel) -> bool:
    """Whether the head gives one output per row rather than per token."""
    return type(model).__name__.endswith("ForSequenceClassification")


def parameter_count(module: nn.Module) -> int:
    """Parameters of a module, shared ones counted once."""
    return sum(p.numel() for p in module.parameters())
