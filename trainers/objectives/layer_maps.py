"""Which of the teacher's hidden states each of the student's is compared with."""

from __future__ import annotations

from itertools import pairwise

LAYER_MAPS = ("top", "uniform", "last", "average", "mix")


def layer_pairs(layer_map: str, student_depth: int, teacher_depth: int) -> list[tuple[int, tuple[int, ...]]]:
    """Pair hidden states of a student with those of its teacher.

    Args:
        layer_map: `"top"`, the student's states with as many of the teacher's topmost (XtremeDistil); `"uniform"`,
            evenly spread from the embedding output to the top; `"last"`, the top ones only; `"average"`, every
            student layer with the mean of its share of the teacher's layers; `"mix"`, all states with all; or explicit
            pairs `"student:teacher,..."`, counted as transformers counts hidden states (0 is the embedding layer's
            output), e.g. `"1:2,2:4,3:6"`.
        student_depth: number of the student's layers.
        teacher_depth: number of the teacher's layers.

    Returns:
        `(student index, teacher indices to average)` in the order of the student's layers.

    Raises:
        ValueError: a student deeper than its teacher under `"top"` or `"average"`, an unknown map, or an index that
            does not exist.
    """
    if ":" in layer_map:
        return _explicit_pairs(layer_map, student_depth, teacher_depth)
    if layer_map not in LAYER_MAPS:
        raise ValueError(
            f"Unknown layer map {layer_map!r}. Choose one of {', '.join(LAYER_MAPS)}, or pairs such as '1:2,2:4'."
        )
    if layer_map == "last":
        return [(student_depth, (teacher_depth,))]
    if layer_map == "mix":
        return [(s, tuple(range(teacher_depth + 1))) for s in range(student_depth + 1)]
    if layer_map == "uniform":
        return [(s, (round(s * teacher_depth / student_depth),)) for s in range(student_depth + 1)]
    if student_depth > teacher_depth:
        raise ValueError(
            f"layer_map={layer_map!r} needs a student no deeper than its teacher, but it has {student_depth} layers "
            f"and the teacher {teacher_depth}. Use 'uniform' or 'last'."
        )
    if layer_map == "top":
        return [(s, (s + teacher_depth - student_depth,)) for s in range(student_depth + 1)]
    bounds = [s * teacher_depth // student_depth for s in range(student_depth + 1)]
    groups = [tuple(range(low + 1, high + 1)) for low, high in pairwise(bounds)]
    return [(0, (0,))] + [(s + 1, group) for s, group in enumerate(groups)]


def _explicit_pairs(text: str, student_depth: int, teacher_depth: int) -> list[tuple[int, tuple[int, ...]]]:
    try:
        pairs = [tuple(int(side) for side in pair.split(":")) for pair in text.split(",")]
        pairs = [(student, (teacher,)) for student, teacher in pairs]
    except ValueError:
        raise ValueError(
            f"Can't read the layer map {text!r}: write pairs such as '1:2,2:4' (student:teacher)."
        ) from None
    for student, (teacher,) in pairs:
        if not (0 <= student <= student_depth and 0 <= teacher <= teacher_depth):
            raise ValueError(
                f"The layer map {text!r} pairs {student}:{teacher}, but hidden states run from 0 to {student_depth} "
                f"in the student and from 0 to {teacher_depth} in the teacher."
            )
    if len({student for student, _ in pairs}) < len(pairs):
        raise ValueError(f"The layer map {text!r} names a student state twice.")
    return sorted(pairs)
