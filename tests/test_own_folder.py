"""Files that retort does not recognise as its own are kept: a run into their folder is refused, a README.md is kept."""

import shutil
import sys

import pytest
import tiny
import yaml
from datasets import Dataset

from retort import DistillTrainer, DistillTrainingArguments, ScriptParser, shrink, tokenize
from retort.cli import main
from retort.trainers.saving import check_own_folder, is_own_card
from retort.trainers.stages import StageResult, publish

SENTENCES = tiny.sentences(16, seed=3)
MINE = "# My project\n\n- retort\n"


@pytest.fixture
def recipe(tmp_path):
    """A recipe of one step."""
    tiny.model("bert").save_pretrained(tmp_path / "teacher")
    tiny.tokenizer().save_pretrained(tmp_path / "teacher")
    (tmp_path / "corpus.txt").write_text("\n".join(SENTENCES))
    settings = {
        "teacher": str(tmp_path / "teacher"),
        "student": {"layers": 1},
        "data": {"train_files": [str(tmp_path / "corpus.txt")], "max_length": 32},
        "arguments": {"use_cpu": True, "disable_tqdm": True, "per_device_train_batch_size": 8, "max_steps": 1},
        "stages": [{"name": "only", "arguments": {"embedding_weight": 1}}],
        "output_dir": str(tmp_path / "run"),
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(settings))
    return str(tmp_path / "recipe.yaml")


def trainer_in(folder):
    teacher, tokenizer = tiny.model("bert"), tiny.tokenizer()
    rows = tokenize(Dataset.from_dict({"text": SENTENCES}), tokenizer)
    args = tiny.arguments(folder, embedding_weight=1.0, max_steps=1, save_steps=1)
    return DistillTrainer(shrink(teacher, layers=1), teacher, args, train_dataset=rows, processing_class=tokenizer)


@pytest.mark.promise(9)
@pytest.mark.parametrize("dry_run", [[], ["--dry_run"]])
def test_a_run_into_a_folder_of_someone_elses_is_refused_and_changes_no_file(dry_run, recipe, tmp_path, capsys):
    (tmp_path / "run").mkdir()
    files = {"README.md": MINE, "config.json": "{}", "report.json": '{"rows": 3}', "data.csv": "a,b\n"}
    for name, text in files.items():
        (tmp_path / "run" / name).write_text(text)
    (tmp_path / "run/stages/of a rocket").mkdir(parents=True)
    assert main(["distill", recipe, *dry_run]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"The folder {tmp_path}/run has config.json, README.md and report.json, which retort doesn't" in line
    assert "They would be replaced. Name another output_dir, or move them." in line
    assert {path.name: path.read_text() for path in (tmp_path / "run").iterdir() if path.is_file()} == files


def test_a_folder_of_other_files_is_written_to_and_runs_of_retort_go_on_there(recipe, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/data.csv").write_text("a,b\n")
    assert main(["distill", recipe]) == 0
    assert main(["distill", recipe]) == 0  # again
    assert main(["distill", recipe, "stages.only.learning_rate=1e-4"]) == 0  # over the earlier output
    assert (tmp_path / "run/data.csv").read_text() == "a,b\n"


def test_each_trace_of_a_run_makes_a_folder_retorts(recipe, tmp_path):
    folder = tmp_path / "run"
    assert main(["distill", recipe]) == 0
    card = (folder / "README.md").read_text()
    (folder / "stages").rename(folder / "others")
    check_own_folder(folder)  # by its card
    (folder / "README.md").write_text(MINE)
    with pytest.raises(ValueError, match=r"has config.json, .*README.md.*which retort doesn't recognise"):
        check_own_folder(folder)
    (folder / "others").rename(folder / "teacher")
    check_own_folder(folder)  # by a stage of its teacher
    (folder / "teacher").rename(folder / "others")
    (folder / "report.json").write_text('{"rows": [], "metric": "F1", "fingerprint": ""}')
    check_own_folder(folder)
    assert "- retort\n" in card


@pytest.mark.promise(9)
def test_a_script_refuses_such_a_folder_but_not_that_of_an_interrupted_run(tmp_path, monkeypatch, capsys):
    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setattr(sys, "argv", ["script.py", "--output_dir", str(tmp_path), "--use_cpu"])
    parser = ScriptParser((DistillTrainingArguments,), description="")
    with pytest.raises(SystemExit, match=r"^2$"):
        parser.parse_args_into_dataclasses()
    assert (
        f"{tmp_path} has config.json, which retort doesn't recognise as its own. It would be replaced."
        in capsys.readouterr().err
    )
    (tmp_path / "checkpoint-7").mkdir()  # of another program
    with pytest.raises(SystemExit, match=r"^2$"):
        parser.parse_args_into_dataclasses()
    trainer_in(tmp_path).train()
    parser.parse_args_into_dataclasses()


def test_a_trainer_keeps_a_readme_that_is_no_card_of_retorts_and_says_so(tmp_path, caplog):
    trainer = trainer_in(tmp_path / "run")
    for folder in (tmp_path / "run", tmp_path / "elsewhere"):
        folder.mkdir(exist_ok=True)
        (folder / "README.md").write_text(MINE)
        trainer.save_model(str(folder))
        assert (folder / "README.md").read_text() == MINE
        assert (folder / "model.safetensors").exists()
        assert f"{folder}/README.md is not a model card of retort: it is kept" in caplog.text
    trainer.create_model_card()
    assert (tmp_path / "run/README.md").read_text() == MINE
    (tmp_path / "run/README.md").unlink()
    trainer.save_model()
    trainer.create_model_card(results="On nothing at all.")
    assert "On nothing at all." in (tmp_path / "run/README.md").read_text()


def test_a_recipe_tells_of_a_model_card_only_where_there_is_one_of_retorts(recipe, tmp_path, capsys):
    assert main(["distill", recipe]) == 0
    assert f"\nStudent, model card: {tmp_path}/run/\n" in capsys.readouterr().out
    (tmp_path / "run/README.md").write_text(MINE)
    assert main(["distill", recipe]) == 0
    assert f"\nStudent: {tmp_path}/run/\n" in capsys.readouterr().out


def test_publish_keeps_such_a_readme_too(recipe, tmp_path):
    assert main(["distill", recipe]) == 0
    (stage,) = (tmp_path / "run/stages").iterdir()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/README.md").write_text(MINE)
    publish([StageResult.read(stage)], tmp_path / "mine")
    assert (tmp_path / "mine/README.md").read_text() == MINE
    assert (tmp_path / "mine/model.safetensors").exists()


@pytest.mark.promise(9)
@pytest.mark.parametrize("elsewhere", [False, True], ids=["beside the model", "elsewhere"])
def test_an_export_replaces_its_own_file_but_none_of_someone_elses(elsewhere, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("retort.commands.export.comparison", lambda *_: "not measured here")
    model = tmp_path / "model"
    tiny.model("bert", "token").save_pretrained(model)
    tiny.tokenizer().save_pretrained(model)
    folder = tmp_path / "elsewhere" if elsewhere else model
    folder.mkdir(exist_ok=True)
    command = ["export", "--model", str(model), *(["--output_dir", str(folder)] if elsewhere else [])]
    (folder / "model.onnx").write_bytes(b"someone else's")
    assert main(command) == 2
    assert f"{folder} has a file model.onnx without retort's mark" in capsys.readouterr().err
    assert (folder / "model.onnx").read_bytes() == b"someone else's"
    (folder / "model.onnx").rename(folder / "model-int8.onnx")
    assert main([*command, "--int8"]) == 2
    assert f"{folder} has a file model-int8.onnx without retort's mark" in capsys.readouterr().err
    (folder / "model-int8.onnx").unlink()
    for _ in range(2):  # the second replaces the first
        assert main([*command, "--int8"]) == 0
    (folder / "model.onnx").unlink()
    assert main([*command, "--int8"]) == 0  # an int8 file alone is retort's, too
    shutil.copy(folder / "model.onnx", folder / "model-int8.onnx")  # as a quantisation by another program
    assert main([*command, "--int8"]) == 2
    assert f"{folder} has a file model-int8.onnx without retort's mark" in capsys.readouterr().err
    assert main(command) == 0  # which doesn't write it


@pytest.mark.promise(9)
def test_another_programs_export_beside_a_published_student_is_kept(tmp_path, capsys):
    tiny.model("bert", "token").save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    (tmp_path / "README.md").write_text("---\ntags:\n- retort\n---\n")
    (tmp_path / "model.onnx").write_bytes(b"optimum's")
    assert main(["export", "--model", str(tmp_path)]) == 2
    assert "has a file model.onnx without retort's mark" in capsys.readouterr().err
    assert (tmp_path / "model.onnx").read_bytes() == b"optimum's"


@pytest.mark.parametrize(
    ("metadata", "own"),
    [
        ("tags:\n- retort\n- distillation", True),
        ("tags:\n  - mine\n  - retort  # by us", True),
        ("tags: [mine, retort]", True),
        ('tags: ["retort"]', True),
        ("datasets:\n- retort", False),
        ("tags: [retorts]", False),
        ("- retort", False),
        ("tags: [retort", False),
    ],
)
def test_a_card_is_retorts_by_its_tag_however_it_is_written(metadata, own, tmp_path):
    (tmp_path / "README.md").write_text(f"---\n{metadata}\n---\n# A student\n")
    assert is_own_card(tmp_path / "README.md") == own


@pytest.mark.promise(9)
def test_an_export_replaces_no_configuration_of_someone_elses(tmp_path, capsys):
    model = tmp_path / "model"
    tiny.model("bert", "token").save_pretrained(model)
    tiny.tokenizer().save_pretrained(model)
    for name in ("config.json", "README.md"):  # of which it would write the first
        (tmp_path / name).write_text("{}")
    assert main(["export", "--model", str(model), "--output_dir", str(tmp_path)]) == 2
    assert "has config.json, which retort doesn't recognise as its own" in capsys.readouterr().err
    assert (tmp_path / "config.json").read_text() == "{}"
