"""What importing retort costs: nothing of what only some runs need, and an error that names the extra."""

import sys

import pytest
from processes import run

from retort import DistillTrainingArguments
from retort.evaluation.report import require_drawing, write_report
from retort.recipes import read_recipe, run_recipe

# What only some runs need. None in sys.modules makes importing a library fail, installed or not.
SOME_RUNS = ("deepspeed", "evaluate", "matplotlib", "mteb", "onnx", "onnxruntime", "sentence_transformers", "seqeval")
WITHOUT = f"import sys; sys.modules.update(dict.fromkeys({(*SOME_RUNS, 'peft', 'sklearn')}))\n"


def test_shrink_and_the_trainers_import_nothing_that_only_some_runs_need():
    code = f"""
import sys
from retort import *
from retort import DistillTrainer, shrink
print("imported:", sorted({{*{SOME_RUNS}, "sklearn"}} & sys.modules.keys()))
"""
    assert run([sys.executable, "-c", code]).splitlines()[-1] == "imported: []"


def test_they_import_where_these_libraries_are_not_installed():
    # transformers.Trainer imports peft itself where it finds it, so that sys.modules would not tell who asked for it.
    code = f"{WITHOUT}from retort import *; from retort import DistillTrainer; print(DistillTrainer.__name__)"
    assert run([sys.executable, "-c", code]) == "DistillTrainer\n"


def test_shrink_alone_needs_no_trainer():
    code = "import sys; from retort import shrink; print('transformers.trainer' in sys.modules, 'peft' in sys.modules)"
    assert run([sys.executable, "-c", code]) == "False False\n"


@pytest.mark.promise(9)
def test_without_matplotlib_a_report_is_refused_and_its_recipe_before_anything_is_loaded(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    message = r"Reports need matplotlib, which is not installed: pip install 'retort\[report\]'"
    with pytest.raises(ImportError, match=message):
        write_report(None, tmp_path)
    with pytest.raises(ImportError, match=message):
        run_recipe(read_recipe("quickstart"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.promise(9)
def test_without_deepspeed_arguments_that_name_it_are_refused(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "deepspeed", None)
    with pytest.raises(ImportError, match=r"'zero1.json' needs DeepSpeed.*pip install 'retort\[deepspeed\]'"):
        DistillTrainingArguments(output_dir=str(tmp_path), deepspeed="zero1.json")


def test_with_matplotlib_there_is_nothing_to_refuse():
    require_drawing()
