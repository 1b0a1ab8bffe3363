"""Distillation into another vocabulary as a user starts it."""

import runpy
import sys

import pytest
import test_examples
import tiny
import torch
from scripts import run_script
from test_examples import EXAMPLES, weights
from transformers import AutoConfig, AutoTokenizer, pipeline

from retort.cli import main as command

folder = test_examples.folder
SCRIPT = EXAMPLES / "run_vocab_reduced_mlm.py"


@pytest.fixture(scope="module")
def texts(folder):
    """Text to learn from, and text to be judged by."""
    (folder / "train.txt").write_text("\n".join(tiny.sentences(80, seed=3)))
    (folder / "dev.txt").write_text("\n".join(tiny.sentences(12, seed=4)))
    common = {"learning_rate": 1e-3, "logging_steps": 2, "save_steps": 2, "whole_words": True, "use_cpu": True}
    flags = [part for name, value in common.items() for part in (f"--{name}", value)]
    return ["--train_files", folder / "train.txt", "--dev_files", folder / "dev.txt", *flags]


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs a script in this process; returns what it printed, without line breaks."""

    def main(name, *flags):
        monkeypatch.setattr(sys, "argv", [name, *map(str, flags)])
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
        return " ".join(capsys.readouterr().out.split())

    return main


@pytest.mark.promise(5)
def test_a_teacher_is_distilled_into_trained_and_trimmed_vocabularies(folder, texts, run):
    teacher = folder / "mlm-teacher"
    tiny.model("bert", "masked_lm", layers=4).save_pretrained(teacher)
    tiny.tokenizer().save_pretrained(teacher)
    train = ["vocabulary", "--teacher", teacher, "--text", folder / "train.txt", "--train", 72]
    assert command(list(map(str, [*train, "--output_dir", folder / "words"]))) == 0
    common = ["--teacher", teacher, "--layers", 2, "--hidden_size", 16, "--layer_init", "average", "--max_steps", 4]
    for name, size, flags in [
        ("trained", 72, ["--tokenizer", folder / "words", "--vocabulary_loss", "reduce_map", "--hidden_weight", 0.1]),
        ("trimmed", 70, ["--vocab_size", 70, "--vocabulary_loss", "match", "--contrast_weight", 0.1]),
    ]:
        printed = run(SCRIPT.stem, *common, *flags, "--output_dir", folder / name, *texts)
        assert "loss_vocabulary" in printed
        assert "eval_bits_per_character" in printed
        vocabulary = len(AutoTokenizer.from_pretrained(folder / name))
        assert vocabulary <= size < len(tiny.tokenizer())
        assert AutoConfig.from_pretrained(folder / name).hidden_size == 16
        model = pipeline("fill-mask", model=str(folder / name), device="cpu")
        assert model.model.config.vocab_size == vocabulary
        assert model(f"the cat {model.tokenizer.mask_token} on")[0]["score"] > 0
    again = [*common, *flags, "--output_dir", folder / "trimmed-again", *texts]
    assert "eval_bits_per_character" in run_script(SCRIPT, *again)
    ours = weights(folder / "trimmed-again")
    assert all(torch.equal(tensor, ours[name]) for name, tensor in weights(folder / "trimmed").items())


@pytest.mark.parametrize(
    ("how", "told"),
    [
        (["--train", "72"], ["student  72", "unknown"]),
        (["--trim", "70"], ["spells 0 by several tokens, and can't spell 0"]),
        (["--trim", "--coverage", "0.9"], ["spells 0 by several tokens, and can't spell 0"]),
    ],
    ids=["train", "trim", "coverage"],
)
def test_a_vocabulary_is_made_and_set_beside_the_teachers(how, told, folder, texts, capsys):
    tiny.tokenizer().save_pretrained(folder / "tokenizer")
    files = ["--teacher", folder / "tokenizer", "--text", folder / "train.txt", "--output_dir", folder / "vocabulary"]
    assert command(["vocabulary", *map(str, files), *how]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert all(" ".join(part.split()) in printed for part in told)
    made = AutoTokenizer.from_pretrained(folder / "vocabulary")
    assert len(made) <= 72
    assert made.mask_token == "[MASK]"
    assert made.decode(made("the cat sat")["input_ids"], skip_special_tokens=True) == "the cat sat"
