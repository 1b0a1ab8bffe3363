"""What is wrong with a student is told before its teacher is trained, and what is unclear about a score beside it."""

import pytest
import tiny
import yaml

from retort.cli import main


@pytest.fixture
def recipe(tmp_path):
    """A recipe that fine-tunes its teacher first."""
    tiny.model("bert", layers=2).save_pretrained(tmp_path / "teacher")
    tiny.tokenizer().save_pretrained(tmp_path / "teacher")
    (tmp_path / "films").mkdir()
    for split in ("train", "dev"):
        (tmp_path / f"films/{split}.tsv").write_text("a new film\tpos\nan old film\tneg\nsmall\tneg\nbig\tpos\n")
    settings = {
        "teacher": {"model": str(tmp_path / "teacher"), "fine_tuning": {"arguments": {"max_steps": 1}}},
        "student": {"layers": 1},
        "data": {"task": "classification", "folders": str(tmp_path / "films"), "max_length": 16},
        "arguments": {"use_cpu": True, "disable_tqdm": True, "per_device_train_batch_size": 4, "max_steps": 1},
        "stages": [
            {"name": "logits", "arguments": {"logits_weight": 1, "attention_weight": 1}},
            {"name": "labels", "arguments": {"label_weight": 1}},
        ],
        "output_dir": str(tmp_path / "run"),
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(settings))
    return str(tmp_path / "recipe.yaml")


@pytest.mark.promise(9)
@pytest.mark.parametrize(("change", "message"), [("student.layers=9", "9"), ("stages.logits.layer_map=1:7", "7")])
def test_a_student_that_is_refused_costs_no_fine_tuning_of_its_teacher(change, message, recipe, tmp_path, capsys):
    assert main(["distill", recipe, change]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("run/teacher/*/model.safetensors"))


def test_a_student_that_is_not_refused_is_trained_after_its_teacher(recipe, tmp_path):
    assert main(["distill", recipe, "--only", "logits"]) == 0  # without a report
    for folder in ("teacher", "stages"):
        assert list(tmp_path.glob(f"run/{folder}/*/stage.json"))


def test_eval_says_that_means_are_scored_where_no_file_defines_embeddings(tmp_path, capsys):
    tiny.model("bert", "sequence").save_pretrained(tmp_path / "classifier")
    tiny.tokenizer().save_pretrained(tmp_path / "classifier")
    (tmp_path / "sts.tsv").write_text("the cat\ta cat\t1.0\na dog\tthe tree\t0.2\nthe bird\ta stone\t0.1\n")
    command = ["eval", "--model", str(tmp_path / "classifier"), "--sts", f"toy={tmp_path}/sts.tsv"]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "Its files define no embeddings: the means of its last hidden states are scored." in printed
    assert "Its head (ForSequenceClassification) is not used." in printed
    assert main([*command, "--pooler", "cls_before_pooler"]) == 0
    assert "define no embeddings" not in capsys.readouterr().out
