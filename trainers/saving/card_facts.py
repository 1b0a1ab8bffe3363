"""What a run can tell of itself for the student's model card."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from transformers import PreTrainedModel

from ...modeling import parameter_count
from ..arguments import DistillTrainingArguments
from ..objectives import Objective, PooledObjective
from ..teachers import TeacherSource
from .citations import citations_of
from .model_card import Size, changed_arguments, package_versions, teacher_license

PIPELINE_TAGS = {
    "ForTokenClassification": "token-classification",
    "ForSequenceClassification": "text-classification",
    "ForMaskedLM": "fill-mask",
}

IN_WORDS = {
    "embedding": "distance of pooled embeddings",
    "contrastive": "knowing the teacher's embedding of the same text among others (InfoNCE)",
    "positives": "knowing a text's positive among others (InfoNCE)",
    "similarity": "difference of similarity matrices",
    "source": "distance of embeddings of sentences from the teacher's",
    "target": "distance of embeddings of translations from the teacher's of the sentences",
    "mcl": "difference of similarities across languages from the teacher's (MCL)",
    "logits": "distance of logits",
    "hidden": "distance of hidden states",
    "features": "distance of what the classifiers read",
    "attention": "difference of attention maps",
    "relations": "divergence of self-attention relations",
    "labels": "task labels",
    "mlm": "hidden tokens",
    "vocabulary": "divergence from the teacher's distribution over its vocabulary",
    "token_contrast": "knowing a token's hidden state in the other model among others",
}


def describe_run(
    student: PreTrainedModel,
    sources: Sequence[TeacherSource],
    objectives: Sequence[Objective],
    args: DistillTrainingArguments,
    train_dataset: Any,
    load_as: str,
) -> dict[str, Any]:
    """The fields of `CardFacts` that follow from a run.

    Args:
        student: the student.
        sources: the teachers, as the user named them.
        objectives: the terms of the loss.
        args: the run's arguments.
        train_dataset: its rows.
        load_as: hub id or folder that the student is loaded from.
    """
    config = student.config
    cached = ["a teacher whose outputs were cached"] if args.teacher_cache else []
    names = [teacher_name(source) for source in sources] or cached
    facts = {
        "name": Path(load_as).name,
        "load_as": load_as,
        "architecture": f"{config.model_type} encoder, {config.num_hidden_layers} layers of width {config.hidden_size}",
        "pipeline_tag": pipeline_tag(student),
        "remote_code": student.is_remote_code(),
        "teachers": tuple(names),
        "base_models": tuple(filter(is_hub_id, names)),
        "objectives": {IN_WORDS.get(o.name, o.name): o.weight for o in objectives},
        "data": {"training rows": len(train_dataset)} if train_dataset is not None else {},
        "size": size_of(student),
        "arguments": changed_arguments(args),
        "versions": package_versions(),
        "citations": citations_of([o.name for o in objectives]),
    }
    models = [source for source in sources if isinstance(source, PreTrainedModel)]
    if models:
        facts["teacher_size"] = size_of(models[0])
    if any(isinstance(o, PooledObjective) for o in objectives):
        facts["sentence_transformer"] = True
        facts["pipeline_tag"] = "sentence-similarity"
        kept = [o.teacher_size for o in objectives if "embedding" in o.heads() and args.keep_projector]
        facts["embeddings"] = f"{next(iter(kept), config.hidden_size)} numbers, pooled by {args.pooler}"
    if len(sources) == 1 and isinstance(sources[0], str | os.PathLike):
        facts |= teacher_license(sources[0])
    return facts


def teacher_name(source: TeacherSource) -> str:
    """What to call a teacher: a hub id where it has one, else the last part of its path, never a path."""
    name = str(getattr(source, "name_or_path", source) or type(source).__name__)
    return Path(name).name if Path(name).exists() else name


def is_hub_id(name: str) -> bool:
    """Whether a name has the form of a hub id with an owner."""
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return "/" in name


def pipeline_tag(model: PreTrainedModel) -> str:
    """The Hub's name for what a model's head does."""
    name = type(model).__name__
    return next((tag for suffix, tag in PIPELINE_TAGS.items() if name.endswith(suffix)), "feature-extraction")


def size_of(model: PreTrainedModel) -> Size:
    """Parameters, and megabytes of their float32 values."""
    parameters = parameter_count(model)
    return Size(parameters, parameters * 4 / 1e6)
