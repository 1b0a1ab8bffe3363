"""Teacher, untrained and trained student side by side on the hidden words of test texts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from transformers import PreTrainedModel

from ...evaluation.report import ModelRow, Report, Role, build_report
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
    return build_report(
        [ModelRow.of(name, role, model.model, quality(work, model)) for name, (role, model) in models.items()],
        {name: model.embed for name, (_, model) in models.items()},
        work.text.test["text"][:],
        best.log_history,
        measured=f"Hidden words of {len(work.text.test):,} texts: what their characters are guessed with, as bits and "
        "as the geometric mean of probabilities; the same words for all models.",
        timed="the encoder without its head, float32",
    )


def quality(work: MaskedRecipe, model: MaskedModel) -> dict[str, float]:
    """One model's scores on the test's hidden words."""
    bits = model.bits_per_character(work.text.test)
    return {"probability of a hidden character": 2**-bits, "bits per hidden character": bits}
