"""Taggers and classifiers whose students have tokenizers of their own."""

import json

import pytest
import test_task_examples
import tiny
from test_task_examples import COMMON, launch
from transformers import AutoTokenizer

from retort.recipes import BiLstm, Student
from retort.recipes.tasks import StudentArguments
from retort.recipes.tasks.flags import _tokenizer

folder = test_task_examples.folder


@pytest.mark.promise(5)
@pytest.mark.parametrize(
    ("script", "task", "words"),
    [("run_ner.py", "", ["--trim_to", 70]), ("run_classification.py", "-classes", ["--vocab_size", 72])],
)
def test_a_teacher_is_distilled_into_another_vocabulary(script, task, words, folder):
    output = folder / f"own-words{task}"
    tasks = [folder / f"{language}{task}" for language in ("xx", "yy")]
    flags = ["--teacher", folder / "teacher", "--task_folder", *tasks, "--layers", 2, "--output_dir", output]
    launch(script, *flags, *words, *COMMON, "--gradual_unfreezing", "none")
    made = AutoTokenizer.from_pretrained(output)
    assert len(made) <= words[1] < len(tiny.tokenizer())
    rows = {row["name"]: row["quality"] for row in json.loads((output / "report.json").read_text())["rows"]}
    metric = next(iter(rows["student"]))
    assert rows["teacher"][metric] > 0.7
    assert rows["student"][metric] > 0.8 * rows["teacher"][metric]


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"vocab_size": 50, "trim_to": 60}, "one tokenizer"),
        ({"student_tokenizer": "x", "trim_to": 60}, "one tokenizer"),
    ],
)
def test_two_tokenizers_for_one_student_are_refused(flags, message):
    with pytest.raises(SystemExit, match=message):
        _tokenizer(StudentArguments(**flags))


@pytest.mark.promise(9)
@pytest.mark.parametrize("student", [{"bilstm": BiLstm()}, {"model": "x", "embedding_init": "svd"}])
def test_a_tokenizer_beside_the_teachers_word_embeddings_is_refused(student):
    with pytest.raises(ValueError, match="leave out tokenizer"):
        Student(tokenizer="y", **student)


@pytest.mark.promise(9)
def test_a_bilstm_with_a_tokenizer_of_its_own_is_refused_as_flags_too():
    with pytest.raises(SystemExit, match="leave out yours"):
        StudentArguments(bilstm=[8, 12], trim_to=60)
