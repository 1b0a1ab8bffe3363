"""A step and its objectives: no way of dividing a step, and no other objective, changes what one of them computes."""

import dataclasses
import gc
import weakref

import pytest
import tiny
import torch
from datasets import Dataset
from steps import step_of

from retort import (
    CKDTrainer,
    CKDTrainingArguments,
    ContrastiveTrainer,
    ContrastiveTrainingArguments,
    DistillTrainer,
    DistillTrainingArguments,
    MCLTrainer,
    MCLTrainingArguments,
    VocabReducedMLMTrainer,
    VocabReducedMLMTrainingArguments,
    shrink,
    tokenize,
)
from retort.data import tokenize_groups, tokenize_spans

ROWS = 16
TEXTS = tiny.sentences(ROWS)


def distilled(task, **weights):
    """A maker of a `DistillTrainer` with some objectives, on rows with labels of the task."""

    def make(folder, tokenizer, student=None):
        teacher = tiny.model("bert", task, layers=4)
        student = shrink(teacher, layers=2, hidden_size=16) if student is None else student
        data = tokenize(Dataset.from_dict({"text": TEXTS}), tokenizer)
        if task == "token":
            data = data.map(lambda row: {"labels": [-100, *(id_ % 3 for id_ in row["input_ids"][1:-1]), -100]})
        elif task == "sequence":
            data = data.add_column("labels", [i % 3 for i in range(ROWS)])
        if "attention_weight" in weights:
            for model in (teacher, student):
                model.set_attn_implementation("eager")
        return trainer_of(DistillTrainer, DistillTrainingArguments, folder, tokenizer, student, teacher, data, weights)

    return make


def contrasted(**settings):
    """A maker of a `CKDTrainer`."""

    def make(folder, tokenizer):
        teacher = tiny.model("bert", layers=4)
        student = shrink(teacher, layers=2, hidden_size=16)
        data = tokenize(Dataset.from_dict({"text": TEXTS}), tokenizer)
        made = trainer_of(CKDTrainer, CKDTrainingArguments, folder, tokenizer, student, teacher, data, settings)
        if made.queue is not None:
            keys = torch.randn(10, 32, generator=torch.Generator().manual_seed(0))
            made.queue.push(torch.nn.functional.normalize(keys, dim=-1), torch.arange(10))
        return made

    return make


def of_groups(kind, arguments, **settings):
    """A maker of an `MCLTrainer` or a `ContrastiveTrainer`."""

    def make(folder, tokenizer):
        texts = {side: tiny.sentences(ROWS, seed=seed) for seed, side in enumerate(("source", "target"))}
        names = ("source", "target") if kind is MCLTrainer else ("anchor", "positive")
        texts = dict(zip(names, texts.values(), strict=True))
        teacher = tiny.model("bert", seed=3, hidden=48) if kind is MCLTrainer else None
        theirs = tokenizer if kind is MCLTrainer else None
        data = tokenize_groups(Dataset.from_dict(texts), tokenizer, teacher_tokenizer=theirs)
        return trainer_of(kind, arguments, folder, tokenizer, tiny.model("bert"), teacher, data, settings)

    return make


def scored(folder, tokenizer):
    """A `ContrastiveTrainer` of queries with different numbers of documents, by their scores."""
    texts = iter(tiny.sentences(6 * ROWS))
    rows = [
        {
            "query": next(texts),
            "documents": [next(texts) for _ in range(size)],
            "scores": [2.0 - 0.2 * place * size for place in range(size)],
        }
        for size in (2 + row % 4 for row in range(ROWS))
    ]
    settings = {"contrastive_weight": 0.0, "margin_weight": 1.0, "listwise_weight": 1.0, "score_temperature": 1.0}
    data = tokenize_groups(Dataset.from_list(rows), tokenizer)
    kinds = ContrastiveTrainer, ContrastiveTrainingArguments
    return trainer_of(*kinds, folder, tokenizer, tiny.model("bert"), None, data, settings)


def masked(**settings):
    """A maker of a `VocabReducedMLMTrainer`."""

    def make(folder, tokenizer):
        theirs = tiny.tokenizer("wordpiece, other words")
        teacher = tiny.model("roberta", "masked_lm", seed=3, hidden=48, vocab_size=200)
        data = tokenize_spans(Dataset.from_dict({"text": TEXTS}), tokenizer, teacher_tokenizer=theirs)
        kinds = VocabReducedMLMTrainer, VocabReducedMLMTrainingArguments
        student = tiny.model("bert", "masked_lm")
        weights = {"mlm_weight": 0.0, "vocabulary_weight": 0.0} | settings
        return trainer_of(*kinds, folder, tokenizer, student, teacher, data, weights, teacher_processing_class=theirs)

    return make


def trainer_of(kind, arguments, folder, tokenizer, student, teacher, data, settings, **named):
    args = tiny.arguments(folder, arguments, max_steps=1, save_strategy="no", disable_dropout=True, **settings)
    return kind(student, teacher, args, train_dataset=data, processing_class=tokenizer, **named)


MAKERS = {
    **{f"logits, {kind}": distilled("token", logits_weight=1.0, logits_loss=kind) for kind in ("kl", "mse", "hard")},
    "logits of rows": distilled("sequence", logits_weight=1.0),
    "logits of a vocabulary": distilled("masked_lm", logits_weight=1.0),
    "labels of tokens": distilled("token", label_weight=1.0),
    "labels of rows": distilled("sequence", label_weight=1.0, label_smoothing_factor=0.1),
    "features": distilled("token", features_weight=1.0),
    "hidden": distilled("token", hidden_weight=1.0, layer_map="average", hidden_loss="cosine"),
    "hidden, first": distilled("encoder", hidden_weight=1.0, hidden_tokens="first"),
    "hidden, mix": distilled("encoder", hidden_weight=1.0, layer_map="mix", hidden_tokens="mean"),
    "attention": distilled("encoder", attention_weight=1.0),
    "relations": distilled("encoder", relation_weight=1.0, relation_heads=4),
    "embedding": distilled("encoder", embedding_weight=1.0, embedding_loss="mse"),
    "similarity": distilled("encoder", similarity_weight=1.0),
    "short vectors": distilled("encoder", similarity_weight=1.0, truncate_dims=[8, 4], quantization_aware="binary"),
    "contrastive": contrasted(),
    "contrastive, learnt": contrasted(learn_temperature=True, queue_size=0),
    "contrastive, both": contrasted(both_directions=True, student_negatives=True),
    "positives": of_groups(ContrastiveTrainer, ContrastiveTrainingArguments),
    "margin and listwise": scored,
    "positives, short": of_groups(ContrastiveTrainer, ContrastiveTrainingArguments, truncate_dims=[16, 8]),
    "contrastive, short": contrasted(truncate_dims=[16, 8], queue_size=0),
    "mcl, short": of_groups(MCLTrainer, MCLTrainingArguments, truncate_dims=[8], quantization_aware="binary"),
    "mcl": of_groups(MCLTrainer, MCLTrainingArguments, source_weight=0.0, target_weight=0.0),
    "source and target": of_groups(MCLTrainer, MCLTrainingArguments, mcl_weight=0.0),
    "mlm": masked(mlm_weight=1.0),
    "vocabulary": masked(vocabulary_weight=1.0, vocabulary_loss="reduce_map"),
    "token contrast": masked(contrast_weight=1.0, layer_map="last", negatives_within="text"),
    "token contrast, curved": masked(
        contrast_weight=1.0, negatives_within="text", contrast_space="hyperbolic", learn_curvature=True
    ),
}


def loss_and_gradient(trainer, *batches):
    """Of one step, by the parameters that it reaches."""
    trainer.create_optimizer()
    trainer.model.zero_grad()
    made, step = step_of(trainer, *batches)
    loss = sum(trainer.training_step(trainer.model, batch, step) for batch in made)
    return loss, {name: p.grad.clone() for name, p in trainer.model.named_parameters() if p.grad is not None}


@pytest.mark.promise(3)
@pytest.mark.parametrize("name", MAKERS)
def test_one_batch_of_16_has_the_loss_and_gradient_of_four_of_4(name, tokenizer, tmp_path):
    results = []
    for size in (16, 4):
        order = torch.randperm(ROWS, generator=torch.Generator().manual_seed(1)).tolist()
        batches = [order[start : start + size] for start in range(0, ROWS, size)]
        results.append(loss_and_gradient(MAKERS[name](tmp_path, tokenizer), *batches))
    (loss, gradient), (other_loss, other_gradient) = results
    assert loss > 0
    torch.testing.assert_close(loss, other_loss, rtol=1e-5, atol=0)
    assert gradient.keys() == other_gradient.keys()
    assert any(each.any() for each in gradient.values())
    for parameter, each in gradient.items():
        torch.testing.assert_close(
            each, other_gradient[parameter], rtol=1e-4, atol=1e-6, msg=lambda m, n=parameter: f"{n}: {m}"
        )


ALONE = {
    "token": ("logits_weight", "label_weight", "features_weight", "hidden_weight", "relation_weight"),
    "encoder": ("embedding_weight", "similarity_weight", "hidden_weight"),
}


@pytest.mark.parametrize("task", ALONE)
def test_an_objective_has_the_value_that_it_has_alone(task, tokenizer, tmp_path):
    """Weights that are drawn are not compared: models of one width have none."""

    def logged(*weights):
        teacher = tiny.model("bert", task, layers=4)
        settings = dict.fromkeys(weights, 1.0) | {"relation_heads": 4, "learning_rate": 0.0}
        trainer = distilled(task, **settings)(tmp_path, tokenizer, shrink(teacher, layers=2))
        trainer.train()
        return {name: mean for name, mean in trainer.state.log_history[0].items() if name.startswith("loss_")}

    together = logged(*ALONE[task])
    alone = [logged(weight) for weight in ALONE[task]]
    assert together == pytest.approx({name: mean for each in alone for name, mean in each.items()}, rel=1e-6)


def test_a_teachers_outputs_are_let_go_of_once_they_are_read(tokenizer, tmp_path):
    trainer = contrasted(hidden_weight=1.0, layer_map="last")(tmp_path, tokenizer)
    trainer.create_optimizer()
    batches, step = step_of(trainer, range(8), range(8, 16))
    held = [weakref.ref(part.teacher.hidden_states[4]) for part in step.micro_batches]
    for done, batch in enumerate(batches, start=1):
        trainer.training_step(trainer.model, batch, step)
        gc.collect()
        assert [each() is None for each in held] == [index < done for index in range(2)]


@pytest.mark.parametrize("name", ["labels of tokens", "mcl", "mlm"])
def test_nothing_is_written_to_a_batch(name, tokenizer, tmp_path):
    trainer = MAKERS[name](tmp_path, tokenizer)
    batches, step = step_of(trainer, range(8), range(8, 16))
    before = [dict(vars(batch)) for batch in batches]
    for batch in batches:
        trainer.training_step(trainer.model, batch, step)
        with pytest.raises(dataclasses.FrozenInstanceError):
            batch.order = None
    for batch, then in zip(batches, before, strict=True):
        assert all(value is then[key] for key, value in vars(batch).items())


def test_objectives_of_one_name_are_refused(tokenizer, tmp_path):
    class Twice(DistillTrainer):
        def build_objectives(self, *arguments):
            return [*super().build_objectives(*arguments), *super().build_objectives(*arguments)]

    teacher = tiny.model("bert", layers=4)
    data = tokenize(Dataset.from_dict({"text": TEXTS}), tokenizer)
    args = tiny.arguments(tmp_path, embedding_weight=1.0)
    with pytest.raises(ValueError, match="need different names, but these are named embedding, embedding"):
        Twice(shrink(teacher, layers=2), teacher, args, train_dataset=data, processing_class=tokenizer)
