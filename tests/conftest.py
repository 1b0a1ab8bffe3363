"""What all tests share: no network, one thread per worker, few log lines."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("DS_ACCELERATOR", "cpu")

import pytest
import tiny
import torch
import transformers


@pytest.fixture(autouse=True, scope="session")
def _quiet_and_single_threaded():
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()


@pytest.fixture(scope="session")
def tokenizer():
    return tiny.tokenizer()
