"""Training jobs that the tests of ranks, kills and ZeRO run in processes of their own."""

from __future__ import annotations

import json
import os
import signal
from contextlib import nullcontext
from pathlib import Path

import pytest
import tiny
import torch
from datasets import Dataset
from fully_sharded import as_on_gpus
from sentence_models import TEXTS, sentence_transformer
from sentence_transformers import SentenceTransformer
from transformers import TrainerCallback

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
    bilstm_student,
    shrink,
    static_student,
    tokenize,
)
from retort.data import tokenize_groups, tokenize_spans
from retort.modeling import is_sharded, unsharded
from retort.modeling.encoding import SentenceEncoder
from retort.trainers.saving import last_complete_checkpoint
from retort.trainers.stages.run import ScoreExported

REPOSITORY = Path(__file__).parents[1]
OTHER_WORDS = "wordpiece, other words"


class KillAt(TrainerCallback):
    """Ends the process without warning after a step."""

    def __init__(self, step: int | None):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


class LogsByItself(TrainerCallback):
    """Logs on the main process alone, at every step and evaluation, what looks like a loss."""

    def on_step_end(self, args, state, control, **kwargs):
        if state.is_world_process_zero:
            self.trainer.log({"aux_loss": 1.0})

    on_step_begin = on_evaluate = on_step_end


# Trainer, its arguments, and what it learns from.
TRAINERS = {
    "distil": (
        DistillTrainer,
        DistillTrainingArguments,
        {
            "hidden_weight": 1.0,
            "logits_weight": 1.0,
            "relation_weight": 1.0,
            "label_weight": 1.0,
            "embedding_weight": 1.0,
            "relation_heads": 4,
        },
    ),
    "ckd": (CKDTrainer, CKDTrainingArguments, {"learn_temperature": True, "embedding_weight": 0.5, "queue_size": 128}),
    "ckd, student's keys": (
        CKDTrainer,
        CKDTrainingArguments,
        {"learn_temperature": True, "both_directions": True, "student_negatives": True, "queue_size": 128},
    ),
    "triplets": (ContrastiveTrainer, ContrastiveTrainingArguments, {"learn_temperature": True}),
    "translations": (MCLTrainer, MCLTrainingArguments, {}),
    "vocabulary": (
        VocabReducedMLMTrainer,
        VocabReducedMLMTrainingArguments,
        {
            "vocabulary_loss": "reduce_map",
            "hidden_weight": 1.0,
            "contrast_weight": 1.0,
            "contrast_space": "hyperbolic",
            "learn_curvature": True,
            "negatives_within": "text",
            "negative_count": 3,
        },
    ),
}


def tagged(tokenizer) -> Dataset:
    """Texts with a label at each token."""
    data = tokenize(Dataset.from_dict({"text": tiny.sentences(128)}), tokenizer)
    return data.map(lambda row: {"labels": [-100] + [i % 3 for i in row["input_ids"][1:-1]] + [-100]})


def triplets(tokenizer) -> Dataset:
    """Anchors, positives and hard negatives."""
    texts = {role: tiny.sentences(128, seed=seed) for seed, role in enumerate(("anchor", "positive", "negative"))}
    return tokenize_groups(Dataset.from_dict(texts), tokenizer)


def translations(tokenizer) -> Dataset:
    """Sentences and what stands for their translations, for a teacher with the same tokens."""
    texts = {side: tiny.sentences(128, seed=seed) for seed, side in enumerate(("source", "target"))}
    return tokenize_groups(Dataset.from_dict(texts), tokenizer, teacher_tokenizer=tokenizer)


def spans(tokenizer) -> Dataset:
    """Texts under two tokenizers."""
    texts = Dataset.from_dict({"text": tiny.sentences(128)})
    return tokenize_spans(texts, tokenizer, teacher_tokenizer=tiny.tokenizer(OTHER_WORDS))


def distil(
    folder: str,
    name: str,
    *,
    trainer: str = "distil",
    zero: int = 0,
    fsdp: bool = False,
    cached: bool = False,
    shard_teacher: bool = False,
    kill_at: int | None = None,
    resume: bool = False,
    dropout: float = 0.1,
    evaluate: bool = False,
    **settings,
) -> None:
    """Distil a token tagger or a masked language model, with projectors; leave weights, queue and losses in `folder`.

    Dropout is on unless a test compares runs whose random numbers must differ: a resumed run has to restore them.
    """
    if fsdp:
        as_on_gpus()
    folder = Path(folder)
    tokenizer = tiny.tokenizer()
    makers = {"triplets": triplets, "translations": translations, "vocabulary": spans}
    data, task = makers.get(trainer, tagged)(tokenizer), "masked_lm" if trainer == "vocabulary" else "token"
    defaults = {
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 4,
        "num_train_epochs": 3,
        "save_strategy": "steps",
        "save_steps": 2,
        "learning_rate": 3e-3,
        "disable_dropout": False,
    }
    trainer_class, arguments_class, objectives = TRAINERS[trainer]
    settings = defaults | objectives | settings
    args = tiny.arguments(
        folder / name,
        arguments_class,
        deepspeed=str(REPOSITORY / f"examples/deepspeed/zero{zero}.json") if zero else None,
        fsdp=fsdp,
        teacher_cache=str(folder / "cache") if cached else None,
        shard_teacher=shard_teacher,
        **settings,
    )
    teacher = tiny.model("bert", task, layers=4)
    # A resumed process must get everything from the checkpoint: it starts from another student.
    student = shrink(tiny.model("bert", task, layers=4, seed=9 if resume else 0), layers=2, hidden_size=16)
    for module in student.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = dropout
    trainer = trainer_class(
        student,
        teacher,
        args,
        train_dataset=data,
        eval_dataset=data.select(range(10)) if evaluate else None,
        processing_class=tokenizer,
        teacher_processing_class=tiny.tokenizer(OTHER_WORDS) if task == "masked_lm" else None,
        callbacks=[KillAt(kill_at)],
    )
    trainer.train(resume_from_checkpoint=last_complete_checkpoint(args.output_dir) if resume else None)
    assert is_sharded(trainer.model) == (fsdp or zero == 3)
    if evaluate:
        trainer.evaluate()
    trainer.save_model(str(folder / name / "student"))
    parameters = list(trainer.model.parameters())
    if zero == 3:
        import deepspeed

        gathered = deepspeed.zero.GatheredParameters(parameters)
    else:
        gathered = nullcontext()
    with gathered:
        state = {key: unsharded(value).detach().clone() for key, value in trainer.model.state_dict().items()}
    if getattr(trainer, "queue", None) is not None:
        state |= {f"queue.{key}": value for key, value in trainer.queue.state_dict().items()}
    if trainer.is_world_process_zero():
        torch.save(state, folder / f"{name}.pt")
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        (folder / f"{name}.json").write_text(json.dumps(losses))
    trainer.end()


def log_on_one_rank(folder: str) -> None:
    """Train and evaluate with a callback that logs on the main process alone."""
    data = tagged(tiny.tokenizer())
    args = tiny.arguments(
        folder, max_steps=2, eval_strategy="steps", eval_steps=1, save_strategy="no", label_weight=1.0
    )
    student, callback = tiny.model("bert", "token"), LogsByItself()
    named = {"train_dataset": data, "eval_dataset": data.select(range(10)), "processing_class": tiny.tokenizer()}
    trainer = callback.trainer = DistillTrainer(student, args=args, callbacks=[callback], **named)
    trainer.train()
    assert [entry["loss_labels"] for entry in trainer.state.log_history if "loss" in entry]
    trainer.end()


def rows_seen(folder: str) -> None:
    """Train for an epoch, and write down which sentences this rank has trained on, and how often."""
    tokenizer = tiny.tokenizer()
    words = [f"{first} {second}" for first in tiny.WORDS[:8] for second in tiny.WORDS[8:16]]
    data = Dataset.from_dict({"source": words, "target": words[::-1]})
    rows = tokenize_groups(data, tokenizer, teacher_tokenizer=tokenizer)
    args = tiny.arguments(folder, MCLTrainingArguments, num_train_epochs=1, save_strategy="no")
    trainer = MCLTrainer(
        tiny.model("bert"), tiny.model("bert", seed=1), args, train_dataset=rows, processing_class=tokenizer
    )
    seen, collate = [], trainer.data_collator

    def record(batch):
        seen.extend(tokenizer.decode(row["members"][0], skip_special_tokens=True) for row in batch)
        return collate(batch)

    trainer.data_collator = record
    trainer.train()
    (Path(folder) / f"rank-{args.process_index}.json").write_text(json.dumps([words, seen]))
    trainer.end()


def distil_sentence_transformer(folder: str, name: str, zero: int = 0, fsdp: bool = False, **settings) -> None:
    """Distil into a SentenceTransformer with a Dense module, in place; leave its losses and embeddings in `folder`."""
    if fsdp:
        as_on_gpus()
    folder, tokenizer = Path(folder), tiny.tokenizer()
    student = sentence_transformer(folder / f"{name}-{os.environ['RANK']}", tokenizer, "cls, dense, tanh, normalize")
    config = str(REPOSITORY / f"examples/deepspeed/zero{zero}.json") if zero else None
    sharding = {"deepspeed": config, "fsdp": fsdp}
    args = tiny.arguments(folder / name, embedding_weight=1.0, save_strategy="no", **sharding, **settings)
    rows = tokenize(Dataset.from_dict({"text": tiny.sentences(64)}), tokenizer)
    named = {"train_dataset": rows, "eval_dataset": rows.select(range(8)), "processing_class": tokenizer}
    score = ScoreExported(lambda exported: {"first": float(exported.encode(TEXTS)[0, 0])})
    trainer = score.trainer = DistillTrainer(student, tiny.model("bert", seed=1), args, callbacks=[score], **named)
    trainer.train()
    scored = trainer.evaluate()["eval_first"]
    trainer.save_model()
    if trainer.is_world_process_zero():
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        found = {"saved": SentenceTransformer(args.output_dir, device="cpu")}
        if not is_sharded(trainer.model):
            found["in place"] = student
        embeddings = {key: model.encode(TEXTS).tolist() for key, model in found.items()}
        assert scored == pytest.approx(embeddings["saved"][0][0], abs=1e-5)
        (folder / f"{name}.json").write_text(json.dumps({"losses": losses, **embeddings}))
    trainer.end()


def distil_into(folder: str, name: str, student: str, fsdp: bool = False, **settings) -> None:
    """Distil into a student of this kind; leave its losses and its files in `folder`."""
    if fsdp:
        as_on_gpus()
    folder, tokenizer = Path(folder), tiny.tokenizer()
    own, data = tokenizer, tagged(tokenizer)
    teacher = tiny.model("bert", "token", layers=4, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    objectives = {} if "hidden_weight" in settings else {"logits_weight": 1.0, "label_weight": 1.0}
    if student == "BiLSTM":
        model = bilstm_student(teacher, embedding_size=8, lstm_hidden_size=10)
    elif student == "static":
        teacher = SentenceEncoder(teacher.base_model, tokenizer, tiny.surrounding(max_length=64))
        made = static_student(teacher)
        model, own, objectives = made.model, made.tokenizer, {"embedding_weight": 1.0}
        data = tokenize(Dataset.from_dict({"text": tiny.sentences(128)}), own, teacher_tokenizer=tokenizer)
    else:
        model = shrink(teacher, layers=3, freeze_embeddings="frozen words" in student)
    args = tiny.arguments(folder / name, fsdp=fsdp, optim="sgd", **objectives, **settings)
    named = {"train_dataset": data, "eval_dataset": data.select(range(10)), "processing_class": own}
    trainer = DistillTrainer(model, teacher, args, teacher_processing_class=tokenizer, **named)
    trainer.train()
    assert is_sharded(trainer.model) == fsdp
    trainer.save_model()
    if trainer.is_world_process_zero():
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        (folder / f"{name}.json").write_text(json.dumps(losses))
    trainer.end()


def train_twice(folder: str, name: str, fsdp: bool = False) -> None:
    """Evaluate, and train twice with a fitted projector; leave all losses in `folder`. Then use the student again."""
    if fsdp:
        as_on_gpus()
    folder, tokenizer = Path(folder), tiny.tokenizer()
    teacher, rows = tiny.model("bert", layers=4, seed=1), tagged(tokenizer).remove_columns("labels")
    student = shrink(teacher, layers=2, hidden_size=16)
    settings = {"embedding_weight": 1.0, "fit_projector": True, "keep_projector": True, "max_steps": 3}
    batch = {"per_device_train_batch_size": 8 if fsdp else 16, "per_device_eval_batch_size": 4}
    if fsdp:  # all layers stay gathered after a forward pass
        settings |= {"fsdp": True, "fsdp_config": {"reshard_after_forward": False}}
    args = tiny.arguments(folder / name, save_strategy="no", optim="sgd", **settings, **batch)
    named = {"eval_dataset": rows.select(range(8)), "processing_class": tokenizer}
    trainer = DistillTrainer(student, teacher, args, train_dataset=rows, **named)
    losses = []
    for _ in range(2):
        losses.append(trainer.evaluate()["eval_loss"])
        trainer.train()
        losses += [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    losses.append(trainer.evaluate()["eval_loss"])
    assert is_sharded(trainer.model) == fsdp
    if fsdp:
        with pytest.raises(ValueError, match=r"sharded by an earlier trainer under FSDP.*Load it again"):
            DistillTrainer(student, teacher, args, train_dataset=rows, **named)
    if trainer.is_world_process_zero():
        (folder / f"{name}.json").write_text(json.dumps(losses))
    trainer.end()
