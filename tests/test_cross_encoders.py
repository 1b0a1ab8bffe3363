"""A student of a cross-encoder gives scores on the teacher's scale in sentence-transformers, too."""

import json

import pytest
import tiny
import torch
from datasets import Dataset
from transformers import AutoModelForSequenceClassification

from retort import DistillTrainer, shrink, tokenize
from retort.trainers.saving import keep_activation

IDENTITY = "torch.nn.modules.linear.Identity"
PAIRS = [(first, second) for first, second in zip(tiny.sentences(8, seed=1), tiny.sentences(8, seed=2), strict=True)]


@pytest.fixture
def teacher(tmp_path):
    """The folder of a cross-encoder without an activation, as sentence-transformers saves it."""
    from sentence_transformers import CrossEncoder

    tiny.model("bert", "sequence", labels=1).save_pretrained(tmp_path / "plain")
    tiny.tokenizer().save_pretrained(tmp_path / "plain")
    model = CrossEncoder(str(tmp_path / "plain"), device="cpu", activation_fn=torch.nn.Identity())
    model.save_pretrained(str(tmp_path / "teacher"))
    return tmp_path / "teacher"


def student_of(teacher, folder, *, loaded=False, **objectives):
    """The configuration of a student that a trainer saved."""
    tokenizer, model = tiny.tokenizer(), AutoModelForSequenceClassification.from_pretrained(teacher)
    rows = Dataset.from_dict({"text": [a for a, _ in PAIRS], "other": [b for _, b in PAIRS], "labels": [0.5] * 8})
    rows = tokenize(rows, tokenizer, text_pair="other", labels="labels")
    args = tiny.arguments(folder, max_steps=1, save_strategy="no", **objectives)
    source = model if loaded else teacher
    DistillTrainer(shrink(model, layers=1), source, args, train_dataset=rows, processing_class=tokenizer).save_model()
    return json.loads((folder / "config.json").read_text())


@pytest.mark.parametrize("loaded", [False, True])
def test_a_student_of_its_logits_keeps_the_activation(loaded, teacher, tmp_path):
    from sentence_transformers import CrossEncoder

    config = student_of(teacher, tmp_path / "student", loaded=loaded, logits_weight=1.0)
    assert config["sentence_transformers"]["activation_fn"] == IDENTITY
    student = CrossEncoder(str(tmp_path / "student"), device="cpu")
    assert isinstance(student.activation_fn, torch.nn.Identity)
    # The student's configuration is kept when it is loaded, as by the next stage.
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path / "student")
    assert again.config.sentence_transformers["activation_fn"] == IDENTITY


EARLIER = [{"sentence_transformers": {"activation_fn": IDENTITY}}, {"sbert_ce_default_activation_function": IDENTITY}]


@pytest.mark.parametrize("loaded", [False, True])
@pytest.mark.parametrize("keys", EARLIER, ids=["4 and 5", "before 4"])
def test_a_teacher_of_an_earlier_version_of_sentence_transformers_has_it_in_its_configuration(keys, loaded, tmp_path):
    tiny.model("bert", "sequence", labels=1).save_pretrained(tmp_path / "teacher")
    config = json.loads((tmp_path / "teacher/config.json").read_text())
    (tmp_path / "teacher/config.json").write_text(json.dumps(config | keys))
    model = tiny.model("bert", "sequence", labels=1)  # a student that is no copy of its teacher
    model.save_pretrained(tmp_path / "student")
    teacher = str(tmp_path / "teacher")
    keep_activation(
        tmp_path / "student", [AutoModelForSequenceClassification.from_pretrained(teacher) if loaded else teacher]
    )
    config = json.loads((tmp_path / "student/config.json").read_text())
    assert config["sentence_transformers"] == {"activation_fn": IDENTITY}


@pytest.mark.parametrize("loaded", [False, True])
def test_settings_of_version_6_precede_a_configuration_of_version_5(loaded, teacher, tmp_path):
    from sentence_transformers import CrossEncoder

    config = json.loads((teacher / "config.json").read_text())
    older = {"sentence_transformers": {"activation_fn": "torch.nn.modules.activation.Sigmoid"}}
    (teacher / "config.json").write_text(json.dumps(config | older))
    assert isinstance(CrossEncoder(str(teacher), device="cpu").activation_fn, torch.nn.Identity)
    tiny.model("bert", "sequence", labels=1).save_pretrained(tmp_path / "student")
    keep_activation(
        tmp_path / "student", [AutoModelForSequenceClassification.from_pretrained(teacher) if loaded else teacher]
    )
    config = json.loads((tmp_path / "student/config.json").read_text())
    assert config["sentence_transformers"] == {"activation_fn": IDENTITY}


def test_a_student_that_does_not_learn_its_logits_has_none(teacher, tmp_path):
    config = student_of(teacher, tmp_path / "student", label_weight=1.0, hidden_weight=1.0)
    assert "sentence_transformers" not in config


def test_a_teacher_without_one_changes_nothing(teacher, tmp_path):
    config = student_of(tmp_path / "plain", tmp_path / "student", logits_weight=1.0)
    assert "sentence_transformers" not in config
