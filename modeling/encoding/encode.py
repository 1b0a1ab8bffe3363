"""Runs an encoder and returns exactly the requested outputs.

Student, live teacher and evaluation all call `encode`, so a layer index, a pooler or a mask means the same on both
sides of a loss.
"""

import inspect
from contextlib import ExitStack

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..anatomy import classifier, is_row_wise, layers_in_order
from ..modes import evaluating
from .attention import Packing, packed_pass, padded_pass, rounded_up
from .layout import TokenLayout
from .outputs import EncoderOutput, OutputLayer, OutputRequest
from .partial_pass import first_layers, without_output_layer
from .pooling import pool, pooled_hidden_states
from .recording import Recording, require_gradient

# Number of tokens in the test of an output layer.
_PROBE_TOKENS = 8


def encode(
    model: PreTrainedModel,
    inputs: dict[str, Tensor],
    layout: TokenLayout,
    request: OutputRequest,
    *,
    stop_early: bool = False,
) -> EncoderOutput:
    """Run `model` on one batch and return the requested outputs without padding.

    The task head runs only if logits or features are requested, or if it decides what the encoder attends to.

    Args:
        model: any encoder, with or without a head.
        inputs: forward arguments; `[rows, width]` if `layout` is padded, `[1, tokens]` if it is packed.
        layout: the rows and tokens of the batch.
        request: the outputs to return.
        stop_early: skip the layers above the deepest one that is needed, and the output layer of a masked-LM head if
            only its features are (see `partial_pass`). Only for plain modules: ZeRO-3 needs every module to run.

    Raises:
        ValueError: attention maps are requested, but the model returns none, or none with a row and a column for each
            token; the layers are reversible (Reformer), unless only a teacher's logits are requested; only one of
            inputs and layout is packed; the batch is packed, but the model's attention can't be swapped; an output has
            no gradient although its layer is trainable, because of reentrant activation checkpointing; or the encoder's
            layers don't pass one hidden state from each layer to the next.
    """
    if layout.packed != isinstance(inputs.get("attention_mask"), Packing):
        named = ("packed", "no Packing") if layout.packed else ("padded", "a Packing")
        raise ValueError(
            f"The layout is that of a {named[0]} batch, but the attention_mask of the inputs is {named[1]}. Take both "
            "from the same batch of a DistillationCollator."
        )
    if layout.packed:
        inputs = rounded_up(inputs)
    layers = layers_in_order(model)
    depth = len(layers)
    _refuse_reversible(model, layers, request)
    kwargs = {"output_attentions": True} if request.attentions else {}
    read: list[Tensor] = []
    with ExitStack() as stack:
        running = stack.enter_context(first_layers(model, request.layers_needed(depth))) if stop_early else layers
        if request.reads_features:
            reader = _features_reader(model, stack, leave_out=stop_early and not request.logits)
            stack.enter_context(reader.register_forward_pre_hook(lambda module, args: read.append(args[0])))
        shape = inputs["input_ids"].shape
        recording = stack.enter_context(Recording(model, running, request.projections, shape))
        stack.enter_context((packed_pass if layout.packed else padded_pass)(model))
        whole = request.runs_head or _head_directs_attention(model)
        result = (model if whole else model.base_model)(**inputs, **kwargs)
    wanted = sorted(request.hidden_states)
    output = EncoderOutput(hidden_states={i: layout.flatten(recording.hidden_state(i)) for i in wanted})
    if request.logits:
        output.logits = result.logits if result.logits.dim() == 2 else layout.flatten(result.logits)
    if request.reads_features:
        if not read:
            raise ValueError(
                f"The head of {type(model).__name__} doesn't call its last linear map, so it has no features."
            )
        output.features = read[0] if read[0].dim() == 2 else layout.flatten(read[0])
    if request.output_layer:
        output.output_layer = _output_layer(model)
    for index in request.projections:
        flat = {role: layout.flatten(made) for role, made in recording.projections(index).items()}
        output.queries[index], output.keys[index], output.values[index] = flat["query"], flat["key"], flat["value"]
    if request.attentions:
        maps = (recording.result if len(running) == depth else result).attentions
        output.attentions = _attention_maps(model, maps, layers, request.attentions, shape)
    if request.pooler:
        pooled = {i: layout.flatten(recording.hidden_state(i)) for i in pooled_hidden_states(request.pooler, depth)}
        output.embedding = pool(request.pooler, layout, pooled, model.base_model)
    return output


def _refuse_reversible(model: PreTrainedModel, layers: list[nn.Module], request: OutputRequest) -> None:
    """Refuse Reformer, except for a teacher's logits. Its states are twice as wide as `config.hidden_size`, and its
    backward pass needs train mode, with dropout."""
    if not layers or not hasattr(layers[0], "backward_pass"):
        return
    trained = torch.is_grad_enabled() and any(p.requires_grad for p in model.parameters())
    if trained or request.hidden_states or request.pooler:
        raise ValueError(
            f"{type(model).__name__} has reversible layers, which pass on two states. It can't be a student, and "
            "can only be a teacher of logits (logits_weight)."
        )


def _head_directs_attention(model: PreTrainedModel) -> bool:
    """Whether a head gives its encoder more than its own inputs: Longformer's sequence classifiers let the first token
    attend to all. Without its head, such an encoder has other hidden states than in the model."""
    takes = inspect.signature(model.base_model.forward).parameters
    return is_row_wise(model) and "global_attention_mask" in takes


def _features_reader(model: PreTrainedModel, stack: ExitStack, *, leave_out: bool) -> nn.Module:
    """The module that takes the features as input: the head's last linear map, or its replacement on the `stack`."""
    vocabulary = _vocabulary_layer(model)
    if vocabulary is None:
        return classifier(model)[1]
    return stack.enter_context(without_output_layer(model)) if leave_out else vocabulary


def _vocabulary_layer(model: PreTrainedModel) -> nn.Linear | None:
    """The output layer of a masked-LM head; None for other models."""
    layer = model.get_output_embeddings()
    if layer is not None and len(layer.weight) != model.config.vocab_size:
        raise ValueError(
            f"The output layer of {type(model).__name__} has {len(layer.weight)} outputs, but its vocabulary has "
            f"{model.config.vocab_size} tokens. Load a DeBERTa-v2 with legacy=True."
        )
    return layer


@torch.no_grad()
def has_plain_output_layer(model: PreTrainedModel) -> bool:
    """Whether a masked-LM head returns the logits of its output layer unchanged.

    Some heads add another bias (ESM), concatenate two matrices (MobileBERT), or scale the logits. A loss that applies
    the output layer itself would compute other logits. The test runs the model on a few tokens.
    """
    layer, read = model.get_output_embeddings(), []
    if layer is None or len(layer.weight) != model.config.vocab_size:
        return False
    ids = torch.arange(min(_PROBE_TOKENS, model.config.vocab_size), device=model.device)[None]
    with evaluating(model), layer.register_forward_pre_hook(lambda module, args: read.append(args[0])):
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0]
    if not read:
        return False
    found = OutputLayer(layer.weight, layer.bias).columns(read[0][0]).T
    exact = logits.dtype in (torch.float32, torch.float64)
    difference = (found - logits.to(found.dtype)).abs().max()
    return bool(difference <= (1e-5 if exact else 0.05) * logits.abs().max())


def _output_layer(model: PreTrainedModel) -> OutputLayer:
    """The output layer as views that are created in this pass, so that DDP finds the parameters behind them."""
    layer = _vocabulary_layer(model)
    device = layer.weight.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else layer.weight.dtype
    bias = None if layer.bias is None else layer.bias.view_as(layer.bias)
    return OutputLayer(layer.weight.view_as(layer.weight).to(dtype), bias)


def _without_maps(model: PreTrainedModel) -> str:
    """The error about a model that returns no attention maps."""
    name, kind = type(model).__name__, model.config._attn_implementation
    if kind == "eager":
        return (
            f"{name} returns no attention maps, although it runs attn_implementation='eager': its architecture has "
            "none. Distil hidden states (hidden_weight) or relations (relation_weight) instead, which need no maps."
        )
    return (
        f"{name} runs attn_implementation={kind!r}, which returns no attention maps. Call "
        "model.set_attn_implementation('eager') on teacher and student, or distil relations (--relation_weight), which "
        "need no maps."
    )


def _attention_maps(
    model: PreTrainedModel,
    maps: tuple[Tensor, ...],
    layers: list[nn.Module],
    wanted: frozenset[int],
    shape: torch.Size,
) -> dict[int, Tensor]:
    # With sdpa and flash attention transformers warns once and returns an empty tuple: a loss over it would be zero.
    if not maps or any(a is None for a in maps):
        raise ValueError(_without_maps(model))
    # Longformer's maps have a column for each place in a window. In a batch as wide as that they have the same shape.
    in_windows = getattr(model.config, "attention_window", None) is not None
    for index in wanted:
        size = list(maps[index].shape)
        if in_windows or len(size) != 4 or size[::2] + size[3:] != [*shape, shape[1]]:
            raise ValueError(
                f"{type(model).__name__} returns attention maps {size} for a batch {list(shape)}, which don't "
                "have a row and a column for each token. Distil hidden states (hidden_weight) or embeddings instead."
            )
        require_gradient(maps[index], layers[index], f"the attention map of layer {index}")
    return {i: maps[i] for i in sorted(wanted)}
