"""A projector before the classifier folds into it exactly, and what is exported knows nothing of it."""

import pytest
import tiny
import torch
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification

from retort.modeling import DistillationModel, add_projector, projected_classifier
from retort.modeling.encoding import OutputRequest, TokenLayout, encode
from retort.modeling.projected_classifier import ProjectedClassifier, fold_projector
from retort.trainers.objectives import FeatureObjective, projector

INPUTS = {
    "input_ids": torch.tensor([[2, 9, 8, 7, 3], [2, 5, 3, 0, 0]]),
    "attention_mask": torch.tensor([[1] * 5, [1, 1, 1, 0, 0]]),
}
LAYOUT = TokenLayout.from_attention_mask(INPUTS["attention_mask"])


@pytest.mark.parametrize("task", ["token", "sequence"])
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_the_folded_model_computes_the_same(family, task):
    student, stock = tiny.model(family, task), tiny.model(family, task, seed=5)
    add_projector(student, 48)
    name, _ = projected_classifier(student)
    stock.load_state_dict(fold_projector(student.state_dict(), name))
    with torch.no_grad():
        expected, found = student(**INPUTS).logits, stock(**INPUTS).logits
    mask = LAYOUT.mask if task == "token" else slice(None)
    torch.testing.assert_close(found[mask], expected[mask], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("task", ["token", "sequence"])
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_features_are_what_the_classifier_reads(family, task):
    model = tiny.model(family, task)
    model.config.classifier_dropout = 0.0
    add_projector(model, 48)
    with torch.no_grad():
        output = encode(model, INPUTS, LAYOUT, OutputRequest(features=True, logits=True))
    _, classifier = projected_classifier(model)
    assert output.features.shape == (LAYOUT.tokens if task == "token" else 2, 48)
    torch.testing.assert_close(classifier.classifier(output.features), output.logits)


def test_a_tagger_s_features_are_its_top_hidden_states():
    model = tiny.model("bert", "token")
    with torch.no_grad():
        output = encode(model, INPUTS, LAYOUT, OutputRequest(features=True, hidden_states=frozenset({2})))
    assert torch.equal(output.features, output.hidden_states[2])


def test_features_alone_run_the_head_but_return_no_logits():
    output = encode(tiny.model("bert", "token"), INPUTS, LAYOUT, OutputRequest(features=True))
    assert output.logits is None
    assert output.features.shape == (8, 32)


def test_a_distillation_model_tells_stock_weights_from_side_weights():
    student = tiny.model("bert", "token")
    add_projector(student, 48)
    model = DistillationModel(
        student, [FeatureObjective(1.0, "mse", projector(48, 8, "linear"), row_wise=False)], OutputRequest(logits=True)
    )
    state = model.state_dict()
    stock = tiny.model("bert", "token", seed=3)
    assert model.student_weights(state).keys() == stock.state_dict().keys()
    assert {name.split(".")[0] + "." + name.split(".")[1] for name in model.side_weights(state)} == {
        "objectives.features",
        "student.classifier",
    }


@pytest.mark.promise(9)
def test_a_model_without_a_classifier_gets_no_projector():
    with pytest.raises(ValueError, match="BertModel has no linear map to 3 classes after its encoder"):
        add_projector(tiny.model("bert"), 48)


def test_the_new_parts_have_the_old_classifier_s_dtype():
    student = tiny.model("bert", "token").double()
    add_projector(student, 48)
    assert {p.dtype for p in projected_classifier(student)[1].parameters()} == {torch.float64}
    assert isinstance(student.classifier, ProjectedClassifier)


@pytest.mark.parametrize(
    ("task", "auto"), [("token", AutoModelForTokenClassification), ("sequence", AutoModelForSequenceClassification)]
)
def test_frozen_parts_stay_in_eval_and_the_rest_trains(task, auto):
    from retort.trainers.stages.groups import train_only

    student = tiny.model("bert", task)
    add_projector(student, 48)
    train_only(student, ["head", "projector", "layer.1"])
    model = DistillationModel(student, [], OutputRequest(logits=True)).train()
    assert not student.bert.embeddings.training
    assert not student.bert.encoder.layer[0].training
    assert student.bert.encoder.layer[1].training
    assert student.bert.encoder.layer[1].attention.self.dropout.training
    assert not model.eval().student.bert.encoder.layer[1].training
