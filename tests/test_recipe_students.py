"""What a recipe says of its student is all heeded, or refused before anything is trained."""

import importlib

import pytest
from test_task_examples import EXAMPLES


@pytest.fixture
def refused(monkeypatch):
    """What is said of a recipe of a kind that is refused."""
    monkeypatch.syspath_prepend(EXAMPLES)

    def message(kind, **sections):
        module, name = kind.split(".")
        recipe = importlib.import_module("recipe").Recipe(
            **{"teacher": "x", "teacher_name": "x", "student": {}, "data": {}, "stages": (), "output_dir": "y"}
            | sections
        )
        with pytest.raises(SystemExit) as refusal:
            getattr(importlib.import_module(module), name)(recipe)
        return str(refusal.value)

    return message


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("kind", "student"),
    [
        ("task_recipe.TaskRecipe", {"bilstm": {}, "layers": 3}),
        ("task_recipe.TaskRecipe", {"layer": 3}),
        ("sentence_recipe.SentenceRecipe", {"model": "x", "layers": 3}),
        ("sentence_recipe.SentenceRecipe", {"bilstm": {}}),
        ("masked_recipe.MaskedRecipe", {"model": "x"}),
    ],
)
def test_a_student_made_in_two_ways_or_in_none_that_its_kind_knows(kind, student, refused):
    message = refused(kind, student=student)
    assert message.startswith("Here a student is made by ")
    assert message.endswith(f"This one has {', '.join(student)}.")


@pytest.mark.promise(9)
def test_a_student_of_an_assistant_has_no_tokenizer_of_its_own(refused):
    assistant = importlib.import_module("recipe").Assistant("x")
    message = refused("sentence_recipe.SentenceRecipe", student={"tokenizer": "z"}, assistant=assistant)
    assert message.endswith("This one has tokenizer.")


@pytest.mark.promise(9)
def test_an_evaluation_that_tasks_do_not_have(refused):
    assert "but not onxx" in refused("task_recipe.TaskRecipe", evaluation={"onxx": True})


@pytest.mark.promise(9)
def test_flags_for_two_students(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    task_flags = importlib.import_module("task_flags")
    with pytest.raises(SystemExit, match="here are --bilstm and layers or their sizes"):
        task_flags._student(task_flags.StudentArguments(bilstm=[8, 12], hidden_size=16), "x")
