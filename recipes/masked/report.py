"""Teacher, untrained and trained student side by side on the hidden words of test texts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from transformers import PreTrainedModel

from ...evaluation.cost import Footprint, Speed, compare_speed, describe_machine
from ...evaluation.report import ModelRow, Report, Role, loss_history
from ...evaluation.tasks import MaskedModel
from ...trainers.stages import StageResult

if TYPE_CHECKING:
    from .recipe import MaskedRecipe


def report_of(work: MaskedRecipe, teacher: str | Path, untrained: PreTrainedModel, best: StageResult) -> Report:
    """Teacher, untrained and trained student side by side on the test's hidden words."""
    print("\nMeasuring quality, size and speed ...", flush=True)
    theirs, ours = work.teacher_tokenizer, work.tokenizer
    models = {
        work.recipe.teacher_name.rsplit("/", 1)[-1]: (Role.TEACHER, work.as_masked_model(teacher, theirs)),
        "student, untrained": (Role.UNTRAINED, work.as_masked_model(untrained, ours)),
        "student": (Role.STUDENT, work.as_masked_model(best.folder, ours)),
    }
    speeds = compare_speed({name: model.embed for name, (_, model) in models.items()}, work.text.test["text"][:])
    rows = [row_of(work, name, role, model, speeds[name]) for name, (role, model) in models.items()]
    return Report(
        rows=tuple(rows),
        metric=next(iter(rows[0].quality)),
        losses=loss_history(list(best.log_history)),
        measured=f"Hidden words of {len(work.text.test):,} texts: what their characters are guessed with, as bits and "
        "as the geometric mean of probabilities; the same words for all models. Speed: the encoder without its head, "
        f"float32, padded batches of 32 and of 1, medians of interleaved rounds on {describe_machine()}.",
    )


def row_of(work: MaskedRecipe, name: str, role: Role, model: MaskedModel, speed: Speed) -> ModelRow:
    """One model's row of the report."""
    bits = model.bits_per_character(work.text.test)
    return ModelRow(
        name=name,
        role=role,
        quality={"probability of a hidden character": 2**-bits, "bits per hidden character": bits},
        footprint=Footprint.of(model.model),
        speed=speed,
        layers=model.model.config.num_hidden_layers,
    )
