"""A run under a setup, what it should leave, what a killed one has left, and the tables of it all."""

import hashlib
import random
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from forks import KILLED, Kill, run
from runs import RUNS, SETUPS

from retort.trainers.saving import last_complete_checkpoint

EXACT = (".safetensors", ".arrow")  # files that must be equal byte by byte; others tell of times


def content(folder: Path) -> dict[str, str]:
    """All files and folders; those files that must be equal with their SHA-256."""
    paths = sorted(folder.rglob("*"))
    digests = {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths if path.suffix in EXACT}
    return {str(path.relative_to(folder)): digests.get(path, "") for path in paths}


def place_of(folder: Path) -> str:
    """Where a kill has come, by what it has left."""
    names = {f"/{path.relative_to(folder)}" for path in folder.rglob("*")}
    if any(name.endswith("/.incomplete") for name in names):
        return "in a checkpoint"
    half = [name for name in names if "_incomplete-" in name]
    if any("/cache/" in name or "/_teacher/" in name for name in half):
        return "in a cache"
    if half:
        return "in another save or removal"
    return "between saves" if any("checkpoint-" in name or "stage.json" in name for name in names) else "before a save"


def source_of(folder: Path) -> str:
    """What there is to go on from."""
    if any(map(last_complete_checkpoint, {path.parent for path in folder.rglob("checkpoint-*")})):
        return "from a checkpoint"
    return "from a finished stage" if any(folder.rglob("stage.json")) else "from nothing"


@dataclass
class Case:
    """A run under a setup.

    Attributes:
        expected: content of the folder of the uninterrupted run.
        seconds: that it took.
        operations: on files, of each rank.
    """

    name: str
    setup: str
    expected: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    operations: list[int] = field(default_factory=list)

    @property
    def world(self) -> int:
        """Processes."""
        return SETUPS[self.setup][0]

    def start(self, folder: Path, kill: Kill | None = None) -> tuple[list[int], float]:
        """Run it, from what its folder holds; returns exit codes and seconds."""
        function, arguments = RUNS[self.name]
        return run(lambda: function(folder, SETUPS[self.setup][1], **arguments), folder, self.world, kill)

    def run_uninterrupted(self, folder: Path) -> None:
        """Run it without a kill, into a new folder, and remember what it leaves."""
        for path in folder.parent.glob(f"{folder.name}*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        codes, self.seconds = self.start(folder)
        if any(codes):
            raise RuntimeError(f"{self.name}, {self.setup} ends without a kill, with {codes}:\n{self.log(folder)}")
        files = [folder.with_suffix(f".{rank}.operations") for rank in range(self.world)]
        self.operations, self.expected = [int(file.read_text()) for file in files], content(folder)

    def was_killed(self, codes: list[int], kill: Kill) -> bool:
        """Whether a run ended by the kill, and not before by itself."""
        return codes[kill.rank] == KILLED

    def log(self, folder: Path) -> str:
        """The end of what each rank has written."""
        logs = [folder.with_suffix(f".{rank}.log").read_text(errors="replace")[-3000:] for rank in range(self.world)]
        return "\n".join(logs)


@dataclass
class Outcome:
    """What came of a run that was killed.

    Attributes:
        kills: manner, place and source of each.
        different: files that are not equal to those of the uninterrupted run, or not there.
        left: files and folders that the uninterrupted run doesn't leave.
        error: why the run didn't end.
    """

    case: Case
    kills: list[tuple[str, str, str]] = field(default_factory=list)
    different: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    error: str = ""

    def add(self, kill: Kill, folder: Path) -> None:
        """Note a kill, and what it has left."""
        manner = "by the clock" if kill.operation is None else "at a file operation"
        self.kills.append((manner, place_of(folder), source_of(folder)))

    def failed(self, error: str) -> "Outcome":
        """Note that a run ended with an error."""
        self.error = error
        return self

    def compared(self, folder: Path) -> "Outcome":
        """Note what is other than it should be."""
        found, expected = content(folder), self.case.expected
        self.different = [name for name, digest in expected.items() if found.get(name) != digest]
        self.left = [name for name in found if name not in expected]
        return self

    @property
    def problem(self) -> str:
        """What is wrong with it, if anything is."""
        told = {"fails": self.error, "differ": ", ".join(self.different), "left behind": ", ".join(self.left)}
        return "; ".join(f"{word}: {what}" for word, what in told.items() if what)


class Summary:
    """Tables of outcomes, written to a file after each.

    Args:
        file: None for none.
    """

    def __init__(self, file: Path | None):
        self.file, self.outcomes = file, []

    def add(self, outcome: Outcome) -> None:
        """Count an outcome."""
        self.outcomes.append(outcome)
        if self.file:
            self.file.write_text(self.text())

    @property
    def wrong(self) -> int:
        """Runs that failed, differ or left something behind."""
        return sum(bool(outcome.problem) for outcome in self.outcomes)

    def text(self) -> str:
        """Kills by run, by manner, place and source; and what was wrong."""
        by_case = {}
        for outcome in self.outcomes:
            counts = by_case.setdefault((outcome.case.name, outcome.case.setup), Counter())
            counts["runs"] += 1
            counts["kills"] += len(outcome.kills)
            counts["equal"] += not (outcome.error or outcome.different)
            counts["nothing left"] += not (outcome.error or outcome.left)
        columns = ("kills", "runs", "equal", "nothing left")
        lines = [["run", "setup", *columns]]
        lines += [[*case, *(str(counts[name]) for name in columns)] for case, counts in sorted(by_case.items())]
        totals = [str(sum(counts[name] for counts in by_case.values())) for name in columns]
        lines.append(["all", "", *totals])
        kills = [kill for outcome in self.outcomes for kill in outcome.kills]
        parts = [table(lines)]
        for index, title in enumerate(("manner of kill", "place of kill", "resumed")):
            counted = Counter(kill[index] for kill in kills)
            parts.append(table([[title, "kills"], *([name, str(count)] for name, count in counted.most_common())]))
        problems = [f"{o.case.name}, {o.case.setup}, killed {o.kills}: {o.problem}" for o in self.outcomes if o.problem]
        return "\n\n".join([*parts, *problems]) + "\n"


def all_cases() -> list[Case]:
    """Every run under every setup that takes it. Losses over vocabularies are refused under ZeRO-3."""
    of_words = ("VocabReducedMLMTrainer", "recipe")
    names = [(name, setup) for name in RUNS for setup in SETUPS]
    return [Case(*pair) for pair in names if pair[1] != "ZeRO-3 x 2" or pair[0] not in of_words]


def in_rounds(cases: Sequence[Case], draw: random.Random) -> Iterator[Case]:
    """Cases in a random order, each as often as any other: few kills reach them all, too."""
    while True:
        yield from draw.sample(cases, len(cases))


def table(lines: Iterable[list[str]]) -> str:
    """Lines of cells as columns."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)
