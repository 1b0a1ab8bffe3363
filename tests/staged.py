"""A staged run of a tiny tagger, which tests interrupt, edit and compare."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import tiny
import torch
from accelerate import PartialState
from datasets import Dataset
from fully_sharded import as_on_gpus
from transformers import TrainerCallback

from retort import Stage, StagedRun, shrink, tokenize
from retort.modeling import add_projector

REPOSITORY = Path(__file__).parents[1]
ARGUMENTS = {
    "per_device_train_batch_size": 8,
    "max_steps": 4,
    "save_strategy": "steps",
    "save_steps": 2,
    "learning_rate": 3e-3,
    "logging_steps": 1,
    "use_cpu": True,
    "disable_tqdm": True,
}
EARLY_STOPPING = {
    "eval_strategy": "steps",
    "eval_steps": 2,
    "max_steps": 12,
    "load_best_model_at_end": True,
    # The loss falls, so the first evaluation stays the best and early stopping ends the run.
    "metric_for_best_model": "eval_loss",
    "greater_is_better": True,
    "save_total_limit": 1,
}
STAGES = [
    Stage("features", {"features_weight": 1.0}, data="transfer", trainable=("projector", "encoder"), chunk_rows=24),
    Stage("logits", {"logits_weight": 1.0}, data="transfer", gradual_unfreezing="encoder", cache_teacher=True),
    Stage("labels", {"label_weight": 1.0} | EARLY_STOPPING, trainable=("head",), patience=2),
]


class KillIn(TrainerCallback):
    """Ends the process without warning after a step of the stage whose folder has this name."""

    def __init__(self, stage: str | None, step: int):
        self.stage, self.step = stage, step

    def on_step_end(self, args, state, control, **kwargs):
        if self.stage and Path(args.output_dir).name[3:-9] == self.stage and state.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def rows(tokenizer, count: int, seed: int, labelled: bool) -> Dataset:
    sentences = tiny.sentences(count, seed=seed)
    words = [sentence.split() for sentence in sentences]
    labels = [[len(word) % 3 for word in row] for row in words]
    if not labelled:
        return tokenize(Dataset.from_dict({"text": sentences}), tokenizer)
    return tokenize(Dataset.from_dict({"words": words, "labels": labels}), tokenizer, words="words", labels="labels")


def staged_run(
    folder: str | Path, stages=STAGES, *, teacher=None, callbacks=(), freeze_embeddings=False, **changes
) -> StagedRun:
    tokenizer = tiny.tokenizer()
    model = tiny.model("bert", "token", layers=4)
    student = shrink(model, layers=2, hidden_size=16, freeze_embeddings=freeze_embeddings)
    torch.manual_seed(1)
    add_projector(student, model.config.hidden_size)
    settings = {
        "data": {"train": rows(tokenizer, 32, 0, True), "transfer": rows(tokenizer, 40, 1, False)},
        "eval_dataset": rows(tokenizer, 16, 2, True),
        "arguments": ARGUMENTS,
    }
    return StagedRun(
        stages,
        student,
        teacher or model,
        folder=folder,
        processing_class=tokenizer,
        callbacks=callbacks,
        **settings | changes,
    )


def run_staged(folder: str, kill_in: str | None = None, step: int = 0) -> None:
    """For a process of its own."""
    staged_run(folder, callbacks=[KillIn(kill_in, step)]).run()


def _mean_logit(student) -> dict[str, float]:
    inputs = torch.arange(2, 10)[None]
    with torch.no_grad():
        return {"mean_logit": student(inputs, attention_mask=torch.ones_like(inputs)).logits.mean().item()}


def run_on_this_rank(folder: str, zero: int = 0, fsdp: bool = False, **arguments) -> None:
    """For several processes, each of which trains; gradients are followed as they are, without Adam's division."""
    if fsdp:
        as_on_gpus()
    sharding = {"deepspeed": str(REPOSITORY / f"examples/deepspeed/zero{zero}.json")} if zero else {"fsdp": fsdp}
    settings = ARGUMENTS | {"optim": "sgd", "learning_rate": 0.05, "disable_dropout": True} | sharding | arguments
    features = replace(STAGES[0], arguments={"features_weight": 1.0, "logits_weight": 0.1})
    staged_run(folder, [features, *STAGES[1:]], arguments=settings, score=_mean_logit).run()
    PartialState().wait_for_everyone()
    PartialState().destroy_process_group()
