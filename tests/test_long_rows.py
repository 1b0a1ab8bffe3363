"""Tasks on rows that are longer than the model reads: through trainers, teacher caches, recipes and scripts."""

import json
import logging
from itertools import chain

import pytest
import test_task_examples
import tiny
from datasets import Dataset
from test_task_examples import launch, tag_of, task_recipe

from retort import DistillTrainer, read_task, tokenize
from retort.evaluation import Tagger, entity_scores
from retort.recipes import Recipe, Student, TaskEvaluation, TaskFiles, Teacher
from retort.recipes.tasks import TaskRecipe, with_head
from retort.recipes.tasks.students import TaskData

folder = test_task_examples.folder


@pytest.fixture(scope="module")
def long_rows(tmp_path_factory):
    """Rows of 60 to 90 words, for models that read 24 tokens, and transfer text as long."""
    home = tmp_path_factory.mktemp("long")
    for seed, (split, count) in enumerate((("train", 16), ("dev", 4), ("test", 4))):
        rows = [list(chain(*(s.split() for s in tiny.sentences(12, seed=100 * seed + row)))) for row in range(count)]
        lines = ["".join(f"{word}\t{tag_of(word)}\n" for word in words) for words in rows]
        (home / f"{split}.conll").write_text("\n".join(lines))
    texts = [" ".join(tiny.sentences(12, seed=1000 + row)) for row in range(8)]
    (home / "transfer.txt").write_text("\n".join(["the  cat\tsat", *texts]))
    return home


def words_of(task, split):
    return sum(map(len, task.splits[split]["words"]))


@pytest.mark.parametrize("teacher", [None, "wordpiece, other words", "bpe"])
def test_each_word_of_a_task_is_learnt_from_once(long_rows, teacher):
    task = read_task("tagging", folders=long_rows)
    theirs = teacher and tiny.tokenizer(teacher)
    data = TaskData(task, tiny.tokenizer(), 24, teacher_tokenizer=theirs)
    rows = data.rows("train")
    labelled = [label for labels in rows["labels"] for label in labels if label != -100]
    assert sorted(labelled) == sorted(chain(*task.splits["train"]["labels"]))
    assert max(rows["length"]) <= 24
    assert len(rows) > 4 * len(task.splits["train"])
    if teacher:
        assert sum(map(len, rows["student_positions"])) == words_of(task, "train")


@pytest.mark.parametrize("teacher", [None, "bpe"])
def test_transfer_text_is_read_to_its_end_and_text_that_fits_as_it_stands(long_rows, teacher):
    task = read_task("tagging", folders=long_rows)
    tokenizer, theirs = tiny.tokenizer(), teacher and tiny.tokenizer(teacher)
    rows = TaskData(task, tokenizer, 24, teacher_tokenizer=theirs, stride=0).rows("transfer")
    assert rows[0]["input_ids"] == tokenizer("the  cat\tsat")["input_ids"]
    expected = tokenizer(task.transfer["text"][:], add_special_tokens=False)["input_ids"]
    assert list(chain(*(ids[1:-1] for ids in rows["input_ids"]))) == list(chain(*expected))
    if teacher:
        expected = theirs(task.transfer["text"][:], add_special_tokens=False)["input_ids"]
        assert list(chain(*(ids[1:-1] for ids in rows["teacher_input_ids"]))) == list(chain(*expected))
        words = sum(len(text.split()) for text in task.transfer["text"])
        assert sum(map(len, rows["student_positions"])) == words


def test_rows_with_and_without_labels_are_joined(long_rows):
    data = TaskData(read_task("tagging", folders=long_rows), tiny.tokenizer(), 24)
    both = data.rows("train+transfer")
    assert len(both) == len(data.rows("train")) + len(data.rows("transfer"))


def test_scores_count_each_word_once_and_nothing_is_said_ten_times(long_rows, folder, caplog):
    task = read_task("tagging", folders=long_rows)
    data = TaskData(task, tiny.tokenizer(), 24)
    model = with_head(folder / "teacher", task)
    caplog.clear()  # transformers tells of the new head
    with caplog.at_level(logging.WARNING, logger="retort"):
        for _ in range(10):
            judged = data.judge(model, "dev")
            data.rows("dev")
    assert caplog.records == []
    gold = [[task.labels[label] for label in labels] for labels in task.splits["dev"]["labels"]]
    tags = [[word.tag for word in row] for row in data.predictor(model)(task.splits["dev"]["words"])]
    assert list(map(len, tags)) == list(map(len, gold))
    assert judged.quality.scores["F1"] == entity_scores(gold, tags).micro.f1
    confusion = judged.entities.confusion
    found = [*chain(*(row.values() for row in confusion.types.values())), *confusion.boundary.values()]
    assert sum(found) + sum(confusion.missed.values()) == sum(tag != "O" for tag in chain(*gold))


@pytest.mark.promise(4)
@pytest.mark.parametrize("teacher_tokenizer", ["wordpiece", "bpe"])
def test_a_cache_of_windows_teaches_what_a_live_teacher_does(tmp_path, tokenizer, teacher_tokenizer):
    theirs = tiny.tokenizer(teacher_tokenizer)
    words = [(tiny.WORDS * 2)[row : row + 60] for row in range(12)]
    data = Dataset.from_dict({"words": words, "labels": [[len(word) % 3 for word in row] for row in words]})
    arguments = {"words": "words", "labels": "labels", "max_length": 24, "stride": 5, "align": True}
    rows = tokenize(data, tokenizer, teacher_tokenizer=theirs, **arguments)
    assert ("student_positions" in rows.column_names) == (teacher_tokenizer == "bpe")
    losses = []
    for cache in (None, str(tmp_path / "cache")):
        args = tiny.arguments(
            tmp_path / "run",
            max_steps=4,
            logits_weight=1.0,
            label_weight=0.5,
            teacher_cache=cache,
            teacher_cache_dtype="float32",
            save_strategy="no",
        )
        student, teacher = (tiny.model("bert", "token", seed=seed) for seed in (1, 2))
        trainer = DistillTrainer(
            student,
            teacher,
            args,
            train_dataset=rows,
            processing_class=tokenizer,
            teacher_processing_class=theirs,
        )
        trainer.train()
        losses.append([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert len(losses[0]) == 4


def test_a_tagger_of_long_rows_is_distilled(long_rows, folder):
    """By a teacher of another vocabulary, with its outputs on disk."""
    output = long_rows.parent / "long-run"
    data = {"task": "tagging", "folders": str(long_rows), "max_length": 24, "stride": 6}
    printed = launch("run_recipe.py", task_recipe(folder, output, data, {"layers": 2, "tokenizer": {"trim_to": 70}}))
    assert "token of their own" not in printed
    rows = {row["name"]: row["quality"] for row in json.loads((output / "report.json").read_text())["rows"]}
    assert rows["teacher"]["F1"] > 0.7
    assert rows["student"]["F1"] > 0.8 * rows["teacher"]["F1"]


@pytest.mark.parametrize("stride", [None, 0, 3])
def test_a_recipes_stride_reaches_training_and_scoring(stride, long_rows, folder):
    data = TaskFiles("tagging", folders=str(long_rows), max_length=24, stride=stride)
    work = TaskRecipe(Recipe(Teacher(str(folder / "teacher")), Student(), data, (), TaskEvaluation(), "unused"))
    expected = tokenize(work.task.splits["dev"], tiny.tokenizer(), words="words", max_length=24, stride=stride)
    assert list(work.teacher_data.rows("dev")["input_ids"]) == list(expected["input_ids"])
    tagger, plain = (
        make(with_head(folder / "teacher", work.task))
        for make in (work.teacher_data.predictor, lambda model: Tagger(model, tiny.tokenizer(), max_length=24))
    )
    assert tagger.stride == (plain.stride if stride is None else stride)


@pytest.mark.promise(9)
def test_a_stride_is_refused_for_classification_and_where_it_fills_a_window(long_rows, folder):
    with pytest.raises(ValueError, match="stride is for tagging; texts are truncated to max_length"):
        TaskFiles("classification", folders=str(folder / "xx-classes"), stride=3)
    data = TaskData(read_task("tagging", folders=long_rows), tiny.tokenizer(), 24, stride=22)
    with pytest.raises(ValueError, match="stride=22, but a window has 22 tokens of text"):
        data.rows("train")
