"""Rows come as arrays out of Arrow's columns, in time, whoever makes the batches."""

import random
from types import SimpleNamespace

import jobs
import numpy as np
import pytest
import tiny
import torch
from datasets import Dataset, Features, List, Value, concatenate_datasets
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from ranks import KILLED, run_on_ranks
from torch.utils.data import Dataset as TorchDataset

from retort import DistillTrainer, VocabReducedMLMTrainer, VocabReducedMLMTrainingArguments, tokenize
from retort.collators import DistillationCollator, GroupCollator, InputFormat, SpanCollator
from retort.data import ArrowRows, tokenize_groups, tokenize_spans

FEATURES = Features(
    {
        "ids": List(Value("int32")),
        "members": List(List(Value("int32"))),
        "number": Value("int64"),
        "flag": Value("bool"),
        "share": Value("float32"),
        "vector": List(Value("float16"), length=3),
        "states": List(List(Value("float16"), length=2)),
        "maps": List(List(List(Value("float32")))),
        "text": Value("string"),
        "holes": List(Value("int32")),
        "gaps": Value("int32"),
    }
)
NUMBERS = st.lists(st.integers(-9, 9), min_size=1, max_size=5)
ROWS = st.fixed_dictionaries(
    {
        "ids": NUMBERS,
        "members": st.lists(NUMBERS, min_size=1, max_size=3),
        "number": st.integers(-(2**60), 2**60),
        "flag": st.booleans(),
        "share": st.floats(-2, 2, width=32),
        "vector": st.lists(st.floats(-2, 2, width=16), min_size=3, max_size=3),
        "states": st.lists(st.lists(st.floats(-2, 2, width=16), min_size=2, max_size=2), min_size=1, max_size=4),
        "maps": st.integers(1, 3).map(lambda n: [[[float(i + j) for i in range(n)] for j in range(n)]] * 2),
        "text": st.text(max_size=3),
        "holes": st.none() | st.lists(st.none() | st.integers(-9, 9), max_size=4),
        "gaps": st.none() | st.integers(-9, 9),
    }
)


def plain(value):
    """Arrays as lists, as `datasets` gives them."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return [plain(each) for each in value] if isinstance(value, list) else value


@settings(max_examples=20, phases=(Phase.explicit, Phase.generate))
@given(st.lists(ROWS, min_size=1, max_size=12), st.integers(1, 5), st.randoms(use_true_random=False))
def test_rows_are_those_of_the_dataset_however_it_is_stored(rows, chunk, draw):
    parts = [Dataset.from_list(rows[i : i + chunk], features=FEATURES) for i in range(0, len(rows), chunk)]
    data = concatenate_datasets(parts)
    places = [draw.randrange(len(rows)) for _ in range(7)]
    for chosen in (data, data.select(places), data.with_format("numpy")):
        asked = [draw.randrange(len(chosen)) for _ in range(6)]
        expected = [chosen.with_format(None)[place] for place in asked]
        found = ArrowRows(chosen).__getitems__(asked)
        assert [{name: plain(value) for name, value in row.items()} for row in found] == expected
        assert len(ArrowRows(chosen)) == len(chosen)
    row = ArrowRows(data)[0]
    assert row["ids"].dtype == np.int32
    assert row["states"].dtype == np.float32
    assert row["states"].shape == (len(rows[0]["states"]), 2)


def texts(count=24, seed=0):
    return Dataset.from_dict({"text": tiny.sentences(count, seed=seed)})


def pairs(tokenizer):
    sides = {name: texts(seed=seed)["text"] for seed, name in enumerate(("source", "target"))}
    return tokenize_groups(Dataset.from_dict(sides), tokenizer, teacher_tokenizer=tokenizer)


def spans(tokenizer):
    return tokenize_spans(texts(), tokenizer, teacher_tokenizer=tiny.tokenizer(jobs.OTHER_WORDS))


def labelled(tokenizer):
    words = [text.split() for text in texts()["text"]]
    rows = Dataset.from_dict({"words": words, "tags": [[len(word) % 3 for word in row] for row in words]})
    other = tiny.tokenizer(jobs.OTHER_WORDS)
    return tokenize(rows, tokenizer, words="words", labels="tags", teacher_tokenizer=other, align=True)


def cached(tokenizer):
    rows, draw = tokenize(texts(), tokenizer), np.random.default_rng(0)
    columns = {
        "teacher_embedding": [draw.normal(size=4) for _ in range(len(rows))],
        "teacher_hidden_state_2": [draw.normal(size=(length, 4)) for length in rows["length"]],
        "teacher_attention_1": [draw.normal(size=(2, length, length)) for length in rows["length"]],
    }
    half = Value("float16")
    features = {"teacher_embedding": List(half, length=4), "teacher_hidden_state_2": List(List(half, length=4))}
    features["teacher_attention_1"] = List(List(List(half)))
    outputs = Dataset.from_dict(columns, features=Features(features))
    return concatenate_datasets([rows.remove_columns("length"), outputs], axis=1).with_format("numpy")


def padded(tokenizer):
    def pad(row):
        missing = 40 - len(row["input_ids"])
        mask = [1] * len(row["input_ids"]) + [0] * missing
        return {"input_ids": row["input_ids"] + [0] * missing, "attention_mask": mask}

    return tokenize(texts(), tokenizer).map(pad)


FORM = InputFormat(0, packed=True)
PADDED = DistillationCollator(InputFormat(0), FORM)
ROADS = {
    "labels and two tokenizers": (labelled, PADDED),
    "a cache": (cached, DistillationCollator(FORM)),
    "padded beforehand": (padded, DistillationCollator(FORM)),
    "pairs": (pairs, GroupCollator(DistillationCollator(FORM), DistillationCollator(FORM))),
    "spans": (spans, SpanCollator(PADDED)),
}


def same(first, second):
    """Whether two values of batches are equal, all the way down."""
    if isinstance(first, torch.Tensor):
        return first.dtype == second.dtype and torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[name], second[name]) for name in first)
    if hasattr(first, "__dict__"):
        return type(first) is type(second) and same(vars(first), vars(second))
    return first == second


@pytest.mark.parametrize("name", ROADS)
def test_batches_are_those_of_the_rows_as_datasets_gives_them(name, tokenizer):
    make, collate = ROADS[name]
    rows = make(tokenizer)
    places = list(range(0, 24, 2))
    expected, made = collate(rows.__getitems__(places)), collate(ArrowRows(rows).__getitems__(places))
    assert same(made, expected)
    assert not same(made, collate(ArrowRows(rows).__getitems__(list(range(12)))))


# --- Who gets which rows ----------------------------------------------------------------------------------------------


def trainer_of(folder, tokenizer, rows, collator=None, **arguments):
    settings = {"embedding_weight": 1.0, "save_strategy": "no", "max_steps": 3}
    args = tiny.arguments(folder, **settings | arguments)
    named = {"data_collator": collator, "train_dataset": rows, "processing_class": tokenizer}
    return DistillTrainer(tiny.model("bert"), tiny.model("bert", seed=1), args, **named)


class Recorder:
    """A collator of a user's, around retort's."""

    def __init__(self):
        self.seen, self.collate = [], DistillationCollator(InputFormat(0))

    def __call__(self, rows):
        self.seen += rows
        return self.collate(rows)


def test_collators_of_users_get_the_rows_as_their_datasets_give_them(tokenizer, tmp_path):
    rows = tokenize(texts(), tokenizer)
    for data, kind in ((rows, list), (rows.with_format("numpy"), np.ndarray)):
        collator = Recorder()
        trainer_of(tmp_path, tokenizer, data, collator).train()
        assert {type(row["input_ids"]) for row in collator.seen} == {kind}


def test_a_transform_of_the_users_is_applied(tokenizer, tmp_path):
    rows = tokenize(texts(), tokenizer)
    first, last = rows[0]["input_ids"][0], rows[0]["input_ids"][-1]
    cut = rows.with_transform(lambda batch: {"input_ids": [[first, last] for _ in batch["input_ids"]]})
    trainer = trainer_of(tmp_path, tokenizer, cut, train_sampling_strategy="random")
    assert {batch.layout.width for batch in trainer.get_train_dataloader()} == {2}


# --- In time ----------------------------------------------------------------------------------------------------------


def test_the_next_batch_is_asked_for_before_the_present_one_is_computed_on(tokenizer, tmp_path):
    trainer = trainer_of(tmp_path, tokenizer, tokenize(texts(40), tokenizer))
    made = list(trainer.get_train_dataloader())
    asked = []

    def epoch():
        for number, batch in enumerate(made):
            asked.append(number)
            yield batch

    iterator, given = epoch(), []
    for step in range(3):
        batches, _ = trainer.get_batch_samples(iterator, 2, trainer.args.device)
        given += batches
        assert len(asked) == min(2 * step + 3, len(made))
    assert [made.index(batch) for batch in given] == list(range(5))
    assert trainer.get_batch_samples(iterator, 2, trainer.args.device)[0] == []
    fresh, _ = trainer.get_batch_samples(epoch(), 1, trainer.args.device)
    assert made.index(*fresh) == 0


def test_workers_make_the_batches_of_a_gpu_unless_the_user_says_how_many(tokenizer, tmp_path, monkeypatch):
    class Rows(TorchDataset):
        __len__, __getitem__ = (lambda self: 24), (lambda self, index: rows[index])

    rows = tokenize(texts(), tokenizer)
    for data, said, expected in ((rows, {}, 2), (Rows(), {}, 0), (rows, {"dataloader_num_workers": 0}, 0)):
        trainer = trainer_of(tmp_path, tokenizer, data, **said)
        assert trainer.get_train_dataloader().num_workers == 0
        with monkeypatch.context() as patch:
            patch.setattr(type(trainer.args), "device", SimpleNamespace(type="cuda"))
            assert trainer.get_train_dataloader().num_workers == expected
        assert trainer.args.dataloader_num_workers == said.get("dataloader_num_workers")


@pytest.mark.promise(2)
@pytest.mark.parametrize(("trainer", "cached"), [("distil", True), ("vocabulary", False)])
def test_with_workers_too_a_killed_and_resumed_run_is_bitwise_the_uninterrupted_one(trainer, cached, tmp_path):
    kill_at = random.randint(3, 15)
    print(f"killed at step {kill_at}")
    common = {"folder": str(tmp_path), "trainer": trainer, "cached": cached, "num_train_epochs": 2, "save_steps": 3}
    assert run_on_ranks(jobs.distil, 1, name="alone", **common) == [0]
    # By fork: a worker of the fork server that the rank itself comes from would not see that the rank is gone.
    common |= {"dataloader_num_workers": 2, "dataloader_multiprocessing_context": "fork"}
    assert KILLED in run_on_ranks(jobs.distil, 1, name="killed", kill_at=kill_at, **common)
    assert run_on_ranks(jobs.distil, 1, name="killed", resume=True, **common) == [0]
    whole, resumed = (torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in ("alone", "killed"))
    assert whole.keys() == resumed.keys()
    assert [key for key in whole if not torch.equal(whole[key], resumed[key])] == []


def test_words_are_hidden_in_the_batches_of_workers(tokenizer, tmp_path):
    rows = tokenize_spans(texts(), tokenizer)

    def hidden(workers):
        args = tiny.arguments(
            tmp_path, VocabReducedMLMTrainingArguments, vocabulary_weight=0.0, dataloader_num_workers=workers
        )
        trainer = VocabReducedMLMTrainer(
            tiny.model("bert", "masked_lm"), None, args, train_dataset=rows, processing_class=tokenizer
        )
        return [trainer.read_batch(batch, training=True).hidden for batch in trainer.get_train_dataloader()]

    alone, beside = hidden(0), hidden(2)
    assert len(alone) == 3
    assert all(map(torch.equal, alone, beside))
