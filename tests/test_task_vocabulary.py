"""Taggers and classifiers whose students have tokenizers of their own."""

import json

import pytest
import test_task_examples
import tiny
from test_task_examples import launch, task_recipe
from transformers import AutoTokenizer

from retort.recipes import BiLstm, NewTokenizer, Student

folder = test_task_examples.folder


@pytest.mark.promise(5)
@pytest.mark.parametrize(
    ("kind", "task", "words"),
    [("tagging", "", {"trim_to": 70}), ("classification", "-classes", {"vocab_size": 72})],
)
def test_a_teacher_is_distilled_into_another_vocabulary(kind, task, words, folder):
    output = folder / f"own-words{task}"
    data = {"task": kind, "folders": [f"{folder}/{language}{task}" for language in ("xx", "yy")]}
    launch("run_recipe.py", task_recipe(folder, output, data, {"layers": 2, "tokenizer": words}))
    made = AutoTokenizer.from_pretrained(output)
    (size,) = words.values()
    assert len(made) <= size < len(tiny.tokenizer())
    rows = {row["name"]: row["quality"] for row in json.loads((output / "report.json").read_text())["rows"]}
    metric = next(iter(rows["student"]))
    assert rows["teacher"][metric] > 0.7
    assert rows["student"][metric] > 0.8 * rows["teacher"][metric]


@pytest.mark.promise(9)
@pytest.mark.parametrize("sizes", [{"vocab_size": 50, "trim_to": 60}, {}])
def test_a_new_tokenizer_is_made_in_one_way(sizes):
    with pytest.raises(ValueError, match="either vocab_size or trim_to"):
        NewTokenizer(**sizes)


@pytest.mark.promise(9)
@pytest.mark.parametrize("tokenizer", ["y", NewTokenizer(trim_to=60)], ids=["named", "trimmed"])
@pytest.mark.parametrize("student", [{"bilstm": BiLstm()}, {"model": "x", "embedding_init": "svd"}])
def test_a_tokenizer_beside_the_teachers_word_embeddings_is_refused(student, tokenizer):
    with pytest.raises(ValueError, match="leave out tokenizer"):
        Student(tokenizer=tokenizer, **student)
