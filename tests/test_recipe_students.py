"""What a recipe says of its student is all heeded, or refused before anything is trained."""

import pytest

from retort.recipes import parse_recipe

STAGES = [{"name": "only", "arguments": {"label_weight": 1}}]
DATA = {
    "sentences": {"train_files": ["x.txt"]},
    "tagging": {"task": "tagging", "folders": "x"},
    "masked_lm": {"task": "masked_lm", "train_files": ["x.txt"]},
}


def refused(kind, **sections):
    """What is said of a recipe of a kind that is refused."""
    plain = {"teacher": "x", "student": {}, "data": DATA[kind], "stages": STAGES, "output_dir": "y"}
    with pytest.raises(ValueError, match=r"\w") as refusal:
        parse_recipe(plain | sections)
    return str(refusal.value)


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("kind", "student"),
    [
        ("tagging", {"weigh_pieces": True}),
        ("sentences", {"bilstm": {"layers": 1}}),
        ("sentences", {"projector": True}),
        ("masked_lm", {"model": "x"}),
    ],
)
def test_a_student_with_settings_that_its_kind_does_not_know_is_refused(kind, student):
    message = refused(kind, student=student)
    assert message.startswith("student: here a student may have ")
    names = message.rpartition("This one has ")[2].rstrip(".").split(", ")
    assert set(names) == set(student)


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("kind", "student", "message"),
    [
        ("tagging", {"bilstm": {"layers": 1}, "layers": 3}, "layers can't be combined with bilstm"),
        ("tagging", {"bilstm": {"layers": 1}, "hidden_size": 16}, "hidden_size can't be combined with bilstm"),
        ("sentences", {"model": "x", "tokenizer": "y"}, "tokenizer can't be combined with model"),
        ("sentences", {"static": {}, "layers": 2}, "layers can't be combined with static"),
        ("sentences", {"model": "x", "layers": 2, "tokenizer": "y"}, "tokenizer can't be combined with model"),
    ],
)
def test_a_student_made_in_two_ways_is_refused(kind, student, message):
    assert refused(kind, student=student) == f"student: {message}. Leave one of them out."


@pytest.mark.promise(9)
def test_a_student_of_an_assistant_has_no_tokenizer_of_its_own():
    message = refused("sentences", student={"tokenizer": "z"}, assistant={"model": "x"})
    assert message.endswith("This one has tokenizer.")


@pytest.mark.promise(9)
@pytest.mark.parametrize("kind", ["tagging", "masked_lm"])
@pytest.mark.parametrize("arguments", [{"truncate_dims": [8]}, {"quantization_aware": "int8"}])
def test_short_vectors_of_a_recipe_without_embeddings(kind, arguments):
    message = refused(kind, arguments=arguments)
    assert message == f"stages.only: {min(arguments)} is for sentence embeddings (data without a task). Leave it out."


@pytest.mark.promise(9)
def test_two_caches_for_one_stage():
    message = refused("sentences", stages=[STAGES[0] | {"cache_teacher": True}], arguments={"teacher_cache": "z"})
    assert message.startswith("stages.only: it has both cache_teacher and teacher_cache. Set cache_teacher: false")


@pytest.mark.promise(9)
def test_a_teacher_cache_of_groups_of_texts():
    pairs = {"name": "pairs", "data": "groups", "trainer": "ContrastiveTrainer"}
    data = {"train_files": ["x.txt"], "group_files": ["y.tsv"]}
    message = refused("sentences", data=data, stages=[*STAGES, pairs], arguments={"teacher_cache": "z"})
    assert message.startswith("stages.pairs.arguments: teacher_cache holds the outputs of one text in each row")


@pytest.mark.promise(9)
def test_an_evaluation_that_tasks_do_not_have():
    assert "evaluation.onxx: there is no such key. Did you mean onnx?" in refused("tagging", evaluation={"onxx": True})
