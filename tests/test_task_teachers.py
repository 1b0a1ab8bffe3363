"""Teachers of taggers and classifiers: the head that a recipe finds, and what a student takes over from them."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import test_examples
import tiny
import torch
import yaml
from transformers import AutoModelForSequenceClassification

from retort import read_task
from retort.cli import main
from retort.recipes import Recipe, Student, TaskEvaluation, TaskFiles, Teacher
from retort.recipes.tasks import TaskRecipe, with_head
from retort.recipes.tasks.students import TaskData, adopt_words
from retort.trainers.objectives import problem_of
from retort.trainers.stages import Stage

folder = test_examples.folder

NUMBERS = "a cat\t0.5\na dog\t1.25\nthe bird\t3.5\nno tree\t2.0\n"


def folder_of(place, rows, splits=("train", "dev")):
    place.mkdir()
    for split in splits:
        (place / f"{split}.tsv").write_text(rows)
    return str(place)


# --- Heads of a regression --------------------------------------------------------------------------------------------


def recipe_on_numbers(place, names, fine_tuning=None):
    """A recipe whose labels are numbers, and whose teacher has a head with classes of these names."""
    teacher = tiny.model("bert", "sequence", labels=len(names))
    teacher.config.id2label = dict(enumerate(names))
    teacher.config.label2id = {name: index for index, name in enumerate(names)}
    teacher.save_pretrained(place / "teacher")
    data = TaskFiles(task="classification", folders=folder_of(place / "numbers", NUMBERS))
    teacher = Teacher(str(place / "teacher"), fine_tuning=fine_tuning)
    return TaskRecipe(Recipe(teacher, Student(), data, (), TaskEvaluation(), "unused"))


@pytest.mark.parametrize("name", ["LABEL_0", "similarity"])
def test_a_head_of_one_output_is_one_for_numbers(name, tmp_path):
    work = recipe_on_numbers(tmp_path, [name])
    assert work.task.labels == ()
    assert not work.needs_fine_tuning


@pytest.mark.promise(9)
def test_a_head_of_classes_is_none_for_numbers(tmp_path):
    work = recipe_on_numbers(tmp_path, ["no", "yes"])
    with pytest.raises(SystemExit, match=r"has a head for no, yes, but the labels are numbers, .* Add teacher\.fine_"):
        assert work.needs_fine_tuning
    stage = Stage("fine-tuning", {"label_weight": 1.0})
    tuned = TaskRecipe(replace(work.recipe, teacher=replace(work.recipe.teacher, fine_tuning=stage)))
    assert tuned.task.labels == ()
    assert tuned.needs_fine_tuning


def test_a_new_head_does_not_learn_as_the_former_one_did(tmp_path):
    work = recipe_on_numbers(tmp_path, ["no", "yes"], Stage("fine-tuning", {"label_weight": 1.0}))
    former = AutoModelForSequenceClassification.from_pretrained(work.recipe.teacher.model)
    former.config.problem_type = "single_label_classification"
    former.save_pretrained(work.recipe.teacher.model)
    assert problem_of(with_head(work.recipe.teacher.model, work.task)) == "regression"


# --- Scores by language -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("few", ["a man\t4.5\n", "a man\t4.5\nthe child\t4.5\n"], ids=["one row", "a constant"])
def test_a_language_without_a_correlation_is_left_out(few, tokenizer, tmp_path, monkeypatch):
    folders = [f"{name}={folder_of(tmp_path / name, rows)}" for name, rows in (("few", few), ("xx", NUMBERS))]
    task = read_task("classification", folders=folders)
    found = torch.arange(len(task.splits["dev"]), dtype=torch.float32)[:, None]
    monkeypatch.setattr(TaskData, "predictor", lambda *_: lambda *_: found)
    data = TaskData(task, tokenizer, 16)
    quality = data.judge(SimpleNamespace(), "dev", intervals=True).quality
    assert list(quality.scores) == ["pearson", "spearmanr", "pearson xx"]
    last = slice(-4, None)
    gold = task.splits["dev"]["labels"][last]
    assert quality.scores["pearson xx"] == pytest.approx(np.corrcoef(found[last, 0], gold)[0, 1])


# --- Word embeddings of a teacher -------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["roberta", "xlm-roberta", "mpnet", "bert"])
@pytest.mark.parametrize("padding", [0, 2])
def test_a_student_with_the_teachers_words_is_the_same_once_loaded(family, padding, tmp_path):
    student, teacher = tiny.model(family, "sequence", pad_token_id=1), tiny.model("bert", "sequence", seed=1)
    words = teacher.get_input_embeddings().weight[5:12]
    with torch.no_grad():  # of the student's own positions
        alone = student(inputs_embeds=words[None]).logits
    adopt_words(student, teacher, "svd")
    student.save_pretrained(tmp_path)
    loaded = type(student).from_pretrained(tmp_path).eval()
    ids = torch.nn.functional.pad(torch.arange(5, 12)[None], (0, padding))
    mask = ids.ne(0).long()
    with torch.no_grad():
        before, after = (model(input_ids=ids, attention_mask=mask).logits for model in (student, loaded))
    torch.testing.assert_close(before, after, rtol=0, atol=1e-5)
    torch.testing.assert_close(before, alone, rtol=0, atol=1e-5)
    assert student.get_input_embeddings().padding_idx == loaded.get_input_embeddings().padding_idx


@pytest.mark.promise(9)
@pytest.mark.parametrize("pad", [3, 100, None])
def test_a_student_that_would_need_more_positions_is_refused(pad):
    student, teacher = tiny.model("roberta", "sequence", pad_token_id=1), tiny.model("bert", "sequence")
    teacher.config.pad_token_id = pad
    with pytest.raises(SystemExit, match=f"from its padding id, 1, but the teacher's is {pad}"):
        adopt_words(student, teacher, "svd")


# --- Names in a report ------------------------------------------------------------------------------------------------


def rows_of_report(place, **sections):
    """The names of the rows, of a student that was trained for one step."""
    plain = {
        "student": {"layers": 1},
        "arguments": {"use_cpu": True, "report_to": "none", "max_steps": 1},
        "output_dir": str(place / "output"),
    }
    (place / "recipe.yaml").write_text(yaml.safe_dump(plain | sections))
    assert main(["distill", str(place / "recipe.yaml")]) == 0
    return [row["name"] for row in json.loads((place / "output/report.json").read_text())["rows"]]


def test_a_teacher_called_student_keeps_its_row_beside_a_classifier(tokenizer, tmp_path):
    rows = "".join(f"{text}\t{'long' if len(text.split()) > 6 else 'short'}\n" for text in tiny.sentences(24))
    tiny.model("bert", "sequence", labels=2).save_pretrained(tmp_path / "student")
    tokenizer.save_pretrained(tmp_path / "student")
    found = rows_of_report(
        tmp_path,
        teacher=str(tmp_path / "student"),
        data={"task": "classification", "folders": folder_of(tmp_path / "classes", rows)},
        stages=[{"name": "labels", "arguments": {"label_weight": 1.0}}],
    )
    assert found == ["student (teacher)", "student, untrained", "student"]


def test_a_teacher_called_student_keeps_its_row_beside_an_encoder(folder):
    found = rows_of_report(
        folder,
        teacher={"model": str(folder / "teacher"), "name": "student, untrained"},
        data={"train_files": [str(folder / "corpus.txt")], "max_length": 32},
        stages=[{"name": "embeddings", "arguments": {"embedding_weight": 1.0}}],
        evaluation={"sts_test": {"toy": str(folder / "sts.tsv")}},
    )
    assert found == ["student, untrained (teacher)", "student, untrained", "student"]
