"""The stages of a small recurrent student, which tests interrupt and spread over ranks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import staged
import tiny
from accelerate import PartialState
from datasets import Dataset

from retort import MCLTrainer, Stage, StagedRun, shrink, tokenize
from retort.data import tokenize_groups

EMBEDDING_LAYER = {"pooler": "mean_first", "teacher_pooler": "mean_first"}
STAGES = [
    Stage(
        "bottleneck",
        {"embedding_weight": 1.0, "embedding_loss": "mse"} | EMBEDDING_LAYER,
        data="texts",
        trainable=("embeddings",),
        teacher="assistant",
    ),
    Stage("recurrent", {"embedding_weight": 1.0}, data="texts", teacher="assistant", cache_teacher=True),
    Stage("mcl", {}, data="translations", trainer=MCLTrainer),
]


def multistage_run(folder: str | Path, stages=STAGES, *, callbacks=(), **changes) -> StagedRun:
    """A student of an assistant's layers; the teacher has other tokens than both."""
    tokenizer, theirs = tiny.tokenizer(), tiny.tokenizer("bpe")
    assistant = tiny.model("bert", layers=4)
    pairs = Dataset.from_dict({side: tiny.sentences(32, seed=seed) for seed, side in enumerate(("source", "target"))})
    texts = Dataset.from_dict({"text": tiny.sentences(40, seed=2)})
    settings = {
        "data": {
            "texts": tokenize(texts, tokenizer, teacher_tokenizer=theirs),
            "translations": tokenize_groups(pairs, tokenizer, teacher_tokenizer=theirs),
        },
        "assistant": assistant,
        "arguments": staged.ARGUMENTS,
    }
    return StagedRun(
        stages,
        shrink(assistant, layers=2, recurrent_steps=2, embedding_size=8),
        tiny.model("bert", seed=3, vocab_size=200),
        folder=folder,
        processing_class=tokenizer,
        teacher_processing_class=theirs,
        callbacks=callbacks,
        **settings | changes,
    )


def run_multistage(folder: str, kill_in: str | None = None, step: int = 0) -> None:
    """For a process of its own."""
    multistage_run(folder, callbacks=[staged.KillIn(kill_in, step)]).run()


def deepspeed_of(zero: int) -> dict[str, str]:
    """The argument that a stage of ZeRO asks for; none without it."""
    return {"deepspeed": str(staged.REPOSITORY / f"examples/deepspeed/zero{zero}.json")} if zero else {}


def run_on_this_rank(folder: str, zero: int = 0, **arguments) -> None:
    """For several processes; gradients are followed as they are, without Adam's division."""
    settings = staged.ARGUMENTS | {"optim": "sgd", "learning_rate": 0.02, "disable_dropout": True}
    # ZeRO-3 can't train the embedding layer alone (see `check_sharding`).
    first = replace(STAGES[0], arguments={**STAGES[0].arguments, **(deepspeed_of(2) if zero == 3 else {})})
    multistage_run(folder, [first, *STAGES[1:]], arguments=settings | deepspeed_of(zero) | arguments).run()
    PartialState().wait_for_everyone()
    PartialState().destroy_process_group()
