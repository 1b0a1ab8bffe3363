"""What a recipe says of its student is all heeded, or refused before anything is trained."""

import pytest

from retort.recipes import Recipe
from retort.recipes.masked import MaskedRecipe
from retort.recipes.recipe import Assistant
from retort.recipes.sentences import SentenceRecipe
from retort.recipes.tasks import StudentArguments, TaskRecipe
from retort.recipes.tasks.flags import _student


def refused(kind, **sections):
    """What is said of a recipe of a kind that is refused."""
    plain = {"teacher": "x", "teacher_name": "x", "student": {}, "data": {}, "stages": (), "output_dir": "y"}
    with pytest.raises(SystemExit) as refusal:
        kind(Recipe(**plain | sections))
    return str(refusal.value)


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("kind", "student"),
    [
        (TaskRecipe, {"bilstm": {}, "layers": 3}),
        (TaskRecipe, {"layer": 3}),
        (SentenceRecipe, {"model": "x", "layers": 3}),
        (SentenceRecipe, {"bilstm": {}}),
        (MaskedRecipe, {"model": "x"}),
    ],
)
def test_a_student_made_in_two_ways_or_in_none_that_its_kind_knows(kind, student):
    message = refused(kind, student=student)
    assert message.startswith("Here a student is made by ")
    assert message.endswith(f"This one has {', '.join(student)}.")


@pytest.mark.promise(9)
def test_a_student_of_an_assistant_has_no_tokenizer_of_its_own():
    assistant = Assistant("x")
    message = refused(SentenceRecipe, student={"tokenizer": "z"}, assistant=assistant)
    assert message.endswith("This one has tokenizer.")


@pytest.mark.promise(9)
def test_an_evaluation_that_tasks_do_not_have():
    assert "but not onxx" in refused(TaskRecipe, evaluation={"onxx": True})


@pytest.mark.promise(9)
def test_flags_for_two_students():
    with pytest.raises(SystemExit, match="here are --bilstm and layers or their sizes"):
        _student(StudentArguments(bilstm=[8, 12], hidden_size=16), "x")
