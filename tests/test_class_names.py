"""The names of a dataset's classes and those of the student's agree, id by id, or the run is refused."""

import re

import pytest
import tiny
import torch
from datasets import ClassLabel, Dataset, Features, List, Value
from transformers import BertForSequenceClassification

from retort import DistillTrainer, tokenize
from retort.trainers.checks import names as names_check

TAGS = ["O", "B-PER", "B-LOC"]
STUDENTS_TAGS = ["B-LOC", "O", "B-PER"]


def named(names):
    """The settings of a model that has these classes."""
    return {
        "labels": len(names),
        "id2label": dict(enumerate(names)),
        "label2id": {name: index for index, name in enumerate(names)},
    }


def dataset(task, names, count=16):
    """Rows whose labels, in the column `y`, come one after the other. Without `names` they are plain numbers."""
    kind = ClassLabel(names=names) if names else Value("int64")
    classes = len(names) if names else 3
    if task == "sequence":
        features = Features({"text": Value("string"), "y": kind})
        return Dataset.from_dict({"text": tiny.sentences(count), "y": [i % classes for i in range(count)]}, features)
    words = [text.split() for text in tiny.sentences(count)]
    labels = [[(i + j) % classes for j in range(len(row))] for i, row in enumerate(words)]
    return Dataset.from_dict({"words": words, "y": labels}, Features({"words": List(Value("string")), "y": List(kind)}))


def tokenized(data, tokenizer, **settings):
    return tokenize(data, tokenizer, words="words" if "words" in data.column_names else None, labels="y", **settings)


@pytest.fixture
def trainer(tokenizer, tmp_path):
    """Makes a trainer that learns labels, with a teacher's logits if there is a teacher."""

    def made(student, rows, teacher=None, **settings):
        given = {name: settings.pop(name) for name in ("eval_dataset",) if name in settings}
        defaults = {"label_weight": 1.0, "max_steps": 1, "save_strategy": "no"}
        args = tiny.arguments(tmp_path, **defaults | settings)
        return DistillTrainer(student, teacher, args, train_dataset=rows, processing_class=tokenizer, **given)

    return made


def renumbered(data, student, message):
    """The rows after the call that the message names."""
    call, ids = re.search(r"call (dataset\..*?\)), with (?:ids=(.*), labels=)?", message).groups()
    labels = data.features["y"]
    names = {"dataset": data, "column": "y", "student": student, "labels": getattr(labels, "feature", labels)}
    made = eval(call, names | ({"ids": eval(ids, names)} if ids else {}))
    return made.remove_columns("y").rename_column("aligned", "y") if "aligned" in made.column_names else made


# --- Names are kept ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_length", [64, 6])
def test_tags_keep_their_names_in_rows_and_in_windows(max_length, tokenizer):
    data = dataset("token", TAGS)
    rows = tokenized(data, tokenizer, max_length=max_length)
    assert rows.features["labels"] == List(ClassLabel(names=TAGS))
    numbers = tokenized(data.cast_column("y", List(Value("int64"))), tokenizer, max_length=max_length)
    assert rows["labels"][:] == numbers["labels"][:]
    assert numbers.features["labels"] == List(Value("int32"))


def test_other_names_are_not_those_of_the_cache(tokenizer, tmp_path):
    dataset("token", TAGS).save_to_disk(tmp_path)
    for names in (TAGS, STUDENTS_TAGS):
        data = Dataset.load_from_disk(tmp_path).cast_column("y", List(ClassLabel(names=names)))
        assert tokenized(data, tokenizer).features["labels"].feature.names == names


# --- Other classes are refused, and the way out is one ----------------------------------------------------------------


@pytest.mark.promise(9)
@pytest.mark.parametrize("kept", [True, False], ids=["label2id", "no label2id"])
@pytest.mark.parametrize("task", ["token", "sequence"])
def test_another_order_is_refused_and_can_be_changed(task, kept, trainer, tokenizer):
    data, student = dataset(task, TAGS), tiny.model("bert", task, **named(STUDENTS_TAGS))
    if not kept:
        student.config.label2id = {f"LABEL_{i}": i for i in range(3)}
    message = (
        "The training rows: the labels' classes are in another order than the student's. Class 0 is 'O' in the rows, "
        "but 'B-LOC' in the student's config.id2label. The rows have O, B-PER, B-LOC (3). The student has B-LOC, O, "
        "B-PER (3). Before you tokenize, call dataset."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}") as refused:
        trainer(student, tokenized(data, tokenizer))
    ordered = renumbered(data, student, str(refused.value))

    rows = tokenized(ordered, tokenizer)
    trainer(student, rows).train()
    learnt = [STUDENTS_TAGS[label] for label in torch.tensor(rows["labels"][0]).flatten().tolist() if label != -100]
    first = torch.tensor(data["y"][0]).flatten().tolist()
    assert learnt == [TAGS[label] for label in first]


@pytest.mark.promise(9)
@pytest.mark.parametrize("task", ["token", "sequence"])
def test_classes_that_the_student_lacks_can_be_given_to_it(task, trainer, tokenizer):
    names = ["B-PER", "O", "place"]
    data, student = dataset(task, names), tiny.model("bert", task, **named(TAGS))
    with pytest.raises(ValueError, match=r"in another order .* Class 0 is 'B-PER'.* Load the model with the classes"):
        trainer(student, tokenized(data, tokenizer))
    trainer(tiny.model("bert", task, **named(names)), tokenized(data, tokenizer))


@pytest.mark.parametrize("task", ["token", "sequence"])
def test_names_that_only_one_side_has_are_a_warning(task, trainer, tokenizer, monkeypatch):
    said = []
    monkeypatch.setattr(names_check.logger, "warning_once", said.append)
    trainer(
        tiny.model("bert", task, **named(["NEGATIVE", "POSITIVE"])), tokenized(dataset(task, ["neg", "pos"]), tokenizer)
    )
    assert [message[:103] for message in said] == [
        "The labels' classes have other names than the student's: class 0 is 'neg' in the rows, and 'NEGATIVE' i"
    ]


@pytest.mark.promise(9)
def test_evaluation_rows_and_streams_with_types_are_compared_too(trainer, tokenizer):
    student = tiny.model("bert", "token", **named(TAGS))
    right = tokenized(dataset("token", TAGS), tokenizer)
    wrong = tokenized(dataset("token", STUDENTS_TAGS), tokenizer)
    with pytest.raises(ValueError, match=r"The evaluation \(b\) rows: the labels' classes are in another order"):
        trainer(student, right, eval_dataset={"a": right, "b": wrong})
    with pytest.raises(ValueError, match=r"The training rows: the labels' classes are in another order"):
        trainer(student, wrong.to_iterable_dataset())
    trainer(student, right.to_iterable_dataset())


def test_the_rows_of_a_teacher_that_gives_logits_are_compared_too(trainer, tokenizer):
    models = [tiny.model("bert", "token", seed=seed, **named(STUDENTS_TAGS)) for seed in (0, 1)]
    rows = tokenized(dataset("token", TAGS), tokenizer)
    student, teacher = models
    with pytest.raises(ValueError, match="in another order"):
        trainer(student, rows, teacher, logits_weight=1.0)
    # Without label_weight, labels aren't read.
    trainer(student, rows, teacher, logits_weight=1.0, label_weight=0.0)


# --- What is no contradiction -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["token", "sequence"])
@pytest.mark.parametrize(
    ("rows", "model"),
    [
        (TAGS, TAGS),
        (TAGS, ["LABEL_0", "LABEL_1", "LABEL_2"]),
        (["LABEL_0", "LABEL_1", "LABEL_2"], TAGS),
        (["0", "1", "2"], TAGS),
        (TAGS, [0, 1, 2]),
        (None, TAGS),
        (["entailment", "neutral"], ["ENTAILMENT", "NEUTRAL", "CONTRADICTION"]),
    ],
    ids=["equal", "unnamed head", "unnamed rows", "numbered rows", "numbered head", "ids", "capitals, fewer"],
)
def test_classes_without_names_or_with_the_same_ones_are_taken(task, rows, model, trainer, tokenizer):
    trainer(tiny.model("bert", task, **named(model)), tokenized(dataset(task, rows), tokenizer))


@pytest.mark.promise(9)
def test_capitals_count_where_they_tell_classes_apart(trainer, tokenizer):
    student = tiny.model("bert", "sequence", **named(["us", "US", "them"]))
    trainer(student, tokenized(dataset("sequence", ["us", "US", "them"]), tokenizer))
    wrong = dataset("sequence", ["US", "us", "them"])
    with pytest.raises(ValueError, match="Class 0 is 'US' in the rows, but 'us'") as refused:
        trainer(student, tokenized(wrong, tokenizer))
    ordered = renumbered(wrong, student, str(refused.value))
    assert ordered["y"][:3] == [1, 0, 2]
    trainer(student, tokenized(ordered, tokenizer))


@pytest.mark.promise(9)
def test_tags_in_capitals_are_put_in_order_too(trainer, tokenizer):
    student, wrong = tiny.model("bert", "token", **named(STUDENTS_TAGS)), dataset("token", ["o", "b-per", "b-loc"])
    with pytest.raises(ValueError, match="in another order") as refused:
        trainer(student, tokenized(wrong, tokenizer))
    ordered = renumbered(wrong, student, str(refused.value))
    assert ordered["y"][:] == [[(label + 1) % 3 for label in row] for row in wrong["y"]]
    trainer(student, tokenized(ordered, tokenizer))


def test_a_number_several_classes_of_a_text_and_masked_tokens_have_no_names_to_compare(trainer, tokenizer):
    texts = tiny.sentences(8)
    number = tokenize(Dataset.from_dict({"text": texts, "y": [0.5] * 8}), tokenizer, labels="y")
    trainer(tiny.model("bert", "sequence", **named(["similarity"])), number)

    several = tokenize(Dataset.from_dict({"text": texts, "y": [[1.0, 0.0, 1.0]] * 8}), tokenizer, labels="y")
    multi_label = tiny.config("bert", problem_type="multi_label_classification", **named(TAGS))
    trainer(BertForSequenceClassification(multi_label), several)

    masked = number.remove_columns("labels").map(lambda row: {"labels": row["input_ids"]})
    pieces = ClassLabel(names=tokenizer.convert_ids_to_tokens(range(len(tokenizer))))
    for rows in (masked, masked.cast_column("labels", List(pieces))):
        trainer(tiny.model("bert", "masked_lm", **named(TAGS)), rows)
