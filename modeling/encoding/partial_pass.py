"""Forward passes that skip unused modules: the upper layers, or the output layer over a vocabulary.

For the time of a pass, a module is replaced by a cheaper one. So the forward pass ends normally: no exception is raised
through the model's code, and compiled and checkpointed layers are called as usual.
"""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from ..anatomy import layers_in_order, layers_name
from ..modes import replaced


@contextmanager
def first_layers(model: PreTrainedModel, count: int) -> Iterator[list[nn.Module]]:
    """Make an encoder run only its first `count` layers when it is called without its head.

    With a count of 0, one layer still runs unless the layers are annotated to return a tensor. A DeBERTa with a
    convolution runs at least two layers, since the convolution comes after the first one.

    Yields:
        The layers in the order in which the encoder calls them. With a count of 0 this is a replacement that returns
        its input. All layers are yielded, and run, if the list can't be shortened: if the number of layers determines
        which layers are called (an ALBERT with several groups), and for code outside transformers and retort.
    """
    layers, groups = layers_in_order(model), getattr(model.config, "num_hidden_groups", None)
    # The tests go through transformers' own families one by one.
    is_known = type(model.base_model).__module__.partition(".")[0] in ("transformers", "retort")
    if count >= len(layers) or not is_known or groups not in (None, 1):
        yield layers
    elif groups == 1:
        with replaced(model.config, num_hidden_layers=max(count, 1)):
            yield layers[: max(count, 1)]
    else:
        owner_name, _, name = layers_name(model).rpartition(".")
        owner = model.get_submodule(owner_name)
        least = 1 if getattr(owner, "conv", None) is None else 2
        no_layer = count == 0 and inspect.signature(layers[0].forward).return_annotation is Tensor
        shorter = [_PassesOn(layers[0])] if no_layer else layers[: max(count, least)]
        # The list already repeats each layer as often as it is called.
        once = {"num_recurrent_steps": 1} if hasattr(owner, "num_recurrent_steps") else {}
        with replaced(owner, **{name: nn.ModuleList(shorter)}, **once):
            yield shorter


class _PassesOn(nn.Module):
    """Replaces a layer: returns its input, and has the attributes of the layer, which encoders may read."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self._replaced = (layer,)  # in a tuple, so that the layer is not registered as a submodule

    def forward(self, hidden_states: Tensor, *args, **kwargs) -> Tensor:
        return hidden_states

    def __getattr__(self, name: str) -> Any:
        return getattr(self._replaced[0], name)


@contextmanager
def without_output_layer(model: PreTrainedModel) -> Iterator[nn.Identity]:
    """Make a masked-LM head skip its output layer.

    Yields:
        The identity module that replaces the output layer.
    """
    layer, stand_in = model.get_output_embeddings(), nn.Identity()
    heads = [child for child in model.children() if child is not model.base_model]
    outside = [model, *(part for head in heads for part in head.modules())]
    found = ((part, name) for part in outside for name, child in part.named_children() if child is layer)
    owner, name = next(found, (None, ""))
    if owner is None:
        raise ValueError(f"The output layer of {type(model).__name__} was not found outside its encoder.")
    with replaced(owner, **{name: stand_in}):
        yield stand_in
