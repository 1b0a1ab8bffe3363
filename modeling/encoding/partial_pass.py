"""Passes that leave out what nobody reads: the upper layers, or the output layer over a whole vocabulary.

A part is left out by putting something shorter in its place for as long as a pass takes. So a pass ends as every pass
does: nothing is thrown through the model's code, and compiled and checkpointed layers see plain calls.
"""

import inspect
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from ..anatomy import backbone, layers_in_order, layers_place


@contextmanager
def first_layers(model: PreTrainedModel, count: int) -> Iterator[list[nn.Module]]:
    """Have an encoder run its first `count` layers only, when it is called without its head.

    For a count of 0 one layer runs all the same where layers return more than a tensor, or don't say what they return.
    Of a DeBERTa with a convolution at least two run, since it stands between them.

    Yields:
        The layers in the order in which the encoder calls them. All of them, where a shorter list would not do: where
        the number of layers decides which ones are called (an ALBERT with several groups), and in code from outside
        transformers, which may count its layers in any way. For a count of 0, a stand-in.
    """
    layers, groups = layers_in_order(model), getattr(model.config, "num_hidden_groups", None)
    # transformers' own families are gone through one by one in the tests.
    is_known = type(backbone(model)).__module__.partition(".")[0] in ("transformers", "retort")
    if count >= len(layers) or not is_known or groups not in (None, 1):
        yield layers
    elif groups == 1:
        with _replaced(model.config, "num_hidden_layers", max(count, 1)):
            yield layers[: max(count, 1)]
    else:
        owner, name = layers_place(model)
        least = 1 if getattr(owner, "conv", None) is None else 2
        no_layer = count == 0 and inspect.signature(layers[0].forward).return_annotation is Tensor
        shorter = [_PassesOn(layers[0])] if no_layer else layers[: max(count, least)]
        with ExitStack() as stack:
            stack.enter_context(_replaced(owner, name, nn.ModuleList(shorter)))
            if hasattr(owner, "num_recurrent_steps"):
                # The list holds the layers as often as they are to be called.
                stack.enter_context(_replaced(owner, "num_recurrent_steps", 1))
            yield shorter


class _PassesOn(nn.Module):
    """Stands for a layer: gives back the hidden state that it gets, and has what encoders read off the layer."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self._stands_for = (layer,)  # in a tuple, lest its parameters become this one's

    def forward(self, hidden_states: Tensor, *args, **kwargs) -> Tensor:
        return hidden_states

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stands_for[0], name)


@contextmanager
def without_output_layer(model: PreTrainedModel) -> Iterator[nn.Identity]:
    """Have a masked-LM head end before its output layer.

    Yields:
        What stands in the layer's place, and passes on what the layer would read.
    """
    layer, stand_in = model.get_output_embeddings(), nn.Identity()
    outside = [model, *(part for child in model.children() if child is not backbone(model) for part in child.modules())]
    found = ((part, name) for part in outside for name, child in part.named_children() if child is layer)
    owner, name = next(found, (None, ""))
    if owner is None:
        raise ValueError(f"The output layer of {type(model).__name__} was not found outside of its encoder.")
    with _replaced(owner, name, stand_in):
        yield stand_in


@contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Give an attribute another value for a while."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)
