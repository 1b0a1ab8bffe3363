"""Hidden states compared as one average of all layers, whose weights are learnt."""

import pytest
import tiny
import torch
from datasets import Dataset
from safetensors.torch import load_file
from tiny import arguments

from retort import DistillTrainer, VocabReducedMLMTrainer, VocabReducedMLMTrainingArguments, shrink, tokenize
from retort.trainers.student_trainer import HEADS_FILE

TEXTS = Dataset.from_dict({"text": tiny.sentences(24, seed=9)})


def trainer_of(folder, *, hidden_size=16, tokenizer=None, **settings):
    """A run over all layers of a student of two, and a teacher of four."""
    teacher = tiny.model("bert", layers=4)
    own = {"tokenizer": tokenizer, "teacher_tokenizer": tiny.tokenizer()} if tokenizer else {}
    student = shrink(teacher, layers=[0, 3], hidden_size=hidden_size, **own)
    theirs = tiny.tokenizer() if tokenizer else None
    rows = tokenize(TEXTS, tokenizer or tiny.tokenizer(), teacher_tokenizer=theirs)
    args = arguments(folder, hidden_weight=1.0, layer_map="mix", **settings)
    tokenizers = {"processing_class": tokenizer or tiny.tokenizer(), "teacher_processing_class": theirs}
    return DistillTrainer(student, teacher, args, train_dataset=rows, **tokenizers)


def set_weights(trainer, ours, theirs):
    """Make the weights of the layers what is given."""
    with torch.no_grad():
        trainer.model.objectives["hidden"].weights.logits.copy_(torch.tensor(ours).log())
        trainer.model.objectives["hidden"].teacher_weights.logits.copy_(torch.tensor(theirs).log())


def mixed(model, ids, weights):
    """The weighted average of all states of one row, by hand."""
    states = model(torch.tensor([ids]), output_hidden_states=True).hidden_states
    return sum(weight * state[0] for weight, state in zip(weights, states, strict=True))


@pytest.mark.parametrize("hidden_size", [32, 16])
@pytest.mark.parametrize("tokens", ["all", "first", "mean"])
def test_the_loss_is_the_distance_of_two_averages(tokens, hidden_size, tmp_path):
    trainer = trainer_of(tmp_path, hidden_size=hidden_size, hidden_tokens=tokens)
    ours, theirs = [0.2, 0.5, 0.3], [0.1, 0.2, 0.3, 0.15, 0.25]
    set_weights(trainer, ours, theirs)
    chosen = [trainer.train_dataset[index] for index in range(3)]
    take = {"all": lambda rows: rows, "first": lambda rows: rows[:1], "mean": lambda rows: rows.mean(0, keepdim=True)}
    project = trainer.model.objectives["hidden"].projector
    assert isinstance(project, torch.nn.Linear) == (hidden_size == 16)
    errors = []
    with torch.no_grad():
        for row in chosen:
            sides = (
                project(mixed(trainer.student, row["input_ids"], ours)),
                mixed(trainer.teacher.models[0], row["input_ids"], theirs),
            )
            errors += (take[tokens](sides[0]) - take[tokens](sides[1])).square().mean(-1).tolist()
        loss = trainer.compute_loss(trainer.model, trainer.data_collator(chosen))
    assert loss.item() == pytest.approx(sum(errors) / len(errors), rel=1e-4)


def test_weights_begin_equal_and_find_the_layer_that_is_alike(tmp_path):
    trainer = trainer_of(tmp_path, hidden_size=32, max_steps=60, learning_rate=0.3)
    trainer.model.student.requires_grad_(False)
    weights = trainer.model.objectives["hidden"].teacher_weights, trainer.model.objectives["hidden"].weights
    assert [each().tolist() for each in weights] == [pytest.approx([1 / 5] * 5), pytest.approx([1 / 3] * 3)]
    trainer.train()
    # The embedding layer and the layer above it are what both models share.
    assert all(each()[:2].sum() > 0.95 for each in weights)
    trainer.save_model()
    trainer.save_heads(tmp_path)
    names = {"objectives.hidden.weights.logits", "objectives.hidden.teacher_weights.logits"}
    assert names <= load_file(tmp_path / HEADS_FILE).keys()


def test_means_of_rows_need_no_alignment_between_two_tokenizers(tmp_path):
    trainer = trainer_of(tmp_path, tokenizer=tiny.tokenizer("bpe"), hidden_tokens="mean", max_steps=2)
    trainer.train()
    assert trainer.state.log_history[0]["loss_hidden"] > 0
    with pytest.raises(ValueError, match="not aligned"):
        trainer_of(tmp_path, tokenizer=tiny.tokenizer("bpe"))


@pytest.mark.promise(9)
def test_a_mixture_is_refused_where_single_layers_are_compared(tmp_path):
    with pytest.raises(ValueError, match=r"attention_weight compares pairs of layers.*only hidden_weight"):
        trainer_of(tmp_path, attention_weight=1.0)
    model, teacher = (tiny.model("bert", "masked_lm") for _ in range(2))
    args = arguments(
        tmp_path, VocabReducedMLMTrainingArguments, contrast_weight=1.0, vocabulary_weight=0, layer_map="mix"
    )
    with pytest.raises(ValueError, match="contrast_weight compares pairs of layers"):
        VocabReducedMLMTrainer(model, teacher, args, processing_class=tiny.tokenizer())
