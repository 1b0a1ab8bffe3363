"""What stages come to: their results, the best student among them, put where the user wants it, and on the Hub."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi

from ...data import replace_files, write_text
from ..saving import (
    DamagedFilesError,
    check_files,
    describe_files,
    describe_stages,
    pushed_card,
    read_sealed,
    write_card,
    write_sealed,
)
from ..student_trainer import PRIVATE_FILES
from .plan import RESULT_FILE


@dataclass(frozen=True)
class StageResult:
    """What a stage came to.

    Attributes:
        name: the stage's.
        folder: holds the student as a stock folder.
        scores: of the student on development data when the stage had ended. A score that is not finite is None.
        steps: that it took.
        log_history: the trainer's log. A number that is not finite, as a gradient's norm may be, is None.
        card: the facts of its model card (see `CardFacts`).
    """

    name: str
    folder: Path
    scores: Mapping[str, float]
    steps: int
    log_history: Sequence[Mapping[str, Any]]
    card: Mapping[str, Any]

    @classmethod
    def read(cls, folder: Path, *, check: bool = True) -> StageResult:
        """Read what a finished stage has left in its folder.

        Args:
            folder: the stage's.
            check: whether to compare each of its files with its SHA-256.

        Raises:
            DamagedFilesError: a file is missing, cut or changed. The message names the stage and the file.
        """
        try:
            found = read_sealed(folder / RESULT_FILE)
            if check:
                check_files(folder, found["files"])
        except DamagedFilesError as error:
            raise DamagedFilesError(
                f"The finished stage {folder} is damaged, or of an earlier version of retort: {error}. Remove this "
                "folder and run again: the stage is run anew, from the stage before it."
            ) from None
        return cls(**found["result"] | {"folder": folder})

    def write(self, key: str) -> None:
        """Leave it in its folder, with the SHA-256 of each file there: from now on the stage is finished."""
        files = [path for path in self.folder.rglob("*") if path.is_file() and _is_the_students(path, self.folder)]
        result = _finite(asdict(self) | {"folder": None})
        write_sealed(
            self.folder / RESULT_FILE, {"key": key, "result": result, "files": describe_files(files, self.folder)}
        )


def _is_the_students(path: Path, folder: Path) -> bool:
    """Whether a file of a stage's folder is part of its student: not of a checkpoint, a log or what a kill has left."""
    return not path.relative_to(folder).parts[0].startswith(("checkpoint-", "_", "runs", RESULT_FILE))


def _finite(value: Any) -> Any:
    """The same with None for numbers that JSON doesn't have."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def best_stage(results: Sequence[StageResult]) -> StageResult:
    """The stage whose student scored best on development data, by its first score; of equals, and without scores, the
    last."""

    def score(result: StageResult) -> float:
        first = next(iter(result.scores.values()), 0.0)
        return -math.inf if first is None else first

    return max(reversed(results), key=score)


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
    known = describe_stages(went_through, Path(folder).resolve().name)
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
    hub_id = api.create_repo(repo_id, exist_ok=True).repo_id
    card = Path(folder) / "README.md"
    write_text(card, pushed_card(card.read_text(encoding="utf-8"), hub_id))
    private = [*PRIVATE_FILES, "checkpoint-*", "_*", "stages/*", "teacher/*", "assistant/*", "tokenizer-*/*"]
    commit = api.upload_folder(
        repo_id=hub_id, folder_path=folder, commit_message="A student distilled by retort", ignore_patterns=private
    )
    return commit.commit_url
