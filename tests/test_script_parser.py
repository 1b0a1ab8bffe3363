"""The command lines of the example scripts."""

import sys

import pytest
from test_examples import EXAMPLES
from transformers import HfArgumentParser

from retort import DistillTrainingArguments, ScriptParser

SCRIPTS = sorted(file for file in EXAMPLES.glob("run_*.py") if file.stem != "run_recipe")


@pytest.fixture(params=SCRIPTS, ids=lambda file: file.stem)
def script(request, monkeypatch):
    """A script's namespace."""
    made = {"__name__": request.param.stem, "__file__": str(request.param)}
    exec(compile(request.param.read_text(), request.param, "exec"), made)
    return made


def told(script, monkeypatch, capsys, flag):
    monkeypatch.setattr(sys, "argv", ["script.py", flag])
    with pytest.raises(SystemExit, match=r"^0$"):
        script["main"]()
    return capsys.readouterr().out


def test_help_shows_the_scripts_flags_and_those_that_most_runs_set(script, monkeypatch, capsys):
    short = told(script, monkeypatch, capsys, "--help")
    assert script["__doc__"].strip() in short
    for flag in (*script["ScriptArguments"].__dataclass_fields__, "learning_rate", "push_to_hub", "disable_dropout"):
        assert f"--{flag} " in short
    of_output = short.partition("\n  --output_dir")[2].partition("\n  --")[0]
    assert "(required)" in of_output
    places = [short.index(f"\n{name}:\n") for name in ("script", "distillation", "training, as in transformers")]
    of_script = list(script["ScriptArguments"].__dataclass_fields__)[:1]
    places += [short.index(f"\n  --{flag} ") for flag in (*of_script, "disable_dropout", "learning_rate")]
    assert sorted(places) == [places[index] for index in (0, 3, 1, 4, 2, 5)]
    assert "--adam_beta1" not in short
    assert "--adam_beta1" in told(script, monkeypatch, capsys, "--help_all")


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    "wrong", ["--output_dir", "--layer", "--learning_rte"], ids=["missing", "shortened", "unknown"]
)
def test_flags_that_are_missing_shortened_or_unknown_are_refused(wrong, script, monkeypatch, capsys):
    flags = [] if wrong == "--output_dir" else ["--output_dir", "x", wrong, "3"]
    monkeypatch.setattr(sys, "argv", ["script.py", *flags])
    with pytest.raises((SystemExit, ValueError)) as refusal:
        script["main"]()
    assert wrong in capsys.readouterr().err + str(refusal.value)


@pytest.mark.promise(9)
def test_a_model_that_does_not_exist_ends_a_script_with_one_line(script, monkeypatch, tmp_path, capsys):
    flag = "--teacher" if "teacher" in script["ScriptArguments"].__dataclass_fields__ else "--model"
    monkeypatch.setattr(sys, "argv", ["script.py", "--output_dir", str(tmp_path), flag, "./gone"])
    with pytest.raises(SystemExit, match=r"^2$"):
        script["main"]()
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"script.py: error: {flag} is './gone', but there is no")


def test_it_is_a_parser_of_transformers_and_takes_what_help_leaves_out(tmp_path):
    parser = ScriptParser((DistillTrainingArguments,), description="Says what it does.")
    assert isinstance(parser, HfArgumentParser)
    parser.set_defaults(embedding_weight=1.0)
    (args,) = parser.parse_args_into_dataclasses(["--output_dir", str(tmp_path), "--adam_beta1", "0.8", "--use_cpu"])
    assert (args.adam_beta1, args.embedding_weight, args.use_cpu) == (0.8, 1.0, True)


@pytest.mark.promise(9)
def test_values_that_do_not_go_together_end_a_script_with_one_line(script, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(sys, "argv", ["script.py", "--output_dir", str(tmp_path), "--bf16", "True", "--fp16", "True"])
    with pytest.raises(SystemExit, match=r"^2$"):
        script["main"]()
    assert capsys.readouterr().err.splitlines()[-1].startswith("script.py: error: At most one of fp16 and bf16")


@pytest.mark.promise(9)
def test_an_unknown_flag_is_refused_with_the_nearest_one(script, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["script.py", "--output_dir", "x", "--learning_rte", "1"])
    with pytest.raises(SystemExit, match=r"^2$"):
        script["main"]()
    assert "unknown flag --learning_rte. Did you mean --learning_rate?" in capsys.readouterr().err
