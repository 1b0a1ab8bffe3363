"""Checks that a student computes the same outputs as its teacher does with the student's layers only.

For the reference, the teacher runs the chosen layers in place of its first ones and skips the others. Every layer is
called with the arguments that the teacher passes to it, such as its mask and positions. So the check doesn't depend on
the model family or on the configuration.
"""

from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..anatomy import encoder_layers, number_of_layers
from ..encoding import refuse_block_sparse
from ..encoding.attention import StoppedProbe, attends_to, first_output, probe_tokens
from ..modes import gathered, replaced

# Relative to the largest output. The second is for teachers in another dtype or on another device than float32 on CPU.
TOLERANCE, LOOSE_TOLERANCE = 1e-5, 5e-2


class _NotLayerByLayer(StoppedProbe):
    """The encoder doesn't pass one hidden state from layer to layer."""


def require_encoder(teacher: PreTrainedModel) -> None:
    """Check that a teacher is an encoder that reads token ids."""
    name = type(teacher).__name__
    missing = [key for key in ("num_hidden_layers", "hidden_size", "vocab_size") if not hasattr(teacher.config, key)]
    if missing:
        raise ValueError(
            f"{name} has no {', '.join(missing)} in its configuration, but shrink takes text encoders. If the model "
            "has several parts, pass the text encoder alone."
        )
    if not number_of_layers(teacher.config):
        raise ValueError(
            f"{name} has token vectors and no layers, so no student can be made from it. In a recipe, set "
            "student.model to an encoder with layers, which this model then teaches, or to this model, to train a "
            "copy of it."
        )
    if getattr(teacher.config, "is_encoder_decoder", False) and hasattr(teacher.base_model, "decoder"):
        raise ValueError(
            f"{name} has an encoder and a decoder, but shrink takes encoders. Pass the encoder alone, as loaded by "
            "T5EncoderModel."
        )
    refuse_block_sparse(teacher, "a teacher of shrink")
    sees_later, sees_earlier = attends_to(teacher.base_model, probe_tokens(teacher))
    if not sees_later:
        what = (
            "causal: no token attends to a later one" if sees_earlier else "no encoder: no token attends to another one"
        )
        raise ValueError(
            f"{name} is {what}. shrink takes encoders, whose tokens attend to each other. A causal model can only be a "
            "teacher."
        )


def check_outputs(student: PreTrainedModel, teacher: PreTrainedModel, groups: list[tuple[int, ...]] | None) -> None:
    """Check that a student computes the same outputs as its teacher with the same layers.

    The student must have the teacher's widths and vocabulary.

    Args:
        groups: the teacher's layers for each of the student's layers (see `depth.layer_groups`); None for all layers.
            For a group of several layers, the teacher runs its first one with the student's weights.
    """
    tokens = probe_tokens(teacher)
    whole = groups is None or groups == _first(len(encoder_layers(teacher)))
    name = type(teacher).__name__
    with gathered(student):
        try:
            expected = first_output(teacher, tokens) if whole else _output_of_layers(teacher, tokens, groups, student)
        except _NotLayerByLayer as error:
            raise ValueError(
                f"Can't select layers of {name}: it {error}, so the other layers can't be skipped."
            ) from error
        found = first_output(student, tokens)
    if differ := _difference(found, expected, teacher):
        layers = "all layers" if whole else f"layers {', '.join('+'.join(map(str, group)) for group in groups)}"
        raise ValueError(
            f"A student with {layers} of {name} has other outputs than {name} with these layers alone ({differ}). "
            f"{_reason(student, teacher, groups)}"
        )


def check_respelled(student: PreTrainedModel, teacher: PreTrainedModel, pairs: list[tuple[int, int]]) -> None:
    """Check that a student with its own vocabulary computes the same hidden states for tokens that both models have.

    The student must have the teacher's layers and widths. Under ZeRO-3 the teacher's parameters must be gathered.

    Args:
        pairs: a token of the student's, and the token of the teacher's that spells it. No special tokens.
    """
    pairs = pairs[: probe_tokens(teacher).shape[1]]
    if len(pairs) < 2:
        return
    ours, theirs = torch.tensor(pairs).T
    with gathered(student):
        found = first_output(student.base_model, ours[None])
        expected = first_output(teacher.base_model, theirs[None])
    if differ := _difference(found, expected, teacher):
        raise ValueError(
            f"{type(student).__name__} with the student's tokenizer has other hidden states than with the teacher's "
            f"for the same tokens ({differ}). A part of the model depends on the ids of tokens. Leave tokenizer out."
        )


def _difference(found: Tensor, expected: Tensor, teacher: PreTrainedModel) -> str:
    """How far a student's outputs are from those of its teacher; empty if they are the same but for rounding."""
    first = next(teacher.parameters())
    exact = first.dtype in (torch.float32, torch.float64) and first.device.type == "cpu"
    largest = max(float(expected.abs().max()), torch.finfo(torch.float32).tiny)
    difference = float((found - expected).abs().max()) if found.shape == expected.shape else float("inf")
    if difference <= (TOLERANCE if exact else LOOSE_TOLERANCE) * largest:
        return ""
    return f"they differ by {difference:.2g}, the largest output is {largest:.2g}"


def _reason(student: PreTrainedModel, teacher: PreTrainedModel, groups: list[tuple[int, ...]] | None) -> str:
    """Why the outputs of a student differ from its teacher's, as far as its layers show, and the way out."""
    ours, theirs = encoder_layers(student), encoder_layers(teacher)
    # Both at the same place, so what differs depends on the number of layers.
    for here, there in zip(ours[0].modules(), theirs[0].modules(), strict=False):
        for name, value in vars(here).items():
            other = vars(there).get(name)
            if isinstance(value, float) and isinstance(other, float) and value != other:
                return (
                    f"Its layers compute with {name}={other:.3g} in a model of {len(theirs)} layers, but with "
                    f"{value:.3g} in one of {len(ours)}. Keep all layers."
                )
    if groups in (None, _first(len(theirs))):
        return "Save and load the teacher, to see whether its configuration matches its weights."
    reason = "A part of the model depends on the position of a layer or on all layers."
    way_out = "Keep all layers." if groups == _first(len(ours)) else "Try the first ones (layers=range(k)), or all."
    return f"{reason} {way_out}"


def _first(count: int) -> list[tuple[int, ...]]:
    """The groups of the first layers, each one alone."""
    return [(i,) for i in range(count)]


def _output_of_layers(
    teacher: PreTrainedModel, tokens: Tensor, groups: list[tuple[int, ...]], student: PreTrainedModel
) -> Tensor:
    """The teacher's output when it runs only the layers of `groups`, in that order."""
    layers = encoder_layers(teacher)
    calls: list[list] = [[] for _ in layers]
    with ExitStack() as stack:
        for layer, own in zip(layers, calls, strict=True):
            stack.enter_context(layer.register_forward_pre_hook(partial(_record, own), with_kwargs=True))
        first_output(teacher, tokens)
    if len(set(map(len, calls))) != 1 or not calls[0]:
        raise _NotLayerByLayer("doesn't run all layers equally often")
    replay = _Replay(layers, calls, groups, encoder_layers(student))
    with ExitStack() as stack:
        for index, layer in enumerate(layers):
            stack.enter_context(layer.register_forward_hook(partial(replay.replace, index), with_kwargs=True))
        return first_output(teacher, tokens)


def _record(calls: list, module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
    calls.append((args, kwargs))


class _Replay:
    """Runs the chosen layers in place of the first ones, and skips all others.

    Args:
        layers: the teacher's layers.
        calls: the arguments of each call of each layer.
        groups: the teacher's layers for each of the student's layers.
        weights: the student's layers, which hold the averaged weights of groups of several layers.
    """

    def __init__(self, layers: nn.ModuleList, calls: list[list], groups: list, weights: nn.ModuleList) -> None:
        self.layers, self.calls, self.groups, self.weights = layers, calls, groups, weights
        self.seen = [0] * len(layers)
        self.replaying = False

    def replace(self, place: int, module: nn.Module, args: tuple, kwargs: dict[str, Any], output: Any) -> Any:
        """Replace the output of the teacher's layer at `place`; a forward hook."""
        if self.replaying:
            return None
        hidden = args[0] if args else kwargs.get("hidden_states")
        turn, self.seen[place] = self.seen[place], self.seen[place] + 1
        if place < len(self.groups):
            hidden = _state(self._run(self.groups[place], place, turn, hidden))
        _state(output)
        return (hidden, *output[1:]) if type(output) is tuple else hidden

    def _run(self, group: tuple[int, ...], place: int, turn: int, hidden: Tensor) -> Any:
        layer = self.layers[group[0]]
        args, kwargs = self.calls[group[0]][turn]
        args, kwargs = ((hidden, *args[1:]), kwargs) if args else ((), kwargs | {"hidden_states": hidden})
        own = {} if len(group) == 1 else self._averaged(layer, place)
        with replaced(self, replaying=True):
            return torch.func.functional_call(layer, own, args, kwargs)

    def _averaged(self, layer: nn.Module, place: int) -> dict[str, Tensor]:
        """The student's weights of one layer, in the teacher's dtype and on its device."""
        theirs = dict(layer.named_parameters())
        return {
            name: parameter.detach().to(theirs[name].device, theirs[name].dtype)
            for name, parameter in self.weights[place].named_parameters()
            if name in theirs
        }


def _state(output: Any) -> Tensor:
    """The hidden state that a layer returns."""
    state = output[0] if type(output) is tuple else output
    if not isinstance(state, Tensor) or state.dim() != 3:
        raise _NotLayerByLayer(f"passes a {type(state).__name__} from layer to layer instead of one hidden state")
    return state
