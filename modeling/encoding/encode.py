"""Running an encoder for exactly the outputs that are asked for.

Student, live teacher and evaluation all come through `encode`, so an index, a pooler or a mask means the same thing on
both sides of a loss.
"""

from contextlib import ExitStack

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from ..anatomy import attention_projections, backbone, classifier, encoder_layers
from .attention import Packing, packed_pass, rounded_up
from .layout import TokenLayout
from .outputs import EncoderOutput, OutputLayer, OutputRequest
from .pooling import pool, pooled_hidden_states


class _DeepEnough(Exception):
    """Raised inside a forward pass once the deepest layer that anyone asked for has run."""


def encode(
    model: PreTrainedModel,
    inputs: dict[str, Tensor],
    layout: TokenLayout,
    request: OutputRequest,
    *,
    stop_early: bool = False,
) -> EncoderOutput:
    """Run `model` on one batch and return what `request` names, flat.

    The task head runs only if logits or features are asked for.

    Args:
        model: any encoder, with or without a head.
        inputs: forward arguments; `[rows, width]` or `[1, tokens]`, as `layout` says.
        layout: where the tokens lie.
        request: what to return.
        stop_early: leave the forward pass after the deepest layer needed. Only for plain modules: an engine that
            wraps the modules (ZeRO-3) counts on every pass running to its end.

    Raises:
        ValueError: attention maps are asked of an implementation that makes none, or inputs are packed that the layout
            calls padded, or the reverse, or the batch is packed and the model's attention can't be swapped.
    """
    encoder = backbone(model)
    layers = encoder_layers(model)
    if layout.packed != isinstance(inputs.get("attention_mask"), Packing):
        named = ("packed", "no Packing") if layout.packed else ("padded", "a Packing")
        raise ValueError(
            f"The layout is that of a {named[0]} batch, but the inputs hold {named[1]} as their attention_mask. Pass "
            "both from the same batch of a DistillationCollator."
        )
    if layout.packed:
        inputs = rounded_up(inputs)
    depth = model.config.num_hidden_layers
    needed = request.layers_needed(depth)
    output = EncoderOutput()
    states: list[Tensor] = []
    hooks = _hidden_state_hooks(layers, states, stop_after=needed if stop_early and needed < depth else None)
    for index in request.projections:
        hooks += _projection_hooks(layers[index % len(layers)], index, states, layout, output)
    kwargs = {"output_attentions": True} if request.attentions else {}
    # The top hidden state is what the backbone returns, after the final norm of pre-norm encoders.
    top: list = []
    hooks.append(encoder.register_forward_hook(lambda module, args, result: top.append(result)))
    read: list[Tensor] = []
    if request.features or request.output_layer:
        hooks.append(_features_hook(model, read, stop=stop_early and not request.logits))
    with ExitStack() as stack:
        for hook in hooks:
            stack.callback(hook.remove)
        if layout.packed:
            stack.enter_context(packed_pass(model))
        try:
            result = (model if request.runs_head else encoder)(**inputs, **kwargs)
        except _DeepEnough:
            result = None
    if top:
        states[depth:] = [top[0][0]]
    if request.logits:
        output.logits = result.logits if result.logits.dim() == 2 else layout.flatten(result.logits)
    if read:
        output.features = read[0] if read[0].dim() == 2 else layout.flatten(read[0])
    if request.output_layer:
        output.output_layer = _output_layer(model)
    output.hidden_states = {i: layout.flatten(states[i]) for i in sorted(request.hidden_states)}
    if request.attentions:
        output.attentions = _attention_maps(model, top[0], request.attentions)
    if request.pooler:
        pooled = {i: layout.flatten(states[i]) for i in pooled_hidden_states(request.pooler, depth)}
        output.embedding = pool(request.pooler, layout, pooled, getattr(encoder, "pooler", None))
    return output


def _hidden_state_hooks(layers: nn.ModuleList, states: list[Tensor], stop_after: int | None) -> list:
    """Record the first layer's input, then every layer's output in the order of the calls (layers may recur)."""

    def before(module, args, kwargs):
        if not states:
            states.append(args[0] if args else kwargs["hidden_states"])
        if stop_after == 0:
            raise _DeepEnough

    def after(module, args, result):
        states.append(result[0] if isinstance(result, tuple) else result)
        if stop_after is not None and len(states) > stop_after:
            raise _DeepEnough

    hooks = [layers[0].register_forward_pre_hook(before, with_kwargs=True)]
    return hooks + [layer.register_forward_hook(after) for layer in layers]


def _features_hook(model: PreTrainedModel, read: list[Tensor], *, stop: bool) -> RemovableHandle:
    """Record what the head's last linear map reads; stop before an output layer over a whole vocabulary."""
    vocabulary = _vocabulary_layer(model)

    def before(module, args):
        read.append(args[0])
        if stop and vocabulary is not None:
            raise _DeepEnough

    return (classifier(model)[1] if vocabulary is None else vocabulary).register_forward_pre_hook(before)


def _vocabulary_layer(model: PreTrainedModel) -> nn.Linear | None:
    """The output layer of a masked-LM head; None of other models."""
    layer = model.get_output_embeddings()
    if layer is not None and len(layer.weight) != model.config.vocab_size:
        raise ValueError(
            f"{type(model).__name__} gives as its output layer one of {len(layer.weight)} outputs, but its vocabulary "
            f"has {model.config.vocab_size} tokens. Of DeBERTa-v2, load it with legacy=True."
        )
    return layer


def _output_layer(model: PreTrainedModel) -> OutputLayer:
    """The output layer, as tensors that were made in this pass: so DDP finds the parameters that they come from."""
    layer = _vocabulary_layer(model)
    device = layer.weight.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else layer.weight.dtype
    bias = None if layer.bias is None else layer.bias.view_as(layer.bias)
    return OutputLayer(layer.weight.view_as(layer.weight).to(dtype), bias)


def _projection_hooks(
    layer: nn.Module, index: int, states: list[Tensor], layout: TokenLayout, output: EncoderOutput
) -> list:
    """Record the queries, keys and values of pass `index`: as many `states` have been recorded, and one before."""
    homes = {"query": output.queries, "key": output.keys, "value": output.values}

    def record(role: str):
        def hook(module, args, result):
            if index + 1 != len(states) or index in homes["query" if role == "fused" else role]:
                return  # another pass; or DeBERTa's relative positions, through the same maps after the tokens
            flat = layout.flatten(result)
            parts = dict(zip(homes, flat.chunk(3, dim=-1), strict=True)) if role == "fused" else {role: flat}
            for name, part in parts.items():
                homes[name][index] = part

        return hook

    return [module.register_forward_hook(record(role)) for role, module in attention_projections(layer).items()]


def _attention_maps(model: PreTrainedModel, result, wanted: frozenset[int]) -> dict[int, Tensor]:
    maps = result.attentions
    # Under sdpa and flash attention transformers returns an empty tuple and one warning: a loss over it would be zero.
    if not maps or any(a is None for a in maps):
        raise ValueError(
            f"{type(model).__name__} runs attn_implementation={model.config._attn_implementation!r}, which makes no "
            "attention maps. Call model.set_attn_implementation('eager') on teacher and student, or distil relations "
            "(--relation_weight), which need no maps."
        )
    return {i: maps[i] for i in sorted(wanted)}
