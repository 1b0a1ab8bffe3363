"""What the scripts for sentence encoders share: loading a teacher, and setting models side by side in a report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from retort.evaluation import (
    Footprint,
    ModelRow,
    Report,
    Role,
    compare_speed,
    describe_machine,
    embed,
    loss_history,
    similarity_agreement,
)
from retort.trainers import DistillTrainer
from retort.trainers.storage import last_complete_checkpoint
from retort.trainers.teacher_pooling import TeacherPooling, read_teacher_pooling


@dataclass
class SentenceModel:
    """An encoder together with what makes embeddings of its outputs."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    pooling: TeacherPooling

    def embed(self, texts: Sequence[str], progress: bool = False) -> torch.Tensor:
        """`[texts, dim]`, of unit length if the teacher's are."""
        embeddings = embed(
            self.model,
            self.tokenizer,
            texts,
            pooler=self.pooling.pooler,
            max_length=self.pooling.max_length,
            progress=progress,
        )
        if self.pooling.dense is not None:
            embeddings = self.pooling.dense(embeddings)
        return F.normalize(embeddings, dim=-1) if self.pooling.normalize else embeddings

    def with_model(self, model: PreTrainedModel) -> SentenceModel:
        """Another encoder, used in the same way."""
        return SentenceModel(model, self.tokenizer, self.pooling)


def load_sentence_teacher(
    source: str | Path, max_length: int, pooler: str | None = None, *, otherwise: str = "mean"
) -> SentenceModel:
    """Load a SentenceTransformer's encoder, or any encoder with a pooler named.

    Args:
        source: folder or hub id.
        max_length: texts are cut to so many tokens, or to fewer if the teacher's own limit is lower.
        pooler: which it is to have; a SentenceTransformer says so itself.
        otherwise: the pooler of one that doesn't say, if `pooler` doesn't either.

    Raises:
        SystemExit: the teacher has layers after its pooler, which an encoder alone does not run; or it pools otherwise.
    """
    pooling = read_teacher_pooling(source) or TeacherPooling(pooler or otherwise, normalize=True, max_length=max_length)
    if pooling.dense is not None:
        raise SystemExit(f"{source} has Dense layers after its pooler. Its encoder alone would teach something else.")
    if pooler not in (None, pooling.pooler):
        raise SystemExit(f"{source} pools by {pooling.pooler!r}, but teacher_pooler {pooler!r} was asked for.")
    pooling = TeacherPooling(pooling.pooler, pooling.normalize, min(max_length, pooling.max_length))
    model = AutoModel.from_pretrained(source, dtype=torch.float32).eval()
    return SentenceModel(model, AutoTokenizer.from_pretrained(source), pooling)


def side_by_side(
    models: dict[str, tuple[Role, SentenceModel]],
    quality: Callable[[SentenceModel], dict[str, float]],
    texts: Sequence[str],
    log_history: list[dict],
    measured: str,
) -> Report:
    """Judge teacher, untrained and trained student in one run.

    Args:
        models: name -> role and model; the teacher first.
        quality: names scores of a model; the first is the report's.
        texts: unseen texts, for speed and for how far similarities agree with the teacher's.
        log_history: of the trainer.
        measured: what the scores were measured on.
    """
    scores = {}
    for name, (_, model) in models.items():
        scores[name] = quality(model)
        metric, value = next(iter(scores[name].items()))
        print(f"{name}: {metric} {value:.3f}", flush=True)
    embeddings = {name: model.embed(texts[:1000]) for name, (_, model) in models.items()}
    teacher = next(iter(embeddings.values()))
    speeds = compare_speed({name: model.embed for name, (_, model) in models.items()}, texts)
    rows = [
        ModelRow(
            name=name,
            role=role,
            quality=scores[name] | {"agreement with the teacher": similarity_agreement(teacher, embeddings[name])},
            footprint=Footprint.of(model.model),
            speed=speeds[name],
            layers=model.model.config.num_hidden_layers,
        )
        for name, (role, model) in models.items()
    ]
    return Report(
        rows=tuple(rows),
        metric=next(iter(rows[0].quality)),
        losses=loss_history(log_history),
        measured=f"{measured} Speed: float32, padded batches of 32 and of 1, medians of interleaved rounds on "
        f"{describe_machine()}.",
    )


def resume(trainer: DistillTrainer) -> None:
    """Train, from the last complete checkpoint if there is one, and say so."""
    checkpoint = last_complete_checkpoint(trainer.args.output_dir)
    if checkpoint and trainer.is_world_process_zero():
        print(f"Going on from {checkpoint}. To start anew, delete {trainer.args.output_dir}.")
    trainer.train(resume_from_checkpoint=checkpoint)


def how_to_use(folder: str | Path) -> str:
    """The two lines of Python that use a finished student."""
    code = ", trust_remote_code=True" if hasattr(AutoConfig.from_pretrained(folder), "auto_map") else ""
    return (
        "from sentence_transformers import SentenceTransformer\n"
        f'embeddings = SentenceTransformer("{folder}"{code}).encode(["A vessel to distil in.", "A glass retort."])'
    )
