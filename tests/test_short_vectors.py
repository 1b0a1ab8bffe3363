"""Embeddings that are truncated (Matryoshka) and quantised: in training, as sentence-transformers does it at use."""

import re
from dataclasses import asdict

import numpy as np
import pytest
import test_examples
import tiny
import torch
import torch.nn.functional as F
import yaml
from datasets import Dataset
from ranks import run_on_ranks
from sentence_transformers import SentenceTransformer
from sentence_transformers.util import quantize_embeddings
from steps import step_of

from retort import DistillTrainer, DistillTrainingArguments, shrink, tokenize
from retort.cli import main
from retort.data.readers import read_sts
from retort.evaluation import ModelRow, Quality, Report, Role, markdown_table, read_report, text_table, write_report
from retort.evaluation.sentences import rank_correlation, short_vectors, sts_spearman
from retort.modeling.encoding import SentenceEncoder, read_int8_ranges
from retort.modeling.losses import (
    EmbeddingQuantizer,
    binary_codes,
    cosines_of_signs,
    int8_codes,
    similarity_matrix_error,
)
from retort.modeling.onnx import OnnxModel, embedding_inputs
from retort.trainers.saving import save_embeddings_onnx
from retort.trainers.stages import StageResult
from retort.trainers.stages.results import publish

folder = test_examples.folder

TEXTS = tiny.sentences(32)
SHORT = {"embedding_weight": 1.0, "truncate_dims": [32, 16, 8]}


def trainer_of(folder, *, size=8, **settings):
    """Distils two of four layers. Student and teacher are 32 wide."""
    teacher, tokenizer = tiny.model("bert", layers=4), tiny.tokenizer()
    data = tokenize(Dataset.from_dict({"text": TEXTS}), tokenizer)
    named = {"per_device_train_batch_size": size, "max_steps": 6, "save_strategy": "no"} | SHORT | settings
    args = tiny.arguments(folder, DistillTrainingArguments, **named)
    student = shrink(teacher, layers=[0, 2])
    return DistillTrainer(student, teacher, args, train_dataset=data, processing_class=tokenizer)


def vectors(rows, dims=16, seed=0):
    return torch.randn(rows, dims, generator=torch.Generator().manual_seed(seed))


# --- Quantisation ---------------------------------------------------------------------------------------------------


def test_codes_are_those_of_quantize_embeddings():
    some, ranges = vectors(50), torch.stack(vectors(200, seed=1).mul(0.5).aminmax(dim=0))  # half are out of range
    expected = quantize_embeddings(some.numpy(), "int8", ranges=ranges.numpy())
    assert np.array_equal(int8_codes(some, ranges).numpy(), expected)
    bits = np.unpackbits(quantize_embeddings(some.numpy(), "ubinary"), axis=-1).astype(float)
    hamming = (bits[:, None] != bits).sum(-1)
    torch.testing.assert_close(binary_codes(some) @ binary_codes(some).T, torch.tensor(1 - 2 * hamming / 16).float())
    assert (binary_codes(torch.zeros(1, 4)) < 0).all()  # as `embeddings > 0`


def test_signs_of_gaussian_vectors_have_the_expected_cosines():
    mixed = torch.eye(2).repeat(2, 1)
    mixed[2:] = torch.tensor([[0.8, 0.6], [-0.3, (1 - 0.09) ** 0.5]])
    found = binary_codes(mixed @ vectors(2, dims=1_000_000)).double()
    torch.testing.assert_close(found @ found.T, cosines_of_signs((mixed @ mixed.T).double()), rtol=0, atol=0.005)


def test_gradients_pass_straight_through_rounding():
    some, weights = vectors(5).requires_grad_(), vectors(5, seed=2)
    ranges = torch.tensor([[-4.0], [6.0]]).repeat(1, 16)
    (gradient,) = torch.autograd.grad((int8_codes(some, ranges) * weights).sum(), some)
    torch.testing.assert_close(gradient, weights * 255 / 10)  # 255 codes over a range of 10
    (gradient,) = torch.autograd.grad((binary_codes(some) * weights).sum(), some)
    torch.testing.assert_close(gradient, weights)


def test_ranges_widen_at_once_and_shrink_by_a_hundredth_of_the_way():
    quantizer = EmbeddingQuantizer("int8", 1, normalize=False).train()
    first = torch.tensor([[-2.0], [1.0]])
    assert torch.equal(quantizer(first), first)  # there are no ranges yet
    quantizer(torch.tensor([[3.0]]))  # another micro-batch of this step
    quantizer.update(lambda seen: seen)
    assert quantizer.ranges.tolist() == [[-2.0], [3.0]]
    quantizer(torch.tensor([[-1.0], [4.0]]))
    quantizer.update(lambda seen: torch.cat([seen, torch.tensor([[[0.0], [5.0]]])]))  # of another rank
    assert quantizer.ranges.flatten().tolist() == pytest.approx([-1.99, 5.0])
    quantizer.eval()(torch.tensor([[100.0]]))  # evaluation measures nothing
    quantizer.update(lambda seen: seen)
    assert quantizer.ranges.flatten().tolist() == pytest.approx([-1.99, 5.0])


def test_a_step_with_nan_changes_no_range():
    quantizer = EmbeddingQuantizer("int8", 2, normalize=False).train()
    for step in ([[1.0, torch.nan], [2.0, 0.0]], [[1.0, 3.0], [2.0, 4.0]], [[torch.inf, 5.0], [-torch.inf, 3.5]]):
        quantizer(torch.tensor(step))
        quantizer.update(lambda seen: seen)
    assert quantizer.ranges.flatten().tolist() == pytest.approx([1.0, 3.005, 2.0, 5.0])


# --- Training -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["int8", "binary"])
def test_losses_are_those_of_cosines_of_short_vectors_with_the_teachers_whole_ones(precision, tmp_path):
    trainer = trainer_of(tmp_path, quantization_aware=precision, learning_rate=0.0, embedding_weight=2.0)
    for _ in range(2):  # the second step has ranges
        (batch,), step = step_of(trainer, range(8))
        trainer.training_step(trainer.model, batch, step)
    trainer.model.eval()
    theirs = trainer.run_teacher(batch).embedding
    ours = F.normalize(trainer.model(batch.student, batch.layout).embedding.detach(), dim=-1)
    ranges = torch.stack(ours.aminmax(dim=0))
    codes = ours.sign() if precision == "binary" else quantize_embeddings(ours.numpy(), "int8", ranges=ranges.numpy())
    codes = torch.as_tensor(codes).float()
    expected = {"embedding": 1 - F.cosine_similarity(ours, theirs)}
    expected |= {f"similarity_{d}": similarity_matrix_error(ours[:, :d], theirs) for d in (16, 8)}
    target = F.normalize(theirs, dim=-1) @ F.normalize(theirs, dim=-1).T
    target = torch.asin(target.double().clamp(-1, 1)).float() * 2 / torch.pi if precision == "binary" else target
    for d in (32, 16, 8):
        cosines = F.normalize(codes[:, :d], dim=-1) @ F.normalize(codes[:, :d], dim=-1).T
        expected[f"similarity_{d}_{precision}"] = (cosines - target).square().mean(-1)
    found = {o.name: o.values(o(trainer.model(batch.student, batch.layout).encoder), trainer.run_teacher(batch), batch)
             for o in trainer.objectives}  # fmt: skip
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        torch.testing.assert_close(found[name], values, rtol=1e-4, atol=1e-6, msg=name)
    weights = {objective.name: objective.weight for objective in trainer.objectives}
    assert weights.pop("embedding") == 2.0
    assert set(weights.values()) == {2.0 / 5}  # 16, 8, and three quantised vectors


def job(folder, name, **settings):
    settings |= {"quantization_aware": "int8", "train_sampling_strategy": "sequential"}
    trainer = trainer_of(f"{folder}/{name}", **settings)
    trainer.train()
    if trainer.args.process_index == 0:
        torch.save(trainer.model.state_dict(), f"{folder}/{name}.pt")


@pytest.mark.promise(3)
def test_ranges_and_weights_depend_neither_on_ranks_nor_on_micro_batches(tmp_path):
    job(tmp_path, "one", size=8)
    job(tmp_path, "accumulated", size=4, gradient_accumulation_steps=2)
    assert run_on_ranks(job, 2, folder=str(tmp_path), name="ranks", size=4) == [0, 0]
    one, *others = (torch.load(tmp_path / f"{n}.pt", weights_only=True) for n in ("one", "accumulated", "ranks"))
    assert one["quantizer.ranges"].isfinite().all()
    for other in others:
        for name, weights in one.items():
            torch.testing.assert_close(other[name], weights, rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.promise(2)
def test_a_resumed_run_has_bitwise_the_ranges_and_weights_of_a_whole_one(tmp_path):
    saving = {"quantization_aware": "int8", "save_strategy": "steps", "save_steps": 3}
    whole = trainer_of(tmp_path, **saving)
    whole.train()
    resumed = trainer_of(tmp_path, **saving)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    weights = resumed.model.state_dict()
    assert [name for name, each in whole.model.state_dict().items() if not torch.equal(each, weights[name])] == []


# --- Exports --------------------------------------------------------------------------------------------------------


@pytest.mark.promise(5)
def test_a_truncated_and_quantised_export_is_equal_everywhere(tmp_path):
    trainer = trainer_of(tmp_path, quantization_aware="int8")
    trainer.train()
    trainer.save_model()
    texts = TEXTS[:10]
    theirs = SentenceTransformer(str(tmp_path), truncate_dim=8)
    short = SentenceEncoder.of(theirs)
    expected = theirs.encode(texts)
    assert expected.shape == (10, 8)
    np.testing.assert_allclose(short.encode(texts), expected, atol=1e-5)
    np.testing.assert_allclose(SentenceEncoder.from_pretrained(tmp_path).encode(texts)[:, :8], expected, atol=1e-5)
    save_embeddings_onnx(short, tmp_path / "onnx", beside_model=False)
    made = OnnxModel(tmp_path / "onnx", "model.onnx")(**embedding_inputs(short, texts))
    onnx = next(iter(made.values()))
    np.testing.assert_allclose(onnx, expected, atol=1e-5)

    ranges = np.load(tmp_path / "int8_ranges.npy")
    torch.testing.assert_close(read_int8_ranges(tmp_path), trainer.model.quantizer.ranges)
    codes = quantize_embeddings(theirs.encode(TEXTS), "int8", ranges=ranges[:, :8]).astype(int)
    assert (codes.max(0) - codes.min(0)).min() > 100  # they fill their ranges


def test_a_student_without_ranges_leaves_none_of_an_earlier_one(tmp_path):
    trainer = trainer_of(tmp_path, quantization_aware="int8", max_steps=1)
    trainer.train()
    trainer.save_model()
    first = StageResult("first", tmp_path, {}, 1, [], asdict(trainer.card_facts()))
    publish([first], tmp_path / "published")
    assert read_int8_ranges(tmp_path / "published") is not None
    trainer_of(tmp_path).save_model()
    publish([first], tmp_path / "published")
    assert read_int8_ranges(tmp_path) is None
    assert read_int8_ranges(tmp_path / "published") is None


# --- Reports --------------------------------------------------------------------------------------------------------


def test_a_report_has_the_quality_of_each_size_and_precision(tmp_path):
    encoder = SentenceEncoder(tiny.model("bert"), tiny.tokenizer(), tiny.surrounding())
    ranges = torch.stack(encoder.encode(TEXTS).aminmax(dim=0))

    def quality(model):
        return Quality({"STS": sts_spearman(model.encode(TEXTS[:16]), model.encode(TEXTS[16:]), range(16))})

    rows = short_vectors(encoder, quality, [32, 12], ranges, TEXTS)
    assert rows == short_vectors(encoder, quality, [32, 12], None, TEXTS)
    assert [(row.dims, row.precision, row.megabytes) for row in rows] == [
        (32, "float32", 128), (32, "int8", 32), (32, "binary", 4),
        (12, "float32", 48), (12, "int8", 12), (12, "binary", 2),
    ]  # fmt: skip
    whole, texts = encoder.encode(TEXTS).numpy(), range(16)
    bits = np.unpackbits(quantize_embeddings(whole, "ubinary"), axis=-1).astype(float)[:, :12]
    expected = {
        "float32": sts_spearman(whole[:16, :12], whole[16:, :12], texts),
        "binary": rank_correlation(-(bits[:16] != bits[16:]).sum(1).astype(float), np.arange(16.0)),
    }
    codes = quantize_embeddings(whole, "int8", ranges=ranges.numpy())[:, :12].astype(float)
    expected["int8"] = sts_spearman(codes[:16], codes[16:], texts)
    assert {row.precision: row.quality["STS"] for row in rows[3:]} == pytest.approx(expected, abs=1e-6)

    model = ModelRow.of("student", Role.STUDENT, encoder.model, Quality({"STS": 0.5}))
    report = Report((model,), "STS", vectors=rows)
    write_report(report, tmp_path)
    assert read_report(tmp_path).vectors == rows
    assert f"| 12 | binary | 2 | {expected['binary']:.3f} |" in markdown_table(report)
    assert "MB for a million" in text_table(report)


def test_a_recipe_reports_what_its_export_is_worth_in_each_size_and_precision(folder, capsys):
    settings = {
        "teacher": {"model": str(folder / "teacher")},
        "student": {"layers": [0, 3]},
        "data": {"train_files": [str(folder / "corpus.txt")], "max_length": 32},
        "arguments": {"use_cpu": True, "disable_tqdm": True, "per_device_train_batch_size": 8, "max_steps": 2},
        "stages": [
            {"name": "short", "arguments": {"embedding_weight": 1, "truncate_dims": [16], "quantization_aware": "int8"}}
        ],
        "evaluation": {"sts_test": {"toy": str(folder / "sts.tsv")}, "retrieval": {"pairs": str(folder / "own.tsv")}},
        "output_dir": str(folder / "short"),
    }
    (folder / "own.tsv").write_text("query\tdocument\n" + "".join(f"{text}\t{text}\n" for text in TEXTS))
    (folder / "short.yaml").write_text(yaml.safe_dump(settings))
    assert main(["distill", str(folder / "short.yaml")]) == 0
    assert "MB for a million" in capsys.readouterr().out
    rows = read_report(folder / "short").vectors
    assert [(row.dims, row.precision) for row in rows] == [
        (dims, precision) for dims in (32, 16) for precision in ("float32", "int8", "binary")
    ]
    assert "| dimensions | precision | MB for a million | toy Spearman |" in (folder / "short/README.md").read_text()
    pairs, stock = read_sts(str(folder / "sts.tsv")), SentenceTransformer(str(folder / "short"), truncate_dim=16)
    ranges = np.load(folder / "short/int8_ranges.npy")[:, :16]
    sides = [stock.encode(list(pairs[side])) for side in ("sentence1", "sentence2")]
    codes = [quantize_embeddings(side, "int8", ranges=ranges).astype(float) for side in sides]
    found = {row.precision: row.quality["toy Spearman"] for row in rows[3:]}
    assert found["float32"] == pytest.approx(sts_spearman(*sides, pairs["score"]), abs=1e-6)
    assert found["int8"] == pytest.approx(sts_spearman(*codes, pairs["score"]), abs=1e-6)


# --- Refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"truncate_dims": [8, 16]},
            "truncate_dims=[8, 16]: expected a list of numbers of dimensions from 1, descending",
        ),
        ({"truncate_dims": [16, 16]}, "descending and different"),
        ({"truncate_dims": [16, 0]}, "from 1, descending"),
        ({"truncate_dims": 16}, "truncate_dims=16"),
        ({"truncate_dims": []}, "truncate_dims=[]"),
        ({"truncate_dims": [64, 16]}, "have 32 dimensions. Leave out those above 32"),
        ({"truncate_dims": [32]}, "truncate_dims=[32] is the whole width"),
        ({"keep_projector": True}, "keep_projector exports vectors of the teacher's width"),
        ({"embedding_weight": 0.0, "hidden_weight": 1.0}, "truncate_dims is for embeddings, but no objective"),
        ({"quantization_aware": "int4"}, "quantization_aware='int4' is none of the choices"),
        ({"tokens_per_batch": 100}, "tokens_per_batch makes steps with different numbers of rows, but similarity_16"),
    ],
)
def test_what_makes_no_sense_is_refused(settings, message, tmp_path):
    with pytest.raises(ValueError, match=re.escape(message)):
        trainer_of(tmp_path, **settings)
