"""Small folders of tasks, which tests change file by file."""

from __future__ import annotations

import gzip
import logging

import datasets
import pytest

TAGGED = {
    "train.tsv": "Anna lives in Bonn\tB-PER O O B-LOC\nno one\tO O\n",
    "dev.tsv": "Bonn\tB-LOC\nin Bonn\tO B-LOC\n",
}
CLASSIFIED = {"train.tsv": "good film\tpos\nbad film\tneg\n", "dev.tsv": "bad\tneg\n"}


@pytest.fixture
def own_cache(tmp_path_factory, monkeypatch):
    """What other tests have read is read anew."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


@pytest.fixture
def task_folder(tmp_path):
    def write_files(files, name="task"):
        place = tmp_path / name
        place.mkdir(exist_ok=True)
        for file, contents in files.items():
            data = contents.encode()
            (place / file).write_bytes(gzip.compress(data) if file.endswith(".gz") else data)
        return place

    return write_files


@pytest.fixture
def log(caplog):
    caplog.set_level(logging.WARNING, logger="retort")
    return caplog


def named(task, split):
    """The tags of a split by their names."""
    return [[task.labels[label] for label in row] for row in task.splits[split]["labels"]]
