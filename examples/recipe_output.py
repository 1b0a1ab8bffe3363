"""What a recipe leaves: the student with its card, and the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recipe import Recipe

from retort.evaluation import Report, markdown_table, text_table, write_report
from retort.trainers import StageResult, publish
from retort.trainers.card_facts import is_hub_id


def finish(recipe: Recipe, results: Sequence[StageResult], report: Report, **facts: Any) -> None:
    """Write student, card and report, and print the report.

    Args:
        recipe: says where to.
        results: of its stages.
        report: what they came to.
        facts: further fields of the card (see `CardFacts`).
    """
    name = recipe.teacher_name
    publish(
        results,
        recipe.output_dir,
        teachers=(name,),
        base_models=(name,) if is_hub_id(name) else (),
        summary=report.title,
        results=markdown_table(report),
        measured=report.measured,
        **facts,
    )
    write_report(report, recipe.output_dir)
    print(f"\n{text_table(report)}\n\nStudent, model card, report.json and report.png: {Path(recipe.output_dir)}/")
