"""What a recipe comes to: scores after each stage, the student with its card, the report, and the push."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recipe import Recipe

from retort.evaluation import Report, markdown_table, text_table, write_report
from retort.evaluation.report_table import aligned
from retort.trainers import StageResult, publish, push_student
from retort.trainers.card_facts import is_hub_id


def stage_scores(results: Sequence[StageResult]) -> list[str]:
    """Scores on development data after each stage, as the lines of a table."""
    names = list(results[-1].scores)
    head = ["stage", *(f"dev {name}" for name in names), "steps"]
    rows = [[r.name, *(f"{r.scores[name]:.4f}" for name in names), f"{r.steps:,}"] for r in results]
    return aligned([head, *rows], gap=2)


def finish(recipe: Recipe, results: Sequence[StageResult], report: Report | None, **facts: Any) -> None:
    """Write student and card, write and print the report, and push what is to be pushed.

    Args:
        recipe: says where to.
        results: of its stages.
        report: what they came to; None if that was not measured.
        facts: further fields of the card (see `CardFacts`).
    """
    name = recipe.teacher_name
    told = {"summary": report.title, "results": markdown_table(report), "measured": report.measured} if report else {}
    publish(
        results,
        recipe.output_dir,
        teachers=(name,),
        base_models=(name,) if is_hub_id(name) else (),
        **told,
        **facts,
    )
    if report:
        write_report(report, recipe.output_dir)
        print(f"\n{text_table(report)}")
    written = "Student, model card, report.json and report.png" if report else "Student and model card"
    print(f"\n{written}: {Path(recipe.output_dir)}/")
    if recipe.push_to_hub:
        print(f"Pushed: {push_student(recipe.output_dir, recipe.push_to_hub)}")
