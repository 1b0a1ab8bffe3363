"""Sizes against files and hand counts."""

import dataclasses

import pytest
import tiny
import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from torch import nn

from retort.evaluation import Footprint


@pytest.mark.parametrize("family", tiny.FAMILIES)
@pytest.mark.parametrize("task", ["encoder", "masked_lm"])
def test_megabytes_are_those_of_the_tensors_that_save_pretrained_writes(family, task, tmp_path):
    model = tiny.model(family, task)
    model.save_pretrained(tmp_path)
    size = sum(tensor.nbytes for tensor in load_file(tmp_path / "model.safetensors").values())
    assert Footprint.of(model).megabytes == pytest.approx(size / 1e6)


def test_embeddings_are_counted_apart_and_tied_ones_once():
    sizes = {"layers": 1, "hidden": 8, "heads": 2, "intermediate": 16, "vocab_size": 50}
    norm, attention, feed_forward = 2 * 8, 4 * (8 * 8 + 8), 8 * 16 + 16 + 16 * 8 + 8
    tables = (50 + 66 + 2) * 8
    rest = norm + attention + norm + feed_forward + norm
    head = 8 * 8 + 8 + norm + 50
    found = Footprint.of(tiny.model("bert", "masked_lm", **sizes))
    assert found.parameters == tables + rest + head
    assert found.parameters_without_embeddings == rest + head
    assert found.megabytes == pytest.approx(4e-6 * found.parameters)


def test_megabytes_are_of_float32_whatever_the_model_has_now():
    assert Footprint.of(tiny.model().bfloat16()) == Footprint.of(tiny.model())


def test_buffers_that_are_saved_count_and_others_do_not():
    module = nn.Linear(3, 1, bias=False)
    module.register_buffer("saved", torch.zeros(10, dtype=torch.int64))
    module.register_buffer("left", torch.zeros(1000), persistent=False)
    assert Footprint.of(module).megabytes == pytest.approx((3 * 4 + 10 * 8) / 1e6)


def test_a_sentence_transformer_has_the_footprint_of_its_encoder(tokenizer, tmp_path):
    model = tiny.model()
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    assert Footprint.of(SentenceTransformer(str(tmp_path), device="cpu")) == Footprint.of(model)


def test_a_file_has_the_parameters_of_its_model_and_the_megabytes_of_its_bytes(tmp_path):
    model = tiny.model()
    (tmp_path / "model.onnx").write_bytes(bytes(12_345))
    found = Footprint.of_file(tmp_path / "model.onnx", model)
    assert found == dataclasses.replace(Footprint.of(model), megabytes=0.012345)


def test_a_file_that_is_missing_has_no_size(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"model\.onnx"):
        Footprint.of_file(tmp_path / "model.onnx", tiny.model())
