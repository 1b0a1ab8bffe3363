"""Fingerprints: whatever changes what a model computes changes its name, and nothing else does."""

from __future__ import annotations

import json

import pytest
import tiny
import torch
from datasets import Dataset
from transformers import AutoModel

from retort import Stage, StagedRun, shrink, tokenize
from retort.data import fingerprint_model, fingerprint_source


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
