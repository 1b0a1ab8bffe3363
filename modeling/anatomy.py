"""Finds the parts of an encoder by their structure, whatever the model family."""

from collections.abc import Iterator

from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

# The names under which encoders keep the linear maps of self-attention. A fused map holds query, key and value in
# one matrix, in that order.
PROJECTION_NAMES = {
    "query": ("query", "q_lin", "q", "query_proj", "q_proj"),
    "key": ("key", "k_lin", "k", "key_proj", "k_proj"),
    "value": ("value", "v_lin", "v", "value_proj", "v_proj"),
}
FUSED_PROJECTION_NAMES = ("Wqkv", "qkv", "qkv_proj")
# DeBERTa also projects its relative positions, unless they share the projections of the content.
POSITION_PROJECTION_NAMES = ("pos_key_proj", "pos_query_proj")


def encoder_layers(model: PreTrainedModel) -> nn.ModuleList:
    """The transformer layers of an encoder, first to last. A RecurrentBert's layers are listed once each. A static
    model has an empty list.

    Raises:
        ValueError: the encoder has no list with one module for each layer, or several such lists, as XLM, which
            keeps attention and feed-forward parts in separate lists.
    """
    depth = number_of_layers(model.config)
    lists = list(_outermost_lists(model.base_model, depth))
    if len(lists) == 1:
        return lists[0][1]
    found = f"holds no list of {depth} equal layers (config.num_hidden_layers={depth})"
    if lists:
        found = f"spreads its {depth} layers over {len(lists)} lists ({', '.join(name for name, _ in lists)})"
    raise ValueError(f"{type(model).__name__} {found}. retort distils encoders whose layers are in one nn.ModuleList.")


def layers_in_order(model: PreTrainedModel) -> list[nn.Module]:
    """The `config.num_hidden_layers` layers of an encoder, in the order in which a forward pass calls them.

    A layer that is called several times is listed several times. This happens in a RecurrentBert, and in an ALBERT,
    whose groups share weights.

    Raises:
        ValueError: as `encoder_layers`; or an ALBERT has several layers in a group. transformers returns a hidden state
            for each layer of such a model, but `num_hidden_layers` counts the groups.
    """
    config = model.config
    groups = getattr(config, "num_hidden_groups", None)
    if groups is None:
        layers = list(encoder_layers(model))
        return layers * (config.num_hidden_layers // max(len(layers), 1))
    if config.inner_group_num > 1:
        raise ValueError(
            f"{type(model).__name__} has inner_group_num={config.inner_group_num} layers in a group. retort takes "
            "ALBERTs with one."
        )
    members = next(module for _, module in _outermost_lists(model.base_model, groups))
    depth = config.num_hidden_layers
    return [members[int(i / (depth / groups))] for i in range(depth)]  # as in AlbertTransformer.forward


def number_of_layers(config: PreTrainedConfig) -> int:
    """Number of layers with their own weights. A RecurrentBert runs each of them several times."""
    depth = getattr(config, "num_unique_layers", getattr(config, "num_hidden_layers", None))
    if depth is None:
        raise ValueError(
            f"{type(config).__name__} has no num_hidden_layers. retort distils text encoders. If the model has several "
            "parts, pass the text encoder alone."
        )
    return depth


def _outermost_lists(module: nn.Module, depth: int, prefix: str = "") -> Iterator[tuple[str, nn.ModuleList]]:
    """Dotted names and modules of the outermost lists that hold `depth` modules, all of one class."""
    for name, child in module.named_children():
        if isinstance(child, nn.ModuleList) and len(child) == depth and len({type(member) for member in child}) <= 1:
            yield f"{prefix}{name}", child
        else:
            yield from _outermost_lists(child, depth, f"{prefix}{name}.")


def layers_name(model: PreTrainedModel) -> str:
    """Dotted name of the list of layers: layer 3's weights are called `<layers_name>.3.…` in `model.state_dict()`."""
    layers = encoder_layers(model)
    return next(name for name, module in model.named_modules() if module is layers)


def parts_between_layers(model: PreTrainedModel) -> list[nn.Module]:
    """Modules that are registered after the layers of an encoder, but run before its last layer.

    Only DeBERTa has such modules: the norm of its relative positions, which all layers read, and the convolution after
    its first layer. In other families the modules after the layers (poolers, a final norm) also run after them.
    """
    holder = model.get_submodule(layers_name(model).rpartition(".")[0])
    if not hasattr(holder, "get_rel_embedding"):
        return []
    return [part for name in ("LayerNorm", "conv") if (part := getattr(holder, name, None)) is not None]


def split_layer_name(name: str, layers_name: str) -> tuple[int | None, str]:
    """Split a weight's name: `(3, "attention.self.query.weight")`, or `(None, name)` outside the layers."""
    if not name.startswith(f"{layers_name}."):
        return None, name
    position, _, part = name.removeprefix(f"{layers_name}.").partition(".")
    return int(position), part


def attention_projections(layer: nn.Module) -> dict[str, nn.Linear]:
    """The linear maps that compute queries, keys and values in one encoder layer.

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
            f"{type(layer).__name__} has no query, key and value maps under a known name. Its linear maps are "
            f"{', '.join(linears) or 'none'}."
        )
    return found


def position_projections(layer: nn.Module) -> list[nn.Linear]:
    """The linear maps that compute queries and keys of relative positions in one encoder layer; often none."""
    return [module for name, module in layer.named_modules() if name.rsplit(".", 1)[-1] in POSITION_PROJECTION_NAMES]


def attention_output(layer: nn.Module) -> nn.Linear:
    """The linear map that mixes the heads of one encoder layer: `[hidden, heads * head_size]`.

    Encoders register their modules in the order in which they are used, so it is the first linear map after those of
    queries, keys and values. Its name differs between families: `output.dense`, `out_lin`, `o`, `Wo`...
    """
    projections = [*attention_projections(layer).values(), *position_projections(layer)]
    linears = [module for module in layer.modules() if isinstance(module, nn.Linear)]
    last = max(linears.index(projection) for projection in projections)
    if last + 1 == len(linears):
        raise ValueError(f"{type(layer).__name__} has no linear map after its queries, keys and values.")
    return linears[last + 1]


def classifier(model: PreTrainedModel) -> tuple[str, nn.Linear]:
    """Dotted name and module of the linear map that computes a classification head's logits.

    It is the last linear map outside the encoder that has one output for each class.
    """
    inside, classes = set(model.base_model.modules()), model.config.num_labels
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
    """Parameters of a module, shared ones counted once, and sharded ones whole."""
    # Under ZeRO-3, a parameter is an empty tensor that knows its number of elements.
    return sum(getattr(p, "ds_numel", p.numel()) for p in module.parameters())
