"""Objects of the wrong class in place of arguments, teachers and datasets: an error that says what to pass."""

from dataclasses import dataclass

import pytest
import tiny
from datasets import Dataset, DatasetDict
from sentence_transformers import CrossEncoder
from torch import nn

from retort import (
    CKDTrainer,
    CKDTrainingArguments,
    ContrastiveTrainer,
    DistillTrainer,
    DistillTrainingArguments,
    MCLTrainer,
    MCLTrainingArguments,
    VocabReducedMLMTrainer,
    tokenize,
)

pytestmark = pytest.mark.promise(9)


@pytest.fixture(scope="module")
def rows(tokenizer):
    return tokenize(Dataset.from_dict({"text": tiny.sentences(8)}), tokenizer)


@dataclass
class OwnArguments(DistillTrainingArguments):
    huber_weight: float = 0.0
    delta: float = None


@dataclass
class OwnCKDArguments(CKDTrainingArguments):
    huber_weight: float = 0.0


class OwnTrainer(DistillTrainer):
    arguments_class = OwnArguments


@pytest.mark.parametrize(
    ("trainer", "kind", "message"),
    [
        (CKDTrainer, DistillTrainingArguments, "must be CKDTrainingArguments, .* got DistillTrainingArguments"),
        (MCLTrainer, DistillTrainingArguments, "must be MCLTrainingArguments"),
        (VocabReducedMLMTrainer, DistillTrainingArguments, "must be VocabReducedMLMTrainingArguments"),
        (ContrastiveTrainer, CKDTrainingArguments, "must be ContrastiveTrainingArguments"),
        (OwnTrainer, DistillTrainingArguments, "must be OwnArguments"),
        (DistillTrainer, CKDTrainingArguments, r"would ignore contrastive_weight\. Use .* takes CKDTrainingArguments"),
        (DistillTrainer, MCLTrainingArguments, "would ignore mcl_weight, source_weight, target_weight"),
        (DistillTrainer, OwnCKDArguments, r"are OwnCKDArguments, .* takes CKDTrainingArguments, or pass Distill"),
    ],
)
def test_arguments_of_another_trainer_are_refused(trainer, kind, message, tmp_path):
    with pytest.raises(TypeError, match=message):
        trainer(tiny.model("bert"), tiny.model("bert", seed=1), tiny.arguments(tmp_path, kind, embedding_weight=1.0))


@pytest.mark.parametrize(("trainer", "kind"), [(DistillTrainer, OwnArguments), (CKDTrainer, OwnCKDArguments)])
def test_arguments_with_more_fields_are_read(trainer, kind, tokenizer, tmp_path):
    args = tiny.arguments(tmp_path, kind, embedding_weight=1.0)
    made = trainer(tiny.model("bert"), tiny.model("bert", seed=1), args, processing_class=tokenizer)
    assert made.args.huber_weight == 0


def cross_encoder(folder, tokenizer):
    tiny.model("bert", "sequence", labels=1).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return CrossEncoder(str(folder), device="cpu")


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        (lambda folder, _: tiny.arguments(folder), r"type DistillTrainingArguments, .* Pass arguments by name, args="),
        (cross_encoder, r"type CrossEncoder, .* Pass its \.model, or .* score_groups"),
        (lambda *_: nn.Linear(2, 2), "type Linear, but must be a transformers or PEFT model, a SentenceTransformer"),
        (lambda *_: [tiny.model("bert", seed=1), print], "type builtin_function_or_method, .* or a list of these"),
    ],
)
def test_what_is_no_teacher_is_refused(teacher, message, tokenizer, tmp_path):
    with pytest.raises(TypeError, match=f"^The teacher is of {message}"):
        DistillTrainer(
            tiny.model("bert"), teacher(tmp_path, tokenizer), args=tiny.arguments(tmp_path, embedding_weight=1.0)
        )


@pytest.mark.parametrize("trainer", [DistillTrainer, CKDTrainer, ContrastiveTrainer, VocabReducedMLMTrainer])
def test_arguments_in_the_place_of_the_teacher_are_said_to_be_there(trainer, rows, tmp_path):
    args = tiny.arguments(tmp_path, trainer.arguments_class)
    with pytest.raises(TypeError, match="second argument of a trainer is its teacher"):
        trainer(tiny.model("bert", "masked_lm"), args, train_dataset=rows)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            lambda rows: {"eval_dataset": [rows, rows]},
            "The evaluation rows must be .*, but are of type list of Dataset",
        ),
        (lambda rows: {"eval_dataset": {"a": [rows]}}, r"The evaluation \(a\) rows .* type list of Dataset"),
        (lambda rows: {"train_dataset": DatasetDict(train=rows)}, "The training rows .* type DatasetDict"),
        (lambda rows: {"train_dataset": ["a cat"]}, "The training rows .* type list of str"),
    ],
)
def test_what_is_no_dataset_is_refused(given, message, rows, tokenizer, tmp_path):
    args = tiny.arguments(tmp_path, embedding_weight=1.0)
    named = {"processing_class": tokenizer} | given(rows)
    with pytest.raises(TypeError, match=message):
        DistillTrainer(tiny.model("bert"), tiny.model("bert", seed=1), args, **named)


def test_what_is_no_dataset_is_not_evaluated_or_predicted_but_a_list_of_rows_is(rows, tokenizer, tmp_path):
    args = tiny.arguments(tmp_path, embedding_weight=1.0)
    trainer = DistillTrainer(tiny.model("bert"), tiny.model("bert", seed=1), args, processing_class=tokenizer)
    for given, found in (({"a": rows}, "dict"), (["a cat"], "list of str"), ("a cat", "str")):
        with pytest.raises(TypeError, match=f"The test rows must be .* but are of type {found}. Pass one dataset, or"):
            trainer.predict(given)
    with pytest.raises(TypeError, match=r"The evaluation rows must be .* dict of several, such as {'first': rows"):
        trainer.evaluate([rows])
    assert trainer.predict(rows.to_list()).metrics["test_loss"] == pytest.approx(trainer.evaluate(rows)["eval_loss"])
