"""The student that a staged run ends with: chosen on development data, put where the user wants it, and on the Hub."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi

from ...data import replace_files, write_text
from ..saving import CardFacts, Size, render_card
from ..student_trainer import CARD_FILE, PRIVATE_FILES
from .plan import RESULT_FILE
from .run import StageResult


def best_stage(results: Sequence[StageResult]) -> StageResult:
    """The stage whose student scored best on development data, by its first score; of equals, and without scores, the
    last."""
    return max(reversed(results), key=lambda result: next(iter(result.scores.values()), 0.0))


def publish(stages: Sequence[StageResult], folder: str | Path, **facts: Any) -> None:
    """Put the best stage's student into a folder of its own, as a stock model with a card that tells of all stages.

    Args:
        stages: the results of all of them, in order.
        folder: where to; files of other names stay.
        facts: fields of `CardFacts` that the stages don't know, such as `results` and `measured`.
    """
    best = best_stage(stages)
    private = shutil.ignore_patterns(*PRIVATE_FILES, RESULT_FILE, "checkpoint-*", "_*")
    told = staged_facts(stages[: stages.index(best) + 1], str(folder)) | facts
    with replace_files(folder) as staging:
        shutil.copytree(best.folder, staging, ignore=private, dirs_exist_ok=True)
        write_text(staging / CARD_FILE, render_card(CardFacts(**told)))


def staged_facts(results: Sequence[StageResult], load_as: str) -> dict[str, Any]:
    """The fields of `CardFacts` for a student that went through several stages.

    Args:
        results: of the stages it went through.
        load_as: hub id or folder that it is loaded from.
    """
    last = dict(results[-1].card)
    sizes = {name: Size(*last[name]) for name in ("size", "teacher_size") if last.get(name)}
    named = {"name": Path(load_as).name, "load_as": load_as}
    if len(results) == 1:
        return last | sizes | named
    return (
        last
        | sizes
        | named
        | {
            "objectives": _by_stage(results, "objectives"),
            "data": _by_stage(results, "data"),
            "citations": tuple(dict.fromkeys(entry for result in results for entry in result.card["citations"])),
        }
    )


def push_student(folder: str | Path, repo_id: str) -> str:
    """Upload a published student, and nothing of how it was made.

    Args:
        folder: what `publish` wrote.
        repo_id: on the Hub; made if need be.

    Returns:
        The address of the commit.
    """
    api = HfApi()
    api.create_repo(repo_id, exist_ok=True)
    private = [*PRIVATE_FILES, "checkpoint-*", "_*", "stages/*", "teacher/*", "assistant/*", "tokenizer-*/*"]
    commit = api.upload_folder(
        repo_id=repo_id, folder_path=folder, commit_message="A student distilled by retort", ignore_patterns=private
    )
    return commit.commit_url


def _by_stage(results: Sequence[StageResult], field: str) -> dict[str, Any]:
    return {f"{result.name}: {name}": value for result in results for name, value in result.card[field].items()}
