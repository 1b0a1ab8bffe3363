"""Files for readers, and a cache of datasets that a test has to itself."""

import gzip

import datasets
import pytest


@pytest.fixture
def own_cache(tmp_path_factory, monkeypatch):
    """Nothing that another test has converted is found."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


@pytest.fixture
def write(tmp_path):
    """Writes a file of a name, compressed where it ends in `.gz`; returns its path."""

    def write_file(name, contents):
        file = tmp_path / name
        contents = contents.encode() if isinstance(contents, str) else contents
        file.write_bytes(gzip.compress(contents) if name.endswith(".gz") else contents)
        return file

    return write_file
