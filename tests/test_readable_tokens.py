"""Tokens that a model has no embedding or no position for, and vocabularies with rows that no token has."""

import pytest
import tiny
import torch
from datasets import Dataset

from retort import (
    ContrastiveTrainer,
    ContrastiveTrainingArguments,
    DistillTrainer,
    MCLTrainer,
    MCLTrainingArguments,
    tokenize,
)
from retort.data import tokenize_groups
from retort.modeling.encoding import position_count


def unlimited(*added: str):
    """A tokenizer that cuts nothing, with some tokens more."""
    tokenizer = tiny.tokenizer()
    tokenizer.model_max_length = int(1e30)
    tokenizer.add_tokens(list(added))
    return tokenizer


def trainer_of(tmp_path, student, teacher, data, tokenizer, **named):
    settings = {"embedding_weight": 1.0, "save_strategy": "no", "max_steps": 1, "disable_dropout": True}
    args = tiny.arguments(tmp_path, **settings | named.pop("settings", {}))
    return DistillTrainer(student, teacher, args, train_dataset=data, processing_class=tokenizer, **named)


@pytest.mark.parametrize(
    ("family", "count"), [("bert", 66), ("roberta", 65), ("distilbert", 64), ("mpnet", 64), ("modernbert", None)]
)
def test_a_row_may_be_as_long_as_there_are_positions(family, count, tmp_path):
    model, tokenizer = tiny.model(family), unlimited()
    assert position_count(model) == count
    lengths = (count, count + 1) if count else (150,)
    for length in lengths:
        rows = tokenize(Dataset.from_dict({"text": ["cat " * (length - 2)] * 8}), tokenizer, max_length=512)
        assert rows["length"] == [length] * 8
        if length == 150 or length == count:
            trainer_of(tmp_path, model, tiny.model(family, seed=1), rows, tokenizer).train()
        else:
            with pytest.raises(RuntimeError if family == "bert" else (RuntimeError, IndexError)):
                model(torch.tensor(rows["input_ids"]))


@pytest.mark.promise(9)
@pytest.mark.parametrize("role", ["student", "teacher"])
def test_rows_of_more_tokens_than_a_model_has_positions_for_are_refused(role, tmp_path):
    tokenizer, short, long = unlimited(), tiny.model("roberta"), tiny.model("roberta", max_position_embeddings=600)
    rows = tokenize(Dataset.from_dict({"text": ["a cat", *["cat " * 150] * 7]}), tokenizer, max_length=512)
    student, teacher = (short, long) if role == "student" else (long, short)
    message = rf"evaluation rows: row 1 has 152 tokens, but the {role}, a RobertaModel, has positions for 65\. .*=65"
    good = rows.select([0])
    with pytest.raises(ValueError, match=message):
        trainer_of(tmp_path, student, teacher, good, tokenizer, eval_dataset=rows)
    cut = tokenize(Dataset.from_dict({"text": ["cat " * 150] * 8}), tokenizer, max_length=65)
    trainer_of(tmp_path, student, teacher, cut, tokenizer).train()


@pytest.mark.promise(9)
@pytest.mark.parametrize("side", ["left", "right"])
def test_rows_of_a_plain_tokenizer_are_measured_without_their_padding(side, tmp_path):
    tokenizer, student, teacher = unlimited(), tiny.model(), tiny.model(seed=1)
    tokenizer.padding_side = side

    def padded(length):
        rows = Dataset.from_dict({"text": ["a cat", "cat " * 64, "a dog"] * 3})
        return rows.map(lambda row: tokenizer(row["text"], padding="max_length", max_length=length))

    trainer_of(tmp_path, student, teacher, padded(80), tokenizer).train()
    long = Dataset.from_dict({"text": ["a cat", "cat " * 65]}).map(lambda row: tokenizer(row["text"]))
    with pytest.raises(ValueError, match="row 1 has 67 tokens, but the student, a BertModel, has positions for 66"):
        trainer_of(tmp_path, student, teacher, long, tokenizer)


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("mask", "message"),
    [
        ([1, 1], "row 2 has 3 tokens, but its attention mask has 2 values"),
        (None, "row 2 has 3 tokens, but its attention mask has 0 values"),
        ([1, None, 1], "row 2 has an attention mask with the value None"),
        ([0.0, 0.0, -1e9], "row 2 has an attention mask with the value -1000000000.0. Masks are 1 at tokens"),
    ],
)
def test_a_mask_that_is_no_mask_is_refused(mask, message, tmp_path):
    rows = Dataset.from_dict({"input_ids": [[2, 5, 3]] * 3, "attention_mask": [[1, 1, 1], [1, 1, 0], mask]})
    with pytest.raises(ValueError, match=message):
        trainer_of(tmp_path, tiny.model(), tiny.model(seed=1), rows, tiny.tokenizer())


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("ids", "message"), [(None, r"row 1 has no tokens \(None\)"), ([2, -7, 3], "row 1 holds the token -7. Tokens are")]
)
def test_rows_that_hold_no_tokens_are_refused(ids, message, tmp_path):
    rows = Dataset.from_dict({"input_ids": [[2, 5, 3], ids, [2, 6, 3]]})
    with pytest.raises(ValueError, match=message):
        trainer_of(tmp_path, tiny.model(), tiny.model(seed=1), rows, tiny.tokenizer())


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("kind", "arguments"), [(ContrastiveTrainer, ContrastiveTrainingArguments), (MCLTrainer, MCLTrainingArguments)]
)
def test_groups_of_texts_are_looked_at_too(kind, arguments, tmp_path):
    tokenizer = unlimited()
    texts = Dataset.from_dict({"a": ["a cat"] * 8, "b": [*["a dog"] * 7, "cat " * 150]})
    rows = tokenize_groups(texts, tokenizer, max_length=512, teacher_tokenizer=tokenizer)
    args = tiny.arguments(tmp_path, arguments)
    with pytest.raises(ValueError, match="row 7 has 152 tokens, but the student, a BertModel, has positions for 66"):
        kind(tiny.model(), tiny.model(seed=1), args, train_dataset=rows, processing_class=tokenizer)


@pytest.mark.promise(9)
@pytest.mark.parametrize("role", ["student", "teacher"])
def test_tokens_without_an_embedding_are_refused_until_there_is_one(role, tmp_path):
    tokenizer, size = unlimited("zyx"), len(tiny.tokenizer())
    rows = tokenize(Dataset.from_dict({"text": [*["a cat"] * 7, "zyx cat"]}), tokenizer)
    models = {name: tiny.model(seed=seed, vocab_size=size) for seed, name in enumerate(("student", "teacher"))}
    other = "teacher" if role == "student" else "student"
    models[other].resize_token_embeddings(len(tokenizer))
    message = f"row 7 holds the token {size}, but the {role}, a BertModel, has .* 0 to {size - 1}.*resize_token_emb"
    with pytest.raises(ValueError, match=message):
        trainer_of(tmp_path, *models.values(), rows, tokenizer, teacher_processing_class=tokenizer)
    models[role].resize_token_embeddings(len(tokenizer))
    trainer_of(tmp_path, *models.values(), rows, tokenizer).train()


def test_rows_of_a_vocabulary_that_no_token_has_change_nothing(tokenizer, tmp_path):
    teacher, padded = tiny.model(seed=1), tiny.model(seed=1)
    padded.resize_token_embeddings(192)
    rows, losses = tokenize(Dataset.from_dict({"text": tiny.sentences(8)}), tokenizer), []
    for each in (teacher, padded):
        named = {"eval_dataset": rows, "teacher_processing_class": tiny.tokenizer()}
        losses.append(trainer_of(tmp_path, tiny.model(), each, rows, tokenizer, **named).evaluate()["eval_loss"])
    assert losses[0] > 0
    assert losses[1] == losses[0]


@pytest.mark.promise(9)
def test_logits_over_vocabularies_of_two_sizes_are_refused_before_the_first_step(tokenizer, tmp_path):
    rows = tokenize(Dataset.from_dict({"text": tiny.sentences(8)}), tokenizer)
    student, teacher = tiny.model("bert", "masked_lm"), tiny.model("bert", "masked_lm", seed=1, vocab_size=192)
    named = {"teacher_processing_class": tokenizer, "settings": {"embedding_weight": 0.0, "logits_weight": 1.0}}
    with pytest.raises(ValueError, match=r"has 160 entries and the teacher's 192\. .*resize_token_embeddings"):
        trainer_of(tmp_path, student, teacher, rows, tokenizer, **named)
    teacher.resize_token_embeddings(160)
    trainer_of(tmp_path, student, teacher, rows, tokenizer, **named).train()
