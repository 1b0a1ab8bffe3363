"""Evaluation and prediction: means over the whole dataset, and predictions for every kind of student."""

import jobs
import numpy as np
import pytest
import tiny
import torch
from datasets import Dataset, IterableDataset
from ranks import run_on_ranks
from sentence_transformers import SentenceTransformer
from torch.nn import functional as F

from retort import (
    CKDTrainer,
    CKDTrainingArguments,
    ContrastiveTrainer,
    ContrastiveTrainingArguments,
    DistillTrainer,
    MCLTrainer,
    MCLTrainingArguments,
    tokenize,
)
from retort.data import tokenize_groups

ROWS = 37
MORE = {
    "distil": {"similarity_weight": 1.0, "features_weight": 1.0},
    "vocabulary": {"negatives_within": "batch", "unaligned_negatives": True, "vocabulary_tokens": "hidden"},
}


def trainer_of(kind, tmp_path, batch_size, **settings):
    """One of the five, with rows of uneven lengths and labels."""
    trainer_class, arguments_class, objectives = jobs.TRAINERS[kind]
    tokenizer = tiny.tokenizer()
    makers = {"triplets": jobs.triplets, "translations": jobs.translations, "vocabulary": jobs.spans}
    task = "masked_lm" if kind == "vocabulary" else "token" if kind == "distil" else "encoder"
    data = makers.get(kind, jobs.tagged)(tokenizer)
    args = tiny.arguments(
        tmp_path,
        arguments_class,
        per_device_eval_batch_size=batch_size,
        save_strategy="no",
        **objectives | MORE.get(kind, {}) | settings,
    )
    return trainer_class(
        tiny.model("bert", task, hidden=16),
        tiny.model("bert", task, seed=3, vocab_size=tiny.VOCAB_SIZE),
        args,
        train_dataset=data,
        eval_dataset=data.select(range(ROWS)),
        processing_class=tokenizer,
        teacher_processing_class=tiny.tokenizer(jobs.OTHER_WORDS) if kind == "vocabulary" else None,
    )


@pytest.mark.promise(4)
@pytest.mark.parametrize("kind", jobs.TRAINERS)
def test_the_loss_does_not_depend_on_the_evaluations_batch_size(kind, tmp_path):
    found = []
    for batch_size in (1, 4, 8, 17):
        metrics = trainer_of(kind, tmp_path, batch_size).evaluate()
        found.append({name: value for name, value in metrics.items() if "loss" in name})
    assert found[0]["eval_loss"] > 0
    for other in found[1:]:
        assert other == pytest.approx(found[0], rel=1e-5)


@pytest.mark.parametrize("kind", jobs.TRAINERS)
def test_the_loss_is_the_weighted_sum_of_its_parts(kind, tmp_path):
    trainer = trainer_of(kind, tmp_path, 8)
    metrics = trainer.evaluate()
    parts = sum(o.weight * metrics[f"eval_loss_{o.name}"] for o in trainer.objectives)
    assert metrics["eval_loss"] == pytest.approx(parts, rel=1e-6)
    assert trainer.state.log_history[-1]["eval_loss"] == metrics["eval_loss"]


def test_rows_meet_in_blocks_of_32_in_the_datasets_order(tmp_path):
    trainer = trainer_of("triplets", tmp_path, 4, learn_temperature=False)
    metrics = trainer.evaluate()
    members = trainer.eval_dataset["members"]
    with torch.no_grad():
        embedded = [[trainer.student(torch.tensor([ids]))[0][0].mean(0) for ids in group] for group in members]
    vectors = F.normalize(torch.stack([torch.stack(group) for group in embedded]), dim=-1).double()
    losses = []
    for block, texts in ((vectors[:32], members[:32]), (vectors[32:], members[32:])):
        for i, (anchor, positive, _) in enumerate(texts):
            keys = [block[i, 1]]
            keys += [block[j, 1] for j, t in enumerate(texts) if t[0] != anchor and t[1] not in (anchor, positive)]
            keys += [block[j, 2] for j, t in enumerate(texts) if t[2] not in (anchor, positive)]
            losses.append(F.cross_entropy(torch.stack(keys) @ block[i, 0] / 0.05, torch.tensor(0)).item())
    assert metrics["eval_loss_positives"] == pytest.approx(np.mean(losses), rel=1e-4)


def test_the_last_rows_are_evaluated_though_training_drops_them(tmp_path):
    whole = trainer_of("distil", tmp_path, 8).evaluate()["eval_loss"]
    trainer = trainer_of("distil", tmp_path, 8, dataloader_drop_last=True)
    assert trainer.evaluate()["eval_loss"] == whole
    assert trainer.args.dataloader_drop_last


def test_an_evaluation_after_a_prediction_has_its_own_means(tmp_path):
    trainer = trainer_of("distil", tmp_path, 8)
    first = trainer.evaluate()["eval_loss_hidden"]
    trainer.predict(trainer.train_dataset.select(range(50, 60)))
    assert trainer.evaluate()["eval_loss_hidden"] == first


# --- What one rank logs -----------------------------------------------------------------------------------------------


def test_what_a_callback_logs_takes_no_means_away(tmp_path):
    callback = jobs.LogsByItself()
    for name, callbacks in (("plain", []), ("with", [callback])):
        trainer = trainer_of("distil", tmp_path / name, 8, max_steps=3)
        callback.trainer = trainer
        for each in callbacks:
            trainer.add_callback(each)
        trainer.train()
        history = [entry for entry in trainer.state.log_history if "loss" in entry]
        kept = [{name: value for name, value in entry.items() if "loss" in name} for entry in history]
        if name == "plain":
            expected = kept
    assert kept == expected
    assert "loss_hidden" in kept[0]


def test_what_a_callback_logs_on_one_rank_does_not_hang_the_others(tmp_path):
    assert run_on_ranks(jobs.log_on_one_rank, 2, folder=str(tmp_path), timeout=60) == [0, 0]


# --- Predictions ------------------------------------------------------------------------------------------------------


def sentences(tokenizer, count=11, **columns):
    return tokenize(Dataset.from_dict({"text": tiny.sentences(count)}), tokenizer)


def sentence_trainer(tmp_path, tokenizer, data, student=None, **settings):
    args = tiny.arguments(tmp_path, **{"embedding_weight": 1.0, "save_strategy": "no"} | settings)
    return DistillTrainer(
        student or tiny.model("bert", hidden=16),
        tiny.model("bert", seed=3),
        args,
        train_dataset=data,
        eval_dataset=data,
        processing_class=tokenizer,
    )


@pytest.mark.parametrize(
    "settings", [{}, {"embedding_loss": "mse"}, {"keep_projector": True}, {"attention_backend": "padded"}]
)
def test_predictions_of_a_sentence_student_are_what_the_export_encodes(settings, tokenizer, tmp_path):
    data = sentences(tokenizer)
    trainer = sentence_trainer(tmp_path, tokenizer, data, per_device_eval_batch_size=4, **settings)
    found = trainer.predict(data)
    trainer.save_model()
    expected = SentenceTransformer(str(tmp_path), device="cpu").encode(tiny.sentences(11))
    np.testing.assert_allclose(found.predictions, expected, rtol=1e-4, atol=1e-5)
    assert found.metrics["test_loss"] > 0


def test_embeddings_are_measured_without_labels(tokenizer, tmp_path):
    data = sentences(tokenizer)
    trainer = sentence_trainer(tmp_path, tokenizer, data)
    seen = []
    trainer.compute_metrics = lambda found: seen.append(found) or {"rows": len(found.predictions)}
    metrics = trainer.evaluate()
    assert metrics["eval_rows"] == 11
    assert trainer.state.log_history[-1]["eval_rows"] == 11
    assert seen[0].label_ids is None
    np.testing.assert_array_equal(seen[0].predictions, trainer.predict(data).predictions)


def test_embeddings_are_measured_with_labels_where_there_are_some(tokenizer, tmp_path):
    data = sentences(tokenizer).map(lambda row, i: {"labels": i / 2}, with_indices=True)
    trainer = sentence_trainer(tmp_path, tokenizer, data, per_device_eval_batch_size=4)
    trainer.compute_metrics = lambda found: {"labels": found.label_ids.tolist()}
    assert trainer.evaluate()["eval_labels"] == [i / 2 for i in range(11)]


@pytest.mark.parametrize("trainer_class", [ContrastiveTrainer, MCLTrainer])
def test_predictions_of_groups_are_the_embeddings_of_their_members(trainer_class, tokenizer, tmp_path):
    kind = ContrastiveTrainingArguments if trainer_class is ContrastiveTrainer else MCLTrainingArguments
    texts = {"source": tiny.sentences(9), "target": tiny.sentences(9, seed=1)}
    theirs = {} if trainer_class is ContrastiveTrainer else {"teacher_tokenizer": tokenizer}
    data = tokenize_groups(Dataset.from_dict(texts), tokenizer, **theirs)
    args = tiny.arguments(tmp_path, kind, save_strategy="no", per_device_eval_batch_size=2)
    student, teacher = tiny.model("bert"), tiny.model("bert", seed=1) if theirs else None
    trainer = trainer_class(student, teacher, args, train_dataset=data, processing_class=tokenizer)
    found = trainer.predict(data).predictions
    assert found.shape == (9, 2, 32)
    with torch.no_grad():
        expected = [[student(torch.tensor([ids]))[0][0].mean(0) for ids in row["members"]] for row in data]
    expected = torch.stack([torch.stack(group) for group in expected])
    expected = expected if args.embedding_loss == "mse" else F.normalize(expected, dim=-1)
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("task", ["token", "sequence"])
def test_a_head_predicts_though_only_its_layers_are_compared(task, tokenizer, tmp_path):
    data, student = sentences(tokenizer), tiny.model("bert", task)
    args = tiny.arguments(tmp_path, hidden_weight=1.0, per_device_eval_batch_size=4)
    trainer = DistillTrainer(student, tiny.model("bert", task, seed=1), args, processing_class=tokenizer)
    found = trainer.predict(data).predictions
    for row, logits in zip(data["input_ids"], found, strict=True):
        with torch.no_grad():
            expected = student(torch.tensor([row])).logits[0].numpy()
        np.testing.assert_allclose(logits[: len(row)] if task == "token" else logits, expected, rtol=1e-4, atol=1e-5)


def test_a_masked_language_model_predicts_what_was_hidden(tmp_path):
    trainer = trainer_of("vocabulary", tmp_path, 8)
    found = trainer.predict(trainer.eval_dataset)
    assert found.predictions.shape == (*found.label_ids.shape, tiny.VOCAB_SIZE)
    hidden = found.label_ids >= 0
    logits = torch.from_numpy(found.predictions[hidden])
    loss = F.cross_entropy(logits, torch.from_numpy(found.label_ids[hidden]))
    assert loss.item() == pytest.approx(found.metrics["test_loss_mlm"], rel=1e-5)


def test_rows_without_labels_are_predicted_without_a_loss(tokenizer, tmp_path):
    data = sentences(tokenizer)
    args = tiny.arguments(tmp_path, label_weight=1.0)
    student = tiny.model("bert", "sequence")
    trainer = DistillTrainer(student, args=args, processing_class=tokenizer)
    found = trainer.predict(data)
    assert found.predictions.shape == (11, 3)
    assert found.label_ids is None
    assert "test_loss" not in found.metrics
    with pytest.raises(ValueError, match="The evaluation rows: label_weight is above 0, but there is no 'labels'"):
        trainer.evaluate(data)
    labelled = data.map(lambda row, i: {"label": i % 3}, with_indices=True)
    with torch.no_grad():
        logits = torch.stack([student(torch.tensor([ids])).logits[0] for ids in data["input_ids"]])
    expected = F.cross_entropy(logits, torch.arange(11) % 3).item()
    assert trainer.evaluate(labelled)["eval_loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("streamed", [False, True])
def test_new_rows_keep_the_teachers_tokens(streamed, tokenizer, tmp_path):
    theirs = tiny.tokenizer("wordpiece, other words")
    texts = Dataset.from_dict({"text": tiny.sentences(9, seed=3)})
    rows = tokenize(texts, tokenizer, teacher_tokenizer=theirs, align=True)
    named = {"processing_class": tokenizer, "teacher_processing_class": theirs}

    def trainer(**sets):
        args = tiny.arguments(tmp_path, embedding_weight=1.0, hidden_weight=1.0, max_steps=1)
        return DistillTrainer(tiny.model("bert"), tiny.model("bert", seed=1), args, **named, **sets)

    expected = trainer(eval_dataset=rows).evaluate()["eval_loss"]
    given = IterableDataset.from_generator(rows.to_list) if streamed else rows
    assert trainer().evaluate(given)["eval_loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.promise(9)
@pytest.mark.parametrize("streamed", [False, True])
def test_the_teachers_tokens_are_refused_by_a_trainer_that_does_not_read_them(streamed, tokenizer, tmp_path):
    data = sentences(tokenizer)
    theirs = tokenize(Dataset.from_dict({"text": tiny.sentences(7)}), tokenizer, teacher_tokenizer=tokenizer)
    rows = theirs.add_column("teacher_input_ids", theirs["input_ids"][:])
    trainer = sentence_trainer(tmp_path, tokenizer, data)
    with pytest.raises(ValueError, match="evaluation rows hold teacher_input_ids, but the trainer was created without"):
        trainer.evaluate(rows.to_iterable_dataset() if streamed else rows)
    assert trainer.evaluate(rows.remove_columns("teacher_input_ids"))["eval_loss"] > 0


def test_new_rows_meet_the_live_teacher_beside_a_cache(tokenizer, tmp_path):
    data, others = sentences(tokenizer), tokenize(Dataset.from_dict({"text": tiny.sentences(7, seed=5)}), tokenizer)
    settings = {"teacher_cache": str(tmp_path / "cache"), "teacher_cache_dtype": "float32"}
    torch.manual_seed(0)
    expected = sentence_trainer(tmp_path / "live", tokenizer, data).evaluate(others)["eval_loss"]
    torch.manual_seed(0)
    trainer = sentence_trainer(tmp_path / "cached", tokenizer, data, **settings)
    assert trainer.evaluate(others)["eval_loss"] == pytest.approx(expected, rel=1e-5)
    args = tiny.arguments(tmp_path, embedding_weight=1.0, **settings)
    alone = DistillTrainer(tiny.model("bert", hidden=16), None, args, train_dataset=data, processing_class=tokenizer)
    assert alone.predict(others).predictions.shape == (7, 16)
    with pytest.raises(ValueError, match="no cached outputs of the teacher"):
        alone.evaluate(others)


def test_persistent_workers_do_not_evaluate_the_rows_of_an_earlier_call(tokenizer, tmp_path):
    data = sentences(tokenizer)
    workers = {"dataloader_num_workers": 1, "dataloader_persistent_workers": True}
    trainer = sentence_trainer(tmp_path, tokenizer, data, **workers)
    trainer.compute_metrics = lambda found: {"rows": len(found.predictions)}
    assert [trainer.evaluate(data.select(range(n)))["eval_rows"] for n in (3, 5)] == [3, 5]


def test_a_trainer_of_contrast_predicts_with_its_queue_untouched(tokenizer, tmp_path):
    data = sentences(tokenizer)
    args = tiny.arguments(tmp_path, CKDTrainingArguments, save_strategy="no")
    trainer = CKDTrainer(
        tiny.model("bert"), tiny.model("bert", seed=1), args, train_dataset=data, processing_class=tokenizer
    )
    assert trainer.predict(data).predictions.shape == (11, 32)
    assert len(trainer.queue) == 0
