"""Builds students with narrower layers by keeping the most important channels, heads and units of the teacher.

Importance is measured by the size of weights. The kept parts stay in the teacher's order.

- Channels of the hidden states: those with the largest gains in the norms. A norm's output has the variance `gain^2`
  in every channel, so these are the channels that vary most. All layers keep the same channels, since residual
  connections add their outputs. (all-MiniLM-L6-v2 cut from 384 to 192 channels, untrained: its sentence similarities
  correlate with the teacher's at 0.6; with the first, evenly spaced or random channels at 0.36 to 0.47.)
- Heads: those with the largest weights in query, key, value and output maps. All layers keep the same heads, since
  they may share a bias for each head (MPNet).
- Units of a feed-forward layer: those with the largest weights into and out of them, layer by layer.
- Channels inside a head: evenly spaced. Rotary positions rotate channels i and i + size / 2 by an angle that decreases
  with i. Even spacing keeps these pairs together, and keeps their angles if one size divides the other.
"""

from dataclasses import replace

import torch
from torch import Tensor

from ..anatomy import split_layer_name
from .axes import Axis, AxisLabel, Labels, Widths, label_axes, label_units
from .draft import Draft
from .embeddings import narrow_embeddings


def plan_widths(
    teacher: Widths,
    hidden_size: int | None = None,
    intermediate_size: int | None = None,
    num_attention_heads: int | None = None,
) -> Widths:
    """Choose the student's sizes. A size of None is the teacher's.

    If `num_attention_heads` is None, heads keep the teacher's head size if it divides `hidden_size`, else the teacher's
    number of heads if it does.
    """
    sizes = {"hidden_size": hidden_size, "intermediate_size": intermediate_size}
    for name, size in sizes.items():
        limit = getattr(teacher, name)
        sizes[name] = limit if size is None else size
        if not 1 <= sizes[name] <= limit:
            raise ValueError(f"{name}={size}, but for this teacher it must be 1 to {limit}.")
    heads = num_attention_heads
    if heads is None:
        heads = _default_heads(teacher, sizes["hidden_size"])
    elif not _heads_fit(teacher, sizes["hidden_size"], heads):
        fitting = [n for n in range(1, sizes["hidden_size"] + 1) if _heads_fit(teacher, sizes["hidden_size"], n)]
        raise ValueError(
            f"num_attention_heads={heads} doesn't fit hidden_size={sizes['hidden_size']}: it must divide hidden_size, "
            f"and each head is cut from one of the teacher's {teacher.num_attention_heads} heads of size "
            f"{teacher.head_size}. Possible: {', '.join(map(str, fitting)) or 'none'}."
        )
    return Widths(**sizes, num_attention_heads=heads)


def _heads_fit(teacher: Widths, hidden_size: int, heads: int) -> bool:
    """Whether `heads` divides `hidden_size`, and as many heads of that size can be cut from the teacher's heads."""
    if heads < 1 or hidden_size % heads:
        return False
    return heads <= teacher.num_attention_heads * (teacher.head_size // (hidden_size // heads))


def _default_heads(teacher: Widths, hidden_size: int) -> int:
    if hidden_size % teacher.head_size == 0:
        return hidden_size // teacher.head_size
    if hidden_size % teacher.num_attention_heads == 0:
        return teacher.num_attention_heads
    below = hidden_size // teacher.head_size * teacher.head_size
    raise ValueError(
        f"hidden_size={hidden_size} can be divided neither into heads of the teacher's size ({teacher.head_size}) nor "
        f"into as many heads ({teacher.num_attention_heads}). Set num_attention_heads, or use a multiple of either, "
        f"such as {' or '.join(str(size) for size in (below, below + teacher.head_size) if size)}."
    )


def with_widths(
    draft: Draft,
    hidden_size: int | None,
    intermediate_size: int | None,
    num_attention_heads: int | None,
    embedding_init: str,
) -> Draft:
    """The same student with narrower layers (see `plan_widths` for the possible sizes).

    Factorised word embeddings keep their width.
    """
    if (hidden_size, intermediate_size, num_attention_heads) == (None, None, None):
        return draft
    teacher = Widths.of(draft.config)
    student = plan_widths(teacher, hidden_size, intermediate_size, num_attention_heads)
    only_units = replace(student, intermediate_size=teacher.intermediate_size) == teacher
    labels = (label_units if only_units else label_axes)(draft.architecture, draft.config)
    layers = draft.layers_name
    kept = _choose(draft.tensors, labels, teacher, student, layers)
    tensors = {
        name: _cut(tensor, labels[name], kept[split_layer_name(name, layers)[0]])
        for name, tensor in draft.tensors.items()
    }
    words = draft.words_name
    if student.hidden_size < teacher.hidden_size and labels[words][1] is not None:
        tensors[words] = narrow_embeddings(draft.tensors[words], kept[None][Axis.HIDDEN], embedding_init)
    narrower = draft.changed(tensors, **student.settings(draft.config))
    narrower.check()
    return narrower


def _choose(
    tensors: dict[str, Tensor], labels: Labels, teacher: Widths, student: Widths, layers_name: str
) -> dict[int | None, dict[Axis, Tensor]]:
    """The parts of the teacher to keep: for each layer (None: outside the layers), ascending indices of

    - `HIDDEN`: channels, `[student hidden]`, the same in all layers;
    - `HEADS`: the teacher's head that each head is cut from, `[student heads]`; repeated if a head is divided;
    - `ATTENTION`: the rows of query, key and value maps for these heads, `[student hidden]`;
    - `INTERMEDIATE`: units of the layer's feed-forward part, `[student intermediate]`.
    """
    # The gains of norms over hidden states are the only vectors of that length that are not named bias.
    norms = {
        name: tensor
        for name, tensor in tensors.items()
        if labels[name] == (AxisLabel(Axis.HIDDEN),) and name.endswith("weight")
    }
    matrices = {name: tensor for name, tensor in tensors.items() if tensor.dim() > 1}
    layers: dict[int | None, dict[str, Tensor]] = {None: {}}
    for name, tensor in matrices.items():
        layers.setdefault(split_layer_name(name, layers_name)[0], {})[name] = tensor

    if student.num_attention_heads > teacher.num_attention_heads:
        heads = torch.arange(student.num_attention_heads) * teacher.num_attention_heads // student.num_attention_heads
    else:
        weight = _weight_along(Axis.ATTENTION, teacher.num_attention_heads, matrices, labels)
        heads = _heaviest(weight, student.num_attention_heads)
    everywhere = {
        Axis.HIDDEN: _heaviest(_weight_along(Axis.HIDDEN, teacher.hidden_size, norms, labels), student.hidden_size),
        Axis.HEADS: heads,
        Axis.ATTENTION: _rows_of_heads(heads, teacher, student),
    }
    kept = {}
    for layer, members in layers.items():
        weight = _weight_along(Axis.INTERMEDIATE, teacher.intermediate_size, members, labels)
        kept[layer] = everywhere | {Axis.INTERMEDIATE: _heaviest(weight, student.intermediate_size)}
    return kept


def _rows_of_heads(heads: Tensor, teacher: Widths, student: Widths) -> Tensor:
    spaced = torch.arange(student.head_size) * teacher.head_size // student.head_size
    # Heads that are cut from the same head of the teacher start 0, 1, ... channels further on.
    turns = torch.arange(len(heads)) - torch.searchsorted(heads, heads)
    return (heads[:, None] * teacher.head_size + turns[:, None] + spaced).flatten()


def _cut(tensor: Tensor, labels: tuple[AxisLabel | None, ...], kept: dict[Axis, Tensor]) -> Tensor:
    """Keep these indices along every labelled axis, in each of its parts."""
    for axis, label in enumerate(labels):
        if label is not None:
            part = tensor.shape[axis] // label.parts
            index = torch.cat([kept[label.axis] + i * part for i in range(label.parts)])
            tensor = tensor.index_select(axis, index.to(tensor.device))
    return tensor


def _weight_along(axis: Axis, count: int, tensors: dict[str, Tensor], labels: Labels) -> Tensor:
    """`[count]`, the importance of each member of an axis (channel, head, unit).

    It is the member's share of a tensor's sum of squares, summed over all `tensors` that have the axis.
    """
    total = torch.zeros(count, dtype=torch.float64)
    for name, tensor in tensors.items():
        for dimension, label in enumerate(labels[name]):
            if label is not None and label.axis is axis:
                squares = tensor.detach().cpu().double().square().movedim(dimension, 0)
                squares = squares.reshape(label.parts, count, -1).sum((0, 2))
                total += squares / squares.sum().clamp_min(torch.finfo(torch.float64).tiny)
    return total


def _heaviest(weight: Tensor, count: int) -> Tensor:
    """Indices of the `count` largest weights, ascending. Ties go to the lower index."""
    return torch.argsort(weight, descending=True, stable=True)[:count].sort().values
