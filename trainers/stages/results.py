"""Results of stages, and publishing of the best student."""

from __future__ import annotations

import filecmp
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi

from ...data import replace_files, write_text
from ...modeling.encoding import INT8_RANGES_FILE
from ..saving import (
    DamagedFilesError,
    check_files,
    describe_files,
    describe_stages,
    is_own_card,
    may_write_card,
    pushed_card,
    read_sealed,
    write_card,
    write_sealed,
)
from ..student_trainer import PRIVATE_FILES
from .plan import RESULT_FILE


@dataclass(frozen=True)
class StageResult:
    """The result of a stage.

    Attributes:
        name: name of the stage.
        folder: folder with the student as a stock model.
        scores: scores of the student on development data at the end of the stage. None replaces NaN and infinity.
        steps: number of optimizer steps.
        log_history: the trainer's log. None replaces NaN and infinity, as in a gradient's norm.
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
        """Read the result of a finished stage from its folder.

        Args:
            folder: the stage's folder.
            check: whether to compare each file with its SHA-256.

        Raises:
            DamagedFilesError: a file is missing, truncated or changed. The message names the stage and the file.
        """
        try:
            found = read_sealed(folder / RESULT_FILE)
            if check:
                check_files(folder, found["files"])
        except DamagedFilesError as error:
            raise DamagedFilesError(
                f"The finished stage {folder} is damaged, or was written by an earlier version of retort: {error}. "
                "Remove this folder and run again, which repeats this stage."
            ) from None
        return cls(**found["result"] | {"folder": folder})

    def write(self, key: str) -> None:
        """Write the result into its folder, with the SHA-256 of each file. The stage is finished then."""
        files = [path for path in self.folder.rglob("*") if path.is_file() and _is_the_students(path, self.folder)]
        result = _finite(asdict(self) | {"folder": None})
        write_sealed(
            self.folder / RESULT_FILE, {"key": key, "result": result, "files": describe_files(files, self.folder)}
        )


def _is_the_students(path: Path, folder: Path) -> bool:
    """Whether a file of a stage's folder belongs to its student, rather than to a checkpoint, a log or a killed run."""
    return not path.relative_to(folder).parts[0].startswith(("checkpoint-", "_", "runs", RESULT_FILE))


def _finite(value: Any) -> Any:
    """Replace NaN and infinity, which JSON lacks, with None."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def best_stage(results: Sequence[StageResult]) -> StageResult:
    """The stage whose student has the best first score on development data. The last one wins ties, or if there are no
    scores."""

    def score(result: StageResult) -> float:
        first = next(iter(result.scores.values()), 0.0)
        return -math.inf if first is None else first

    return max(reversed(results), key=score)


def publish(stages: Sequence[StageResult], folder: str | Path, *, keep_card: bool = False, **facts: Any) -> None:
    """Copy the best stage's student into a folder, as a stock model with a model card of all its stages.

    Args:
        stages: the results of all stages, in order.
        folder: the folder to write to. Other files in it are kept, also a README.md that isn't a model card of
            retort's, but not the int8 ranges of an earlier student.
        keep_card: keep the card of this student in the folder, to which its user may have added.
        facts: further fields of `CardFacts`, such as `results` and `measured`.
    """
    best = best_stage(stages)
    private = shutil.ignore_patterns(*PRIVATE_FILES, RESULT_FILE, "README.md", "checkpoint-*", "_*")
    went_through = [(stage.name, stage.card) for stage in stages[: stages.index(best) + 1]]
    known = describe_stages(went_through, Path(folder).resolve().name)
    with replace_files(folder, outdated=[INT8_RANGES_FILE]) as staging:
        shutil.copytree(best.folder, staging, ignore=private, dirs_exist_ok=True)
        if not (keep_card and _has_card_of(staging, Path(folder))) and may_write_card(folder):
            write_card(staging, replace(known, **facts))


def _has_card_of(student: Path, folder: Path) -> bool:
    """Whether a folder has a model card, and the same weights as a student."""
    weights = [path.relative_to(student) for path in student.rglob("*.safetensors")]
    same, _, _ = filecmp.cmpfiles(student, folder, weights, shallow=False)
    return (folder / "README.md").exists() and len(same) == len(weights)


def push_student(folder: str | Path, repo_id: str) -> str:
    """Upload a published student, without checkpoints and the folders of stages.

    The usage example of retort's model card names the repository then.

    Args:
        folder: folder that `publish` wrote.
        repo_id: repository on the Hub, which is created if needed.

    Returns:
        The URL of the commit.
    """
    api = HfApi()
    hub_id = api.create_repo(repo_id, exist_ok=True).repo_id
    card = Path(folder) / "README.md"
    if is_own_card(card):  # a README.md of the user's own is uploaded as it is
        write_text(card, pushed_card(card.read_text(encoding="utf-8"), hub_id))
    folders = ("stages", "teacher", "assistant", "tokenizer-*", "router")
    private = [*PRIVATE_FILES, "checkpoint-*", "_*", *(f"{folder}/*" for folder in folders)]
    commit = api.upload_folder(
        repo_id=hub_id, folder_path=folder, commit_message="A student distilled by retort", ignore_patterns=private
    )
    return commit.commit_url
