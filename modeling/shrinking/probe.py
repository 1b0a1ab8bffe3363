"""Whether a student computes what its teacher computes with those layers: both are run, and their outputs compared.

A student of chosen layers has a right answer. It is the teacher's own, once the teacher runs these layers in the
places of its first ones and skips the others. Every layer is called as the teacher calls it, with its own mask and
its own positions, so the comparison knows no family and trusts no configuration.
"""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..anatomy import backbone, encoder_layers
from ..modes import evaluating, gathered

# Enough for sliding windows of tiny models, little enough for models of 24 layers on a CPU.
PROBE_TOKENS = 16
# Relative to the largest output: in float32 on the CPU on both sides; where a teacher is of another number format or on
# another device, and rounds differently.
TOLERANCE, LOOSE_TOLERANCE = 1e-5, 5e-2


class _NotLayerByLayer(Exception):
    """The encoder doesn't hand one hidden state from layer to layer."""


def refuse_other_than_encoders(teacher: PreTrainedModel) -> None:
    """See that a teacher is an encoder that reads token ids.

    Raises:
        ValueError: it has a decoder, is causal, has no entries of a text encoder in its configuration, or can't be run
            on token ids alone.
    """
    name = type(teacher).__name__
    missing = [key for key in ("num_hidden_layers", "hidden_size", "vocab_size") if not hasattr(teacher.config, key)]
    if missing:
        raise ValueError(
            f"{name} has no {', '.join(missing)} in its configuration, but shrink takes text encoders, which have. Of "
            "a model of several parts, pass the text encoder alone."
        )
    if getattr(teacher.config, "is_encoder_decoder", False) and hasattr(backbone(teacher), "decoder"):
        raise ValueError(
            f"{name} has an encoder and a decoder, but shrink makes students of encoders. Pass the encoder alone, as "
            "T5EncoderModel loads it."
        )
    sees_later, sees_earlier = _direction(backbone(teacher), probe_tokens(teacher))
    # Both signs together: attention that is saturated may look one way, and a flag may not be heeded.
    flagged = any(getattr(module, "is_causal", False) is True for module in teacher.modules())
    if not sees_later and (flagged or not sees_earlier):
        what = "causal: no token sees a later one" if sees_earlier else "no encoder: no token sees another"
        raise ValueError(
            f"{name} is {what}. shrink makes students of encoders, whose tokens see each other; a causal model can be "
            "a teacher."
        )


def _direction(encoder: PreTrainedModel, tokens: Tensor) -> tuple[bool, bool]:
    """Whether tokens see those after them, and those before them: their states change when these do."""
    with_other_last = torch.cat([tokens[:, :-1], tokens[:, :1]], 1)
    with_other_first = torch.cat([tokens[:, -1:], tokens[:, 1:]], 1)
    plain, last, first = (first_output(encoder, ids)[0] for ids in (tokens, with_other_last, with_other_first))
    if plain.shape[:1] != tokens.shape[1:]:
        return True, True  # states of another kind than tokens'
    return not torch.equal(plain[:-1], last[:-1]), not torch.equal(plain[1:], first[1:])


def check_outputs(student: PreTrainedModel, teacher: PreTrainedModel, groups: list[tuple[int, ...]] | None) -> None:
    """See that a student gives its teacher's outputs.

    Args:
        student: with the teacher's widths and vocabulary.
        teacher: the model that it was made of.
        groups: the teacher's layers that each of the student's was made of (see `depth.layer_groups`), None where the
            student has them all. A layer made of several is run with the student's weights in the first one's place.

    Raises:
        ValueError: the outputs differ, or the teacher doesn't run its layers one after the other.
    """
    tokens = probe_tokens(teacher)
    whole = groups is None or groups == [(i,) for i in range(len(encoder_layers(teacher)))]
    name = type(teacher).__name__
    with gathered(student):
        try:
            expected = first_output(teacher, tokens) if whole else _output_of_layers(teacher, tokens, groups, student)
        except _NotLayerByLayer as error:
            raise ValueError(
                f"Can't choose among the layers of {name}: it {error}, so that the others can't be skipped."
            ) from error
        found = first_output(student, tokens)
    first = next(teacher.parameters())
    exact = first.dtype in (torch.float32, torch.float64) and first.device.type == "cpu"
    largest = max(float(expected.abs().max()), torch.finfo(torch.float32).tiny)
    difference = float((found - expected).abs().max()) if found.shape == expected.shape else float("inf")
    if not difference <= (TOLERANCE if exact else LOOSE_TOLERANCE) * largest:
        layers = "all layers" if whole else f"layers {', '.join('+'.join(map(str, group)) for group in groups)}"
        raise ValueError(
            f"A student of {layers} of {name} gives other outputs than {name} does with these layers alone (they "
            f"differ by {difference:.2g}, the largest is {largest:.2g}). A part of it depends on where a layer "
            "stands or on all of them; choose other layers, the first ones as they are (layers=range(k)) for instance."
        )


def probe_tokens(teacher: PreTrainedModel) -> Tensor:
    """`[1, tokens]`: ids of different words, the padding's not among them."""
    config = teacher.config
    longest = getattr(config, "max_position_embeddings", None) or PROBE_TOKENS
    # Positions may begin behind the padding's id.
    count = max(2, min(PROBE_TOKENS, longest - 2))
    padding = config.pad_token_id
    words = [i for i in range(min(config.vocab_size, count + 8)) if i != padding] or [0]
    words = words[-count:]
    return torch.tensor([[words[i % len(words)] for i in range(count)]])


def first_output(model: PreTrainedModel, tokens: Tensor) -> Tensor:
    """What the model returns first for these ids (hidden states or logits), in float32 on the CPU.

    Under ZeRO-3 its parameters must be gathered.

    Raises:
        ValueError: it can't be run on them.
    """
    tokens = tokens.to(model.device)
    # Without a cache: a layer that is run a second time would attend to its first run.
    optional = {"attention_mask": torch.ones_like(tokens), "use_cache": False}
    known = inspect.signature(backbone(model).forward).parameters
    inputs = {"input_ids": tokens} | {name: value for name, value in optional.items() if name in known}
    try:
        with torch.no_grad(), evaluating(model):
            return model(**inputs)[0].float().cpu()
    except _NotLayerByLayer:
        raise
    except Exception as error:
        raise ValueError(
            f"{type(model).__name__} can't be run on token ids alone, which shrink does to compare a student with its "
            f"teacher: {error}"
        ) from error


def _output_of_layers(
    teacher: PreTrainedModel, tokens: Tensor, groups: list[tuple[int, ...]], student: PreTrainedModel
) -> Tensor:
    """What the teacher returns when its layers are those of `groups`, in that order."""
    layers = encoder_layers(teacher)
    calls: dict[int, list] = defaultdict(list)
    with _hooks() as stack:
        for index, layer in enumerate(layers):
            stack.append(layer.register_forward_pre_hook(_recorder(calls[index]), with_kwargs=True))
        first_output(teacher, tokens)
    if len({len(calls[index]) for index in range(len(layers))}) != 1 or not calls[0]:
        raise _NotLayerByLayer("doesn't run each of them equally often")
    replay = _Replay(layers, calls, groups, encoder_layers(student))
    with _hooks() as stack:
        for index, layer in enumerate(layers):
            stack.append(layer.register_forward_hook(replay.hook(index), with_kwargs=True))
        return first_output(teacher, tokens)


@contextmanager
def _hooks() -> Iterator[list]:
    """A list of hooks that are removed at the end."""
    hooks: list = []
    with ExitStack() as stack:
        stack.callback(lambda: [hook.remove() for hook in hooks])
        yield hooks


def _recorder(calls: list):
    def record(module, args, kwargs):
        calls.append((args, kwargs))

    return record


class _Replay:
    """Runs chosen layers in the places of the first ones, and skips the places behind.

    Args:
        layers: the teacher's.
        calls: layer -> the arguments of each of its calls.
        groups: the teacher's layers for each place.
        weights: the student's layers, whose weights those of several layers are.
    """

    def __init__(self, layers: nn.ModuleList, calls: dict[int, list], groups: list, weights: nn.ModuleList) -> None:
        self.layers, self.calls, self.groups, self.weights = layers, calls, groups, weights
        self.seen = [0] * len(layers)
        self.replaying = False

    def hook(self, place: int):
        """A forward hook for the teacher's layer at `place`."""

        def replace(module, args, kwargs, output):
            if self.replaying:
                return None
            hidden = args[0] if args else kwargs.get("hidden_states")
            turn, self.seen[place] = self.seen[place], self.seen[place] + 1
            if place < len(self.groups):
                hidden = _state(self._run(self.groups[place], place, turn, hidden))
            _state(output)
            return (hidden, *output[1:]) if type(output) is tuple else hidden

        return replace

    def _run(self, group: tuple[int, ...], place: int, turn: int, hidden: Tensor) -> Any:
        layer = self.layers[group[0]]
        args, kwargs = self.calls[group[0]][turn]
        args, kwargs = ((hidden, *args[1:]), kwargs) if args else ((), kwargs | {"hidden_states": hidden})
        own = {} if len(group) == 1 else self._averaged(layer, place)
        self.replaying = True
        try:
            return torch.func.functional_call(layer, own, args, kwargs)
        finally:
            self.replaying = False

    def _averaged(self, layer: nn.Module, place: int) -> dict[str, Tensor]:
        """The student's weights of one layer, as the teacher's would be."""
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
        raise _NotLayerByLayer(f"hands a {type(state).__name__} from layer to layer and not one hidden state")
    return state
