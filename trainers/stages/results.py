"""What stages come to: their results, the best student among them, put where the user wants it, and on the Hub."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi

from ...data import replace_files, write_json
from ..saving import describe_stages, write_card
from ..student_trainer import PRIVATE_FILES
from .plan import RESULT_FILE


@dataclass(frozen=True)
class StageResult:
    """What a stage came to.

    Attributes:
        name: the stage's.
        folder: holds the student as a stock folder.
        scores: of the student on development data when the stage had ended.
        steps: that it took.
        log_history: the trainer's log.
        card: the facts of its model card (see `CardFacts`).
    """

    name: str
    folder: Path
    scores: Mapping[str, float]
    steps: int
    log_history: Sequence[Mapping[str, Any]]
    card: Mapping[str, Any]

    @classmethod
    def read(cls, folder: Path) -> StageResult:
        """Read what a finished stage has left in its folder."""
        found = json.loads((folder / RESULT_FILE).read_text(encoding="utf-8"))
        return cls(**found["result"] | {"folder": folder})

    def write(self, key: str) -> None:
        """Leave it in its folder: from now on the stage is finished."""
        write_json(self.folder / RESULT_FILE, {"key": key, "result": asdict(self) | {"folder": None}})


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
    went_through = [(stage.name, stage.card) for stage in stages[: stages.index(best) + 1]]
    known = describe_stages(went_through, load_as=str(folder))
    with replace_files(folder) as staging:
        shutil.copytree(best.folder, staging, ignore=private, dirs_exist_ok=True)
        write_card(staging, replace(known, **facts))


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
