"""What a recipe says of its student is all heeded, or refused before anything is trained."""

import pytest

from retort import DistillTrainingArguments
from retort.recipes import parse_recipe
from retort.recipes.tasks import ScheduleArguments, StudentArguments, TaskArguments, recipe_of
from retort.recipes.tasks.flags import _student

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
        ("tagging", {"bilstm": {"layers": 1}, "layers": 3}),
        ("tagging", {"weigh_pieces": True}),
        ("sentences", {"model": "x", "tokenizer": "y"}),
        ("sentences", {"bilstm": {"layers": 1}}),
        ("sentences", {"projector": True}),
        ("masked_lm", {"model": "x"}),
    ],
)
def test_a_student_made_in_two_ways_or_in_none_that_its_kind_knows(kind, student):
    message = refused(kind, student=student)
    assert message.startswith("student: here a student is made by ")
    names = message.rpartition("This one has ")[2].rstrip(".").split(", ")
    assert set(names) == set(student)


@pytest.mark.promise(9)
def test_a_student_of_an_assistant_has_no_tokenizer_of_its_own():
    message = refused("sentences", student={"tokenizer": "z"}, assistant={"model": "x"})
    assert message.endswith("This one has tokenizer.")


@pytest.mark.promise(9)
def test_an_evaluation_that_tasks_do_not_have():
    assert "evaluation.onxx: there is no such key. Did you mean onnx?" in refused("tagging", evaluation={"onxx": True})


@pytest.mark.promise(9)
def test_flags_for_two_students():
    with pytest.raises(SystemExit, match="here are --bilstm and layers or their sizes"):
        _student(StudentArguments(bilstm=[8, 12], hidden_size=16), "x")


@pytest.mark.parametrize(
    ("hub", "pushed"),
    [
        ({"push_to_hub": True, "hub_model_id": "me/x"}, "me/x"),
        ({"push_to_hub": True}, "student"),
        ({"hub_model_id": "me/x"}, None),
        ({}, None),
    ],
)
def test_flags_push_the_finished_student_and_no_stage(hub, pushed, tmp_path):
    args = DistillTrainingArguments(output_dir=str(tmp_path / "student"), seed=7, **hub)
    flags = TaskArguments("x", task_folder=["y"]), StudentArguments(layers=[3]), ScheduleArguments()
    recipe = recipe_of("classification", *flags, args)
    assert recipe.push_to_hub == pushed
    settings = [recipe.arguments, *(stage.arguments for stage in (recipe.teacher.fine_tuning, *recipe.stages))]
    assert not {"push_to_hub", "hub_model_id"} & set().union(*settings)
    assert recipe.arguments["seed"] == 7
