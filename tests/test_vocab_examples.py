"""Distillation into another vocabulary as a user starts it."""

import importlib
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
def test_a_teacher_is_trained_and_distilled_into_trained_and_trimmed_vocabularies(folder, texts, run):
    tiny.tokenizer().save_pretrained(folder / "tokenizer")
    teacher = folder / "mlm-teacher"
    new = ["--tokenizer", folder / "tokenizer", "--layers", 4, "--hidden_size", 32, "--intermediate_size", 48]
    new += ["--num_attention_heads", 4, "--max_steps", 4, *texts]
    assert "bits per character" in run_script(SCRIPT, *new, "--output_dir", teacher)
    run(SCRIPT.stem, *new, "--output_dir", folder / "mlm-teacher-again")
    again = weights(folder / "mlm-teacher-again")
    assert all(torch.equal(tensor, again[name]) for name, tensor in weights(teacher).items())
    config = AutoConfig.from_pretrained(teacher)
    assert (config.num_hidden_layers, config.hidden_size, config.intermediate_size) == (4, 32, 48)
    for name, flags in {
        "trained": ["--vocab_size", 72, "--vocabulary_loss", "reduce_map", "--hidden_weight", 0.1],
        "trimmed": ["--vocab_size", 70, "--trim", True, "--vocabulary_loss", "match", "--contrast_weight", 0.1],
    }.items():
        student = ["--teacher", teacher, "--layers", 2, "--hidden_size", 16, "--layer_init", "average"]
        printed = run(SCRIPT.stem, *student, *flags, "--output_dir", folder / name, "--max_steps", 4, *texts)
        assert "teacher" in printed
        assert "bits per character" in printed
        vocabulary = len(AutoTokenizer.from_pretrained(folder / name))
        assert vocabulary <= int(flags[1]) < len(tiny.tokenizer())
        model = pipeline("fill-mask", model=str(folder / name), device="cpu")
        assert model.model.config.vocab_size == vocabulary
        assert model(f"the cat {model.tokenizer.mask_token} on")[0]["score"] > 0


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


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"teacher": "x"}, "Give the student's tokenizer"),
        ({"vocab_size": 50}, "there is no tokenizer to resemble"),
        ({"teacher": "x", "tokenizer": "y", "trim": True}, "but --tokenizer names one"),
        ({"tokenizer": "y", "layers": [0, 3], "weigh_pieces": True}, "--weigh_pieces, several --layers: for students"),
        ({"tokenizer": "y", "layer_init": "average"}, "--layer_init: for students"),
    ],
    ids=["no tokenizer", "no teacher", "two tokenizers", "layers of no teacher", "means of no teacher"],
)
def test_flags_that_do_not_go_together_are_refused(given, message, monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    script = importlib.import_module(SCRIPT.stem)
    with pytest.raises(SystemExit, match=message):
        script.VocabularyArguments(train_files=[], **given)
