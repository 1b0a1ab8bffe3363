from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retort.trainers.objectives import layer_pairs


@pytest.mark.parametrize(
    ("layer_map", "expected"),
    [
        ("top", [(0, (3,)), (1, (4,)), (2, (5,)), (3, (6,))]),
        ("uniform", [(0, (0,)), (1, (2,)), (2, (4,)), (3, (6,))]),
        ("last", [(3, (6,))]),
        ("average", [(0, (0,)), (1, (1, 2)), (2, (3, 4)), (3, (5, 6))]),
        ("mix", [(student, (0, 1, 2, 3, 4, 5, 6)) for student in range(4)]),
        ("3:5,1:2", [(1, (2,)), (3, (5,))]),
    ],
)
def test_three_layers_learn_from_six(layer_map, expected):
    assert layer_pairs(layer_map, 3, 6) == expected


@given(st.integers(1, 12), st.integers(1, 24))
def test_average_gives_every_teacher_layer_to_one_student_layer(student, teacher):
    if student > teacher:
        return
    groups = [group for _, group in layer_pairs("average", student, teacher)[1:]]
    assert [layer for group in groups for layer in group] == list(range(1, teacher + 1))


@given(st.integers(1, 12), st.integers(1, 24))
def test_uniform_starts_at_the_embeddings_and_ends_at_the_top(student, teacher):
    pairs = layer_pairs("uniform", student, teacher)
    assert (pairs[0], pairs[-1]) == ((0, (0,)), (student, (teacher,)))


def test_uniform_spreads_twelve_layers_evenly_over_six():
    learnt = [group[0] for _, group in layer_pairs("uniform", 12, 6)]
    assert learnt == [0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6]


@given(st.integers(1, 24), st.integers(1, 24))
def test_uniform_has_no_two_gaps_that_differ_by_more_than_one(student, teacher):
    learnt = [group[0] for _, group in layer_pairs("uniform", student, teacher)]
    gaps = {after - before for before, after in pairwise(learnt)}
    assert max(gaps) - min(gaps) <= 1


@pytest.mark.parametrize(
    ("layer_map", "message"),
    [
        ("middle", "Unknown layer map 'middle'. Choose one of top"),
        ("1:2:3", "Can't read the layer map"),
        ("4:6", "run from 0 to 3 in the student"),
        ("3:7", "from 0 to 6 in the teacher"),
        ("1:2,1:3", "names a student state twice"),
    ],
)
def test_what_can_not_be_mapped_is_refused(layer_map, message):
    with pytest.raises(ValueError, match=message):
        layer_pairs(layer_map, 3, 6)


@pytest.mark.parametrize("layer_map", ["top", "average"])
def test_a_student_deeper_than_its_teacher_needs_another_map(layer_map):
    with pytest.raises(ValueError, match="no deeper than its teacher"):
        layer_pairs(layer_map, 6, 3)
