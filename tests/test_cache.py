"""The teacher cache: equal to a live teacher, computed once, resumed where it stopped, refused where it doesn't fit."""

import json
import math
import os
import shutil
from functools import cache
from pathlib import Path

import pytest
import tiny
import torch
from datasets import Dataset
from ranks import run_on_ranks

from retort import DistillationCollator, DistillTrainer, cache_teacher, shrink, tokenize
from retort.collators import InputFormat
from retort.modeling.encoding import OutputRequest
from retort.trainers.teachers import LiveTeacher, open_cache
from retort.trainers.teachers.cache_files import CorruptCacheError, StaleCacheError

TOKENS = {"logits_weight": 1.0, "hidden_weight": 1.0, "relation_weight": 1.0}
# What a run compares: the head of both models, and the arguments.
CASES = {
    "embedding": ("encoder", {"embedding_weight": 1.0, "pooler": "mean_last_two", "teacher_pooler": "cls"}),
    "similarity": ("encoder", {"similarity_weight": 1.0}),
    "logits of tokens": ("token", {"logits_weight": 1.0}),
    "logits of rows": ("sequence", {"logits_weight": 1.0, "logits_loss": "mse"}),
    "logits of a masked LM": ("masked_lm", {"logits_weight": 1.0}),
    "features of tokens": ("token", {"features_weight": 1.0}),
    "features of rows": ("sequence", {"features_weight": 1.0, "hidden_loss": "cosine"}),
    "first hidden states": ("sequence", {"hidden_weight": 1.0, "hidden_tokens": "first"}),
    "hidden states": ("encoder", {"hidden_weight": 1.0, "layer_map": "average"}),
    "relations": ("encoder", {"relation_weight": 1.0, "relation_map": "1:2,2:3"}),
    "attention maps": ("encoder", {"attention_weight": 1.0}),
    "all together": ("token", TOKENS | {"embedding_weight": 1.0, "similarity_weight": 1.0, "attention_weight": 1.0}),
}


@cache
def rows(tokenizer, count=24, seed=0, **options):
    return tokenize(Dataset.from_dict({"text": tiny.sentences(count, seed=seed)}), tokenizer, **options)


def trainer_of(folder, data, tokenizer, *, task="token", live=True, teacher_seed=0, dtype="float32", **settings):
    """A run with the teacher cache `folder/cache` if `teacher_cache=True` (the default)."""
    teacher = tiny.model("bert", task, layers=4, seed=teacher_seed)
    student = shrink(tiny.model("bert", task, layers=4), layers=2, hidden_size=24)
    if "attention_weight" in settings:
        for model in (teacher, student):
            model.set_attn_implementation("eager")
    other_tokenizer = settings.pop("teacher_processing_class", None)
    eval_dataset = settings.pop("eval_dataset", None)
    use_cache = settings.pop("teacher_cache", True)
    args = tiny.arguments(
        folder / "run",
        max_steps=5,
        # Adam would blow differences of 1e-9 in gradients near zero up to whole steps.
        optim="sgd",
        learning_rate=0.1,
        save_strategy="no",
        relation_heads=4,
        teacher_cache=str(folder / "cache") if use_cache else None,
        teacher_cache_dtype=dtype,
        **settings,
    )
    return DistillTrainer(
        student,
        teacher if live else None,
        args,
        train_dataset=data,
        eval_dataset=eval_dataset,
        processing_class=tokenizer,
        teacher_processing_class=other_tokenizer,
    )


def trained(trainer):
    """Loss curve and final weights."""
    trainer.train()
    curve = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return curve, torch.cat([p.detach().flatten() for p in trainer.model.parameters()])


@pytest.fixture
def teacher_calls(monkeypatch):
    """How many rows each call of a live teacher got."""
    calls, outputs = [], LiveTeacher.outputs

    def counted(self, batch):
        calls.append(batch.layout.rows)
        return outputs(self, batch)

    monkeypatch.setattr(LiveTeacher, "outputs", counted)
    return calls


# --- Equal to a live teacher ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_a_run_from_the_cache_is_the_live_run(case, tokenizer, tmp_path, teacher_calls):
    task, settings = CASES[case]
    settings = {"data": rows(tokenizer), "tokenizer": tokenizer, "task": task} | settings
    live = trained(trainer_of(tmp_path, teacher_cache=False, **settings))
    assert sum(teacher_calls) == 5 * 8
    teacher_calls.clear()
    caching = trained(trainer_of(tmp_path, **settings))
    # The whole text once, and its first row to learn the shapes.
    assert sum(teacher_calls) == 24 + 1
    teacher_calls.clear()
    again = trained(trainer_of(tmp_path, **settings))
    alone = trained(trainer_of(tmp_path, live=False, **settings))
    assert teacher_calls == []
    for curve, weights in (caching, again, alone):
        assert curve == pytest.approx(live[0], abs=1e-6)
        torch.testing.assert_close(weights, live[1], rtol=0, atol=1e-6)


def test_half_precision_costs_the_rounding_and_no_more(tokenizer, tmp_path):
    task, settings = CASES["all together"]
    settings = {"data": rows(tokenizer), "tokenizer": tokenizer, "task": task} | settings
    curve, _ = trained(trainer_of(tmp_path, teacher_cache=False, **settings))
    exact = trainer_of(tmp_path / "exact", **settings).train_dataset
    trainer = trainer_of(tmp_path, dtype="float16", **settings)
    names = [name for name in exact.column_names if name.startswith("teacher_")]
    # 1 embedding, 1 of logits, 3 hidden states, 2 attention maps, and queries, keys and values of a layer.
    assert len(names) == 10
    for name in names:
        for rounded, whole in zip(trainer.train_dataset[name], exact[name], strict=True):
            rounded, whole = torch.as_tensor(rounded), torch.as_tensor(whole)
            assert torch.equal(rounded, rounded.half().float())
            torch.testing.assert_close(rounded, whole, rtol=2**-11, atol=1e-6)
    assert trained(trainer)[0] == pytest.approx(curve, rel=1e-3)


def test_a_teacher_with_another_tokenizer_is_cached_by_its_own_tokens(tokenizer, tmp_path, teacher_calls):
    other = tiny.tokenizer("bpe")
    data = rows(tokenizer, teacher_tokenizer=other, align=True)
    settings = {"data": data, "tokenizer": tokenizer, "teacher_processing_class": other, "hidden_weight": 1.0}
    settings |= {"logits_weight": 1.0, "embedding_weight": 1.0}
    live = trained(trainer_of(tmp_path, teacher_cache=False, **settings))
    caching = trained(trainer_of(tmp_path, **settings))
    teacher_calls.clear()
    alone = trained(trainer_of(tmp_path, live=False, **settings))
    assert teacher_calls == []
    for curve, weights in (caching, alone):
        assert curve == pytest.approx(live[0], abs=1e-6)
        torch.testing.assert_close(weights, live[1], rtol=0, atol=1e-6)


def test_a_packed_teacher_and_a_padded_one_read_the_same_cache(tokenizer, tmp_path, teacher_calls):
    data = rows(tokenizer)
    settings = {"data": data, "eval_dataset": data, "tokenizer": tokenizer} | TOKENS
    packed = trainer_of(tmp_path, **settings)
    teacher_calls.clear()
    padded = trainer_of(tmp_path, attention_backend="padded", **settings)
    assert teacher_calls == []
    assert (packed.data_collator.student.packed, padded.data_collator.student.packed) == (True, False)
    assert padded.evaluate()["eval_loss"] == pytest.approx(packed.evaluate()["eval_loss"], rel=1e-5)


def test_shuffled_and_chosen_rows_keep_their_outputs(tokenizer, tmp_path):
    data = rows(tokenizer, 40).train_test_split(16, seed=0)["train"].shuffle(seed=1)
    settings = {"data": data, "tokenizer": tokenizer} | TOKENS | {"embedding_weight": 1.0}
    live = trained(trainer_of(tmp_path, teacher_cache=False, **settings))
    for live_teacher in (True, False):
        curve, weights = trained(trainer_of(tmp_path, live=live_teacher, **settings))
        assert curve == pytest.approx(live[0], abs=1e-6)
        torch.testing.assert_close(weights, live[1], rtol=0, atol=1e-6)


def test_evaluation_sets_are_cached_too(tokenizer, tmp_path, teacher_calls):
    settings = {"data": rows(tokenizer), "tokenizer": tokenizer, "logits_weight": 1.0}
    settings["eval_dataset"] = {"dev": rows(tokenizer, seed=1), "other": rows(tokenizer, seed=2)}
    live = trainer_of(tmp_path, teacher_cache=False, **settings).evaluate()
    trainer_of(tmp_path, **settings)
    teacher_calls.clear()
    cached = trainer_of(tmp_path, live=False, **settings).evaluate()
    assert teacher_calls == []
    for name in ("eval_dev_loss", "eval_other_loss"):
        assert cached[name] == pytest.approx(live[name], abs=1e-6)


@pytest.mark.parametrize("named", [True, False])
def test_evaluation_alone_needs_no_cached_training_rows(named, tokenizer, tmp_path, teacher_calls):
    dev = rows(tokenizer, seed=1)
    settings = {"data": None, "eval_dataset": {"dev": dev} if named else dev, "tokenizer": tokenizer}
    live = trainer_of(tmp_path, logits_weight=1.0, **settings).evaluate()
    teacher_calls.clear()
    cached = trainer_of(tmp_path, live=False, logits_weight=1.0, **settings).evaluate()
    assert teacher_calls == []
    loss = "eval_dev_loss" if named else "eval_loss"
    assert cached[loss] == pytest.approx(live[loss], abs=1e-6)


@pytest.mark.promise(9)
@pytest.mark.parametrize("name", ["../out", "/abs", "..", "a/b", ""])
def test_the_name_of_an_evaluation_set_does_not_leave_the_cache(name, tokenizer, tmp_path):
    settings = {"data": rows(tokenizer), "tokenizer": tokenizer, "logits_weight": 1.0}
    with pytest.raises(ValueError, match=r"An evaluation set is called .* a folder is named after it"):
        trainer_of(tmp_path / "run", eval_dataset={"dev": rows(tokenizer, seed=1), name: rows(tokenizer)}, **settings)
    assert os.listdir(tmp_path) in ([], ["run"])


# --- Interrupted and resumed, by one process or several ---------------------------------------------------------------

REQUEST = OutputRequest(logits=True, hidden_states=frozenset({2}), pooler="mean")


def write_cache(folder, fail_at=None):
    """Cache 24 rows in 3 shards of 2 batches each; the calls of the teacher, one of which may fail."""
    tokenizer = tiny.tokenizer()
    teacher = LiveTeacher([tiny.model("bert", "token", layers=4)], REQUEST)
    outputs, calls = teacher.outputs, []

    def counted(batch):
        calls.append(batch.layout.rows)
        if len(calls) == fail_at:
            raise InterruptedError("the power is gone")
        return outputs(batch)

    teacher.outputs = counted
    collator = DistillationCollator(InputFormat.of(teacher.models[0], tokenizer))
    options = {"collator": collator, "dtype": "float32", "batch_size": 4, "rows_per_shard": 8}
    return cache_teacher(teacher, rows(tokenizer), folder, **options), calls


def shard(folder, index, suffix="arrow"):
    return folder / f"shard-{index:05d}.{suffix}"


def test_an_interrupted_cache_goes_on_at_the_shard_where_it_stopped(tokenizer, tmp_path):
    whole, calls = write_cache(tmp_path / "whole")
    assert calls == 3 * [1, 4, 4]
    with pytest.raises(InterruptedError):
        write_cache(tmp_path / "cache", fail_at=6)
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == [
        "cache.json",
        "shard-00000.arrow",
        "shard-00000.json",
    ]
    with pytest.raises(FileNotFoundError, match=r"not complete: 2 of 3 shards are missing.* Run the same command"):
        open_cache(tmp_path / "cache", REQUEST, rows(tokenizer))
    written_at = shard(tmp_path / "cache", 0).stat().st_mtime_ns
    resumed, calls = write_cache(tmp_path / "cache")
    assert calls == 2 * [1, 4, 4]
    assert shard(tmp_path / "cache", 0).stat().st_mtime_ns == written_at
    assert resumed.data.table.equals(whole.data.table)


def test_a_shard_whose_note_was_never_written_is_computed_anew_and_no_other(tmp_path):
    whole, _ = write_cache(tmp_path)
    whole = whole.with_format(None)[:]
    shard(tmp_path, 1, "json").unlink()
    resumed, calls = write_cache(tmp_path)
    assert calls == [1, 4, 4]
    assert resumed.with_format(None)[:] == whole


def test_what_a_kill_left_in_a_cache_goes_with_the_next_run_though_no_shard_is_missing(tmp_path):
    write_cache(tmp_path)
    before = sorted(os.listdir(tmp_path))
    half = tmp_path / "_incomplete-0123456789ab"
    half.mkdir()
    shutil.copy(shard(tmp_path, 0), half)
    _, calls = write_cache(tmp_path)
    assert calls == []
    assert sorted(os.listdir(tmp_path)) == before


def write_cache_on_a_rank(folder):
    _, calls = write_cache(Path(folder))
    (Path(folder).parent / f"calls-{os.environ['RANK']}.json").write_text(json.dumps(calls))


def test_two_ranks_share_the_shards_and_write_what_one_process_writes(tokenizer, tmp_path):
    whole, _ = write_cache(tmp_path / "one")
    assert run_on_ranks(write_cache_on_a_rank, 2, folder=str(tmp_path / "two")) == [0, 0]
    calls = [json.loads((tmp_path / f"calls-{rank}.json").read_text()) for rank in range(2)]
    assert calls == [2 * [1, 4, 4], [1, 4, 4]]
    shared = open_cache(tmp_path / "two", REQUEST, rows(tokenizer))
    assert shared.data.table.equals(whole.data.table)
    assert sorted(p.name for p in (tmp_path / "one").iterdir()) == sorted(p.name for p in (tmp_path / "two").iterdir())
    for index in range(3):
        one, two = (json.loads(shard(tmp_path / name, index, "json").read_text()) for name in ("one", "two"))
        assert one["rows"] == two["rows"] == 8


# --- What does not fit is refused -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def written(tokenizer, tmp_path_factory):
    """A folder with a cache, and the arguments of its run."""
    folder = tmp_path_factory.mktemp("cached")
    settings = {"data": rows(tokenizer), "tokenizer": tokenizer, "hidden_weight": 1.0, "embedding_weight": 1.0}
    trainer_of(folder, **settings)
    return folder, settings


@pytest.fixture
def cached(written, tmp_path):
    """The arguments of a run whose cache has been written."""
    folder, settings = written
    shutil.copytree(folder / "cache", tmp_path / "cache")
    return settings


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"teacher_seed": 1}, "the teacher's weights or settings differ"),
        ({"text": 1}, "the text or its tokens differ"),
        ({"tokenizer": "bpe"}, "the text or its tokens differ"),
        ({"teacher_pooler": "cls_before_pooler"}, r"the outputs \(layers, pooler\) differ"),
        ({"layer_map": "last"}, r"the outputs \(layers, pooler\) differ"),
        ({"relation_weight": 1.0}, r"the outputs \(layers, pooler\) differ"),
        ({"dtype": "float16"}, "the dtype of the stored outputs differ"),
        ({"bf16": True}, "the dtype in which the teacher computes differ"),
        (
            {"teacher_seed": 1, "layer_map": "last"},
            r"the teacher's weights or settings, the outputs \(layers, pooler\) differ",
        ),
        ({"live": False, "text": 1}, "the text or its tokens differ"),
        ({"live": False, "layer_map": "last"}, r"the outputs \(layers, pooler\) differ"),
    ],
)
def test_a_cache_of_something_else_is_refused_and_stays(changes, message, cached, tmp_path):
    if "text" in changes:
        changes = {"data": rows(cached["tokenizer"], seed=changes["text"])} | changes
        del changes["text"]
    if "tokenizer" in changes:
        other = tiny.tokenizer(changes["tokenizer"])
        changes = {"data": rows(other), "tokenizer": other}
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(StaleCacheError, match=f"made from something else: {message}. Name another folder"):
        trainer_of(tmp_path, **cached | changes)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.promise(9)
@pytest.mark.parametrize("live", [True, False])
@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("shard-00000.arrow", lambda content: content[:-100]),
        ("shard-00000.arrow", lambda content: content[:500] + bytes([content[500] ^ 1]) + content[501:]),
        ("shard-00000.arrow", lambda content: None),
        ("shard-00000.json", lambda content: content[:-4]),
        ("shard-00000.json", lambda content: b"[]"),
        ("cache.json", lambda content: content[:-4]),
        ("cache.json", lambda content: b""),
        ("cache.json", lambda content: b"[]"),
        ("cache.json", lambda content: b"{}"),
        ("cache.json", lambda content: content.replace(b"rows", b"r\xffws")),
    ],
)
def test_a_damaged_cache_is_an_error_that_names_the_file(file, damage, live, cached, tmp_path):
    path = tmp_path / "cache" / "train" / file
    content = damage(path.read_bytes())
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    with pytest.raises(CorruptCacheError, match=file):
        trainer_of(tmp_path, live=live, **cached)


def test_what_the_error_says_mends_a_damaged_shard(cached, tmp_path, teacher_calls):
    folder = tmp_path / "cache" / "train"
    shard(folder, 0).write_bytes(shard(folder, 0).read_bytes()[:-100])
    with pytest.raises(CorruptCacheError, match=r"Delete .*shard-00000.json and run again"):
        trainer_of(tmp_path, **cached)
    shard(folder, 0, "json").unlink()
    trainer_of(tmp_path, **cached)
    assert sum(teacher_calls) == 24 + 1


@pytest.mark.promise(9)
def test_a_cache_that_is_not_there_can_not_stand_for_a_teacher(cached, tmp_path):
    shutil.rmtree(tmp_path / "cache")
    with pytest.raises(FileNotFoundError, match="holds no teacher cache"):
        trainer_of(tmp_path, live=False, **cached)


@pytest.mark.promise(9)
def test_rows_without_cached_outputs_are_refused(cached, tokenizer, tmp_path):
    trainer = trainer_of(tmp_path, live=False, **cached)
    with pytest.raises(ValueError, match="no cached outputs"):
        trainer.evaluate(rows(tokenizer, seed=4))


def test_a_run_without_rows_asks_its_live_teacher(tokenizer, tmp_path):
    settings = {"data": None, "tokenizer": tokenizer, "logits_weight": 1.0}
    live, cached = (trainer_of(tmp_path, teacher_cache=given, **settings) for given in (False, True))
    others = rows(tokenizer, seed=4)
    assert cached.evaluate(others)["eval_loss"] == pytest.approx(live.evaluate(others)["eval_loss"], rel=1e-6)


@pytest.mark.promise(9)
def test_cached_outputs_of_another_run_are_refused_beside_a_teacher(cached, tokenizer, tmp_path):
    trainer, others = trainer_of(tmp_path, **cached), rows(tokenizer, seed=4)
    stale = others.add_column("teacher_logits", [[[0.0]]] * len(others))
    with pytest.raises(
        ValueError, match=r"evaluation rows hold a teacher's outputs \(teacher_logits\) that this trainer has not"
    ):
        trainer.evaluate(stale)
    trainer.evaluate(others)
    trainer.evaluate(trainer.train_dataset)


@pytest.mark.promise(9)
@pytest.mark.parametrize(("bias", "message"), [(1e6, "too large for float16: set"), (math.nan, "Check the teacher")])
def test_outputs_that_are_not_finite_in_the_cache_are_refused(bias, message, tokenizer, tmp_path, monkeypatch):
    teacher, parent = (tiny.model("bert", "token", layers=4) for _ in range(2))
    torch.nn.init.constant_(teacher.classifier.bias, bias)
    models = iter((teacher, parent))
    monkeypatch.setattr(tiny, "model", lambda *args, **settings: next(models))
    with pytest.raises(ValueError, match=rf"outputs \(logits\) are not finite in the cache. .*{message}"):
        trainer_of(tmp_path, rows(tokenizer), tokenizer, dtype="float16", logits_weight=1.0).train()
