"""XtremeDistil's BiLSTM student: how it is made of a teacher, and that the trainer distils, resumes and exports it."""

import json

import pytest
import tiny
import torch
from datasets import Dataset
from sklearn.decomposition import PCA
from transformers import AutoModelForTokenClassification, TrainerCallback

from retort import DistillTrainer, bilstm_student, tokenize
from retort.modeling.architectures.bilstm import BiLstmForSequenceClassification, BiLstmForTokenClassification
from retort.modeling.shrinking import project_embeddings
from retort.trainers.stages.groups import parameter_groups

SIZES = {"embedding_size": 12, "lstm_hidden_size": 10}


def word_vectors(count=50, hidden=12):
    generator = torch.Generator().manual_seed(0)
    mixed = torch.randn(count, hidden, generator=generator) @ torch.randn(hidden, hidden, generator=generator)
    return mixed + 2  # off centre: svd and pca must differ


def with_equal_signs(vectors, reference):
    """Principal axes are known up to their direction: turn each column the way of the reference's."""
    return vectors * (vectors * reference).sum(0).sign()


def test_svd_gives_the_columns_of_the_truncated_svd():
    words = word_vectors()
    left, values, _ = torch.linalg.svd(words.double(), full_matrices=False)
    narrow = project_embeddings(words, 5, "svd").double()
    expected = left[:, :5] * values[:5]
    torch.testing.assert_close(with_equal_signs(narrow, expected), expected, rtol=0, atol=1e-4)


def test_pca_gives_the_scores_of_scikit_learn():
    words = word_vectors()
    expected = torch.from_numpy(PCA(n_components=5, svd_solver="full").fit_transform(words.double().numpy()))
    narrow = project_embeddings(words, 5, "pca").double()
    torch.testing.assert_close(with_equal_signs(narrow, expected), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("family", tiny.FAMILIES)
@pytest.mark.parametrize("task", ["token", "sequence"])
def test_a_student_has_the_teachers_vocabulary_classes_and_width(family, task):
    names = {0: "O", 1: "B-PER", 2: "I-PER"}
    teacher = tiny.model(family, task, pad_token_id=1, id2label=names, label2id={v: k for k, v in names.items()})
    student = bilstm_student(teacher, embedding_size=8, lstm_hidden_size=10, layers=2)
    architecture = {"token": BiLstmForTokenClassification, "sequence": BiLstmForSequenceClassification}[task]
    assert type(student) is architecture
    assert not student.training
    config = student.config
    assert (config.hidden_size, config.vocab_size, config.pad_token_id) == (32, tiny.VOCAB_SIZE, 1)
    assert (config.embedding_size, config.lstm_hidden_size, config.num_hidden_layers) == (8, 10, 2)
    assert (config.id2label, config.label2id) == (names, {v: k for k, v in names.items()})
    words = teacher.get_input_embeddings().weight
    assert torch.equal(student.get_input_embeddings().weight, project_embeddings(words.detach(), 8, "svd"))
    assert all(parameter.requires_grad and parameter.dtype == torch.float32 for parameter in student.parameters())


def test_what_kind_of_labels_the_teacher_learnt_is_taken_over():
    teacher = tiny.model(task="sequence", problem_type="multi_label_classification")
    assert bilstm_student(teacher, **SIZES).config.problem_type == "multi_label_classification"


def test_pca_and_frozen_embeddings_are_had_by_asking():
    teacher = tiny.model(task="token")
    student = bilstm_student(teacher, **SIZES, embedding_init="pca", freeze_embeddings=True)
    words = student.get_input_embeddings().weight
    assert torch.equal(words, project_embeddings(teacher.get_input_embeddings().weight.detach(), 12, "pca"))
    frozen = [name for name, parameter in student.named_parameters() if not parameter.requires_grad]
    assert frozen == ["bilstm.embeddings.word_embeddings.weight"]


def test_the_seed_decides_the_random_weights_and_nothing_else_draws():
    teacher = tiny.model(task="token")
    torch.manual_seed(1)
    state = torch.get_rng_state()
    one, again, other = (bilstm_student(teacher, **SIZES, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(*pair) for pair in zip(one.parameters(), again.parameters(), strict=True))
    assert not torch.equal(one.classifier.weight, other.classifier.weight)


def test_the_teacher_stays_as_it_was():
    teacher = tiny.model(task="token")
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    student = bilstm_student(teacher, **SIZES | {"embedding_size": 32})
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.zero_()
    student.config.id2label[0] = "changed"
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.state_dict().items())
    assert teacher.config.id2label[0] == "LABEL_0"


def test_its_parts_are_unfrozen_in_the_papers_order():
    student = bilstm_student(tiny.model(task="token"), **SIZES)
    assert list(parameter_groups(student)) == ["head", "projector", "layer.0", "embeddings"]


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("task", "settings", "message"),
    [
        ("token", {"embedding_size": 33}, "embedding_size=33.*BertForTokenClassification are 32 wide.*at most 32"),
        ("token", {"embedding_size": 0}, "embedding_size=0, but must be at least 1"),
        ("token", {"lstm_hidden_size": -1}, "lstm_hidden_size=-1"),
        ("token", {"layers": 0}, "layers=0"),
        ("token", {"embedding_init": "cut"}, "Unknown embedding_init='cut'. Choose one of svd, pca"),
        ("masked_lm", {}, "BertForMaskedLM.*token or sequence classification head.*AutoModelForTokenClassification"),
        ("encoder", {}, "BertModel"),
    ],
)
def test_a_student_that_cannot_be_built_is_refused(task, settings, message):
    with pytest.raises(ValueError, match=message):
        bilstm_student(tiny.model(task=task), **SIZES | settings)


# --- Training it ------------------------------------------------------------------------------------------------------


def rows(tokenizer, task):
    """48 rows, labelled by their words."""
    data = tokenize(Dataset.from_dict({"text": tiny.sentences(48)}), tokenizer)
    if task == "sequence":
        return data.map(lambda row: {"labels": row["input_ids"][1] % 3})
    return data.map(lambda row: {"labels": [-100] + [token % 3 for token in row["input_ids"][1:-1]] + [-100]})


def trainer_of(folder, tokenizer, task="token", *, seed=42, callbacks=None, **settings):
    """Logits, the top hidden state and labels of a BERT teacher, 6 steps an epoch."""
    teacher = tiny.model("bert", task, layers=3)
    student = bilstm_student(teacher, **SIZES, layers=2, seed=seed)
    weights = {"logits_weight": 1.0, "hidden_weight": 1.0, "label_weight": 1.0, "layer_map": "last"}
    defaults = {"learning_rate": 3e-3, "num_train_epochs": 3, "save_strategy": "no"}
    args = tiny.arguments(folder, **weights | defaults | settings)
    data = rows(tokenizer, task)
    return DistillTrainer(
        student, teacher, args, train_dataset=data, processing_class=tokenizer, callbacks=callbacks or []
    )


@pytest.mark.parametrize("task", ["token", "sequence"])
@pytest.mark.parametrize("objective", ["logits", "hidden", "label"])
def test_the_trainer_teaches_it_every_objective_without_a_further_projector(task, objective, tokenizer, tmp_path):
    weights = dict.fromkeys(("logits_weight", "hidden_weight", "label_weight"), 0.0) | {f"{objective}_weight": 1.0}
    whole = {"per_device_train_batch_size": 48, "max_steps": 60, "learning_rate": 1e-2, "disable_dropout": True}
    trainer = trainer_of(tmp_path, tokenizer, task, **weights, **whole)
    assert not list(trainer.model.objectives.parameters())
    assert not trainer.data_collator.student.packed
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.promise(4)
@pytest.mark.promise(3)
def test_accumulation_and_padding_do_not_change_its_loss_curve(tokenizer, tmp_path):
    curves = []
    for batch_size, accumulation in ((16, 1), (4, 4)):  # 4 rows are padded to another width than 16
        trainer = trainer_of(
            tmp_path,
            tokenizer,
            disable_dropout=True,
            per_device_train_batch_size=batch_size,
            gradient_accumulation_steps=accumulation,
        )
        trainer.train()
        curves.append([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
    assert len(curves[0]) == 9
    assert curves[0] == pytest.approx(curves[1], abs=1e-5)


class StopAt(TrainerCallback):
    """Ends a run after a step."""

    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop = state.global_step == self.step


@pytest.mark.promise(2)
def test_a_resumed_run_ends_with_bitwise_the_weights_of_one_that_was_not(tokenizer, tmp_path):
    settings = {"save_strategy": "steps", "save_steps": 4}
    whole = trainer_of(tmp_path / "whole", tokenizer, **settings)
    whole.train()
    trainer_of(tmp_path / "stopped", tokenizer, callbacks=[StopAt(7)], **settings).train()
    # Everything must come from the checkpoint, of step 4 here: the resumed run starts from another student.
    checkpoints = sorted(path.name for path in (tmp_path / "stopped").glob("checkpoint-*"))
    assert "checkpoint-4" in checkpoints
    resumed = trainer_of(tmp_path / "stopped", tokenizer, seed=1, **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "stopped" / "checkpoint-4"))
    expected = whole.student.state_dict()
    differing = [
        name for name, tensor in resumed.student.state_dict().items() if not torch.equal(tensor, expected[name])
    ]
    assert differing == []


@pytest.mark.promise(5)
def test_the_exported_folder_carries_the_code_and_gives_the_same(tokenizer, tmp_path):
    trainer = trainer_of(tmp_path, tokenizer, max_steps=3)
    trainer.train()
    trainer.save_model()
    assert json.loads((tmp_path / "config.json").read_text())["auto_map"] == {
        "AutoConfig": "configuration_bilstm.BiLstmConfig",
        "AutoModelForTokenClassification": "modeling_bilstm.BiLstmForTokenClassification",
    }
    assert {"configuration_bilstm.py", "modeling_bilstm.py"} <= {path.name for path in tmp_path.iterdir()}
    inputs = tokenizer(tiny.sentences(5), padding=True, return_tensors="pt")
    inputs = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        loaded = AutoModelForTokenClassification.from_pretrained(tmp_path)(**inputs).logits
        assert torch.equal(loaded, trainer.student.eval()(**inputs).logits)


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"hidden_weight": 1.0}, "layer_map='top' compares states below the top.*'1:4'"),
        ({"attention_weight": 1.0}, "attention_weight compares attention, which this student doesn't have"),
        ({"relation_weight": 1.0}, "relation_weight compares attention"),
    ],
)
def test_what_a_bilstm_does_not_have_can_not_be_compared(weights, message, tmp_path):
    teacher = tiny.model("bert", "token", layers=4)
    student = bilstm_student(teacher, embedding_size=8, lstm_hidden_size=6)
    with pytest.raises(ValueError, match=message):
        DistillTrainer(student, teacher, tiny.arguments(tmp_path, **weights), processing_class=tiny.tokenizer())
