"""Fingerprints: whatever changes what a model computes changes its name, and nothing else does."""

from __future__ import annotations

import json

import pytest
import tiny
import torch
from datasets import Dataset
from sentence_models import saved, sentence_transformer, transformer
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Router
from sentence_transformers.sentence_transformer.modules import Pooling
from transformers import AutoModel

from retort import Stage, StagedRun, shrink, tokenize
from retort.data import (
    fingerprint_model,
    fingerprint_rows,
    fingerprint_source,
    fingerprints,
    sha256_of,
    tokenize_groups,
    tokenize_spans,
)
from retort.modeling.encoding import SentenceEncoder
from retort.trainers.stages.plan import _COLUMNS


def recurrent(steps: int):
    return shrink(tiny.model(), layers=1, recurrent_steps=steps, embedding_size=8)


def test_the_same_weights_run_more_often_are_another_model(tmp_path):
    once, twice = recurrent(1), recurrent(2)
    assert all(map(torch.equal, once.state_dict().values(), twice.state_dict().values()))
    assert fingerprint_model(once) != fingerprint_model(twice)
    for name, model in {"once": once, "twice": twice}.items():
        model.save_pretrained(tmp_path / name)
    assert fingerprint_source(tmp_path / "once") != fingerprint_source(tmp_path / "twice")


def test_stages_of_a_student_run_once_are_not_those_of_one_run_twice(tmp_path):
    tokenizer = tiny.tokenizer()
    data = {"train": tokenize(Dataset.from_dict({"text": tiny.sentences(4)}), tokenizer)}

    def folder(steps: int):
        (planned,) = StagedRun(
            [Stage("only", {})], recurrent(steps), folder=tmp_path, data=data, processing_class=tokenizer
        ).plan
        return planned.folder

    assert folder(1) == folder(1) != folder(2)


def test_a_model_that_was_saved_and_loaded_is_the_same(tmp_path):
    model = tiny.model()
    model.save_pretrained(tmp_path / "here")
    loaded = AutoModel.from_pretrained(tmp_path / "here")
    assert fingerprint_model(loaded) == fingerprint_model(model)
    loaded.save_pretrained(tmp_path / "there")
    assert fingerprint_source(tmp_path / "there") == fingerprint_source(tmp_path / "here")


@pytest.mark.parametrize("file", ["config.json", "adapter_config.json"])
def test_a_folder_is_told_by_its_settings_but_not_by_the_version_that_wrote_it(file, tmp_path):
    tiny.model().save_pretrained(tmp_path)
    path = tmp_path / file
    settings = json.loads(path.read_text()) if path.exists() else {}

    def told(**changes):
        path.write_text(json.dumps(settings | changes))
        return fingerprint_source(tmp_path)

    assert told(transformers_version="5.0.0", _name_or_path="elsewhere") == told(transformers_version="5.23.0")
    assert told(scaling=2.0) != told(scaling=4.0)


def pickled(folder, seed: int, shards: bool = False):
    """A model's folder as older versions of transformers write it."""
    model = tiny.model(seed=seed)
    model.config.save_pretrained(folder)
    state = model.state_dict()
    if not shards:
        torch.save(state, folder / "pytorch_model.bin")
        return
    for index, (name, tensor) in enumerate(state.items(), start=1):
        torch.save({name: tensor}, folder / f"pytorch_model-{index:05d}-of-{len(state):05d}.bin")


@pytest.mark.parametrize("shards", [False, True])
def test_weights_in_pickles_are_told_apart(shards, tmp_path):
    for name, seed in {"a": 0, "b": 1, "again": 0}.items():
        (tmp_path / name).mkdir()
        pickled(tmp_path / name, seed, shards)
    a, b, again = (fingerprint_source(tmp_path / name) for name in ("a", "b", "again"))
    assert a == again != b


def test_weights_in_shards_are_told_apart_by_the_last_of_them(tmp_path):
    tiny.model().save_pretrained(tmp_path, max_shard_size="20KB")
    shards = sorted(tmp_path.glob("*.safetensors"))
    assert len(shards) > 1
    before, content = fingerprint_source(tmp_path), shards[-1].read_bytes()
    shards[-1].write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert fingerprint_source(tmp_path) != before


def test_the_modules_of_a_sentence_transformer_count_and_a_trainers_rests_do_not(tmp_path):
    tiny.model().save_pretrained(tmp_path)
    (tmp_path / "modules.json").write_text(json.dumps([{"path": ""}, {"path": "1_Pooling"}, {"path": "2_Dense"}]))
    for name in ("1_Pooling", "2_Dense"):
        (tmp_path / name).mkdir()
    pooling, dense = tmp_path / "1_Pooling" / "config.json", tmp_path / "2_Dense" / "model.safetensors"
    prints = []
    for mode, weights in (("mean", b"0"), ("cls", b"0"), ("cls", b"1")):
        pooling.write_text(json.dumps({"pooling_mode": mode}))
        dense.write_bytes(weights)
        prints.append(fingerprint_source(tmp_path))
    assert len(set(prints)) == 3
    (tmp_path / "training_args.bin").write_bytes(b"other output_dir")
    (tmp_path / "checkpoint-5").mkdir()
    (tmp_path / "checkpoint-5" / "model.safetensors").write_bytes(b"other weights")
    assert fingerprint_source(tmp_path) == prints[-1]


def routed(tokenizer, folder):
    """A SentenceTransformer with a Router after its pooling, saved."""
    routes = {task: [Dense(32, 8)] for task in ("query", "document")}
    first = transformer(folder.with_name("encoder"), tokenizer)
    saved(SentenceTransformer(modules=[first, Pooling(32), Router(routes)], device="cpu"), folder)
    return folder


def test_prompts_truncation_and_routes_of_a_folder_count_and_its_version_does_not(tokenizer, tmp_path):
    folder = routed(tokenizer, tmp_path / "saved")
    before = fingerprint_source(folder)

    def told(file: str, change: dict):
        path = folder / file
        original = path.read_text()
        path.write_text(json.dumps(json.loads(original) | change))
        try:
            return fingerprint_source(folder)
        finally:
            path.write_text(original)

    settings = "config_sentence_transformers.json"
    assert told(settings, {"__version__": {}, "similarity_fn_name": "dot"}) == before
    (router,) = (path.parent.name for path in folder.glob("*/router_config.json"))
    others = {
        told(settings, {"prompts": {"query": "a "}}),
        told(settings, {"default_prompt_name": "query"}),
        told(settings, {"truncate_dim": 4}),
        told("sentence_bert_config.json", {"max_seq_length": 9}),
        told(f"{router}/router_config.json", {"parameters": {"default_route": "document"}}),
    }
    assert len(others - {before}) == 5
    dense = next(folder.glob(f"{router}/document_*/model.safetensors"))
    dense.write_bytes(dense.read_bytes()[:-1] + b"1")
    assert fingerprint_source(folder) != before


@pytest.mark.parametrize("wrap", [SentenceEncoder.of, lambda model: model], ids=["encoder", "object"])
def test_the_modules_of_a_teacher_that_is_an_object_count_for_its_stages(wrap, tokenizer, tmp_path):
    theirs = sentence_transformer(tmp_path / "encoder", tokenizer, "cls, dense, tanh, normalize")
    data = {"train": tokenize(Dataset.from_dict({"text": tiny.sentences(4)}), tokenizer)}

    def folder():
        (planned,) = StagedRun(
            [Stage("only", {})], tiny.model(), wrap(theirs), folder=tmp_path, data=data, processing_class=tokenizer
        ).plan
        return planned.folder

    found = [folder()]
    for change in (
        lambda: theirs[2].linear.bias.data.add_(1),
        lambda: setattr(theirs[2], "activation_function", torch.nn.Identity()),
        lambda: setattr(theirs, "truncate_dim", 8),
        lambda: setattr(theirs[1], "pooling_mode", "mean"),
        lambda: (theirs.prompts.update(query="the old man "), setattr(theirs, "default_prompt_name", "query")),
        lambda: setattr(theirs[1], "include_prompt", False),
    ):
        change()
        found.append(folder())
        assert found[-1] == folder()
    assert len(set(found)) == 7


def test_a_folder_without_weights_has_no_name(tmp_path):
    tiny.model().config.save_pretrained(tmp_path)
    with pytest.raises(FileNotFoundError, match="holds no weights"):
        fingerprint_source(tmp_path)


def test_other_scores_of_the_same_groups_make_another_stage():
    groups = {"members": [[[1], [2], [3]]] * 2, "length": [3, 3]}
    first, other = (Dataset.from_dict(groups | {"scores": [[score, 0.0]] * 2}) for score in (1.0, 2.0))
    assert fingerprint_rows(first, *_COLUMNS) != fingerprint_rows(other, *_COLUMNS)


def test_groups_of_texts_are_told_apart():
    def groups(seed: int) -> Dataset:
        texts = {side: tiny.sentences(8, seed=seed + i) for i, side in enumerate(("anchor", "positive"))}
        return tokenize_groups(Dataset.from_dict(texts), tiny.tokenizer())

    assert fingerprint_rows(groups(0)) == fingerprint_rows(groups(0)) != fingerprint_rows(groups(5))


@pytest.mark.parametrize("make", [tokenize, tokenize_groups, tokenize_spans])
@pytest.mark.parametrize("changed", ["encoder.py", "groups.py", "spans.py", "texts.py", "tokenization.py", "words.py"])
def test_tokens_are_made_anew_by_changed_code(make, changed, monkeypatch, request):
    rows = Dataset.from_dict({"text": tiny.sentences(4)})
    request.addfinalizer(fingerprints._code.cache_clear)
    before = make(rows, tiny.tokenizer())._fingerprint
    assert make(rows, tiny.tokenizer())._fingerprint == before
    monkeypatch.setattr(fingerprints, "sha256_of", lambda file: sha256_of(file) * (file.name != changed))
    fingerprints._code.cache_clear()
    assert make(rows, tiny.tokenizer())._fingerprint != before


def test_rows_without_tokens_have_no_name():
    with pytest.raises(ValueError, match="the columns text, but no token ids"):
        fingerprint_rows(Dataset.from_dict({"text": ["a"]}))
