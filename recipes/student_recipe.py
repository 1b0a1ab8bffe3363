"""A recipe of any kind of student, from the model that it is made of to its folder with report and card."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from accelerate import PartialState
from datasets import Dataset
from transformers import PreTrainedModel

from ..evaluation.report import Report, aligned, read_report, text_table, write_report
from ..trainers.saving import is_hub_id
from ..trainers.stages import Stage, StagedRun, StageResult, best_stage, plan_table, publish, push_student
from .card import report_facts
from .presence import downloads, hub_names
from .schema import Recipe

# A model, its folder or its hub id.
Parent = PreTrainedModel | str | Path


@dataclass(frozen=True)
class StudentRecipe(ABC):
    """A recipe with the rows, models and measures of its kind of student.

    The student is made of its parent: the teacher or, where there is one, the assistant.

    Attributes:
        recipe: what it says.
    """

    recipe: Recipe

    def run(self, *, dry_run: bool = False, only: str | None = None) -> None:
        """Train the parent if need be, distil, judge, and write student, card and report.

        Args:
            dry_run: show the stages, and what each would train, and stop.
            only: the name of a stage. It is run, and no other of the student's; student, card and report are written
                where it is the last.

        Raises:
            SystemExit: no stage of that name, or one before it that isn't finished.
        """
        self.prepare_process()
        # The arguments of the first stage start the process group, so they are made before anything is read.
        first = self.recipe.stages[0]
        settings = {**self.recipe.arguments, **first.arguments}
        args = first.trainer.arguments_class(output_dir=self.recipe.output_dir, **settings)
        if args.process_index == 0 and (named := downloads(self.recipe)):
            print("Downloads from the Hub, but for what is kept of earlier ones:", *named, sep="\n- ", flush=True)
        with args.main_process_first(desc="reading data"):
            parent_run = self.parent_run()
        if args.process_index == 0:
            print(self.introduction)
        parent, before = self.parent, []
        if parent_run:
            show_plan(parent_run, self.parent_title)
            if dry_run:
                parent = parent_run.student
            else:
                before = parent_run.run()
                parent = self.finished_parent(before)
        with args.main_process_first(desc="reading data"):
            run = self.staged_run(parent)
        if only:
            run = up_to(only, run)
        show_plan(run, "Stages of the student")
        if not dry_run:
            results = run.run()
            if args.process_index == 0:
                show_scores(before, results)
            if args.process_index == 0 and len(run.stages) == len(self.recipe.stages):
                fingerprint = self._fingerprint(run)
                report = self._earlier_report(fingerprint)
                if report is None and (report := self.report(parent, run.student, results)):
                    report = replace(report, fingerprint=fingerprint)
                    write_report(report, self.recipe.output_dir)
                self._publish(results, report)
                print(f"\n{self.how_to_use()}\n")
        elif args.process_index == 0:
            print("Dry run: nothing was found wrong, and nothing was trained.")
        PartialState().wait_for_everyone()
        PartialState().destroy_process_group()

    def _publish(self, results: Sequence[StageResult], report: Report | None) -> None:
        """Write student and card, print the report, and push what is to be pushed."""
        folder, name, facts = self.recipe.output_dir, self.recipe.teacher.title, dict(self.card_facts)
        facts["datasets"] = tuple(hub_names(self.recipe))
        if report:
            facts |= report_facts(report)
        publish(results, folder, teachers=(name,), base_models=(name,) if is_hub_id(name) else (), **facts)
        if report:
            print(f"\n{text_table(report)}")
        written = "Student, model card, report.json and report.png" if report else "Student and model card"
        print(f"\n{written}: {Path(folder)}/")
        if self.recipe.push_to_hub:
            print(f"Pushed: {push_student(folder, self.recipe.push_to_hub)}")

    def _fingerprint(self, run: StagedRun) -> str:
        """Of all that a report depends on: the student and its stages, how it is judged, and on what."""
        tests = {name: rows.to_dict() for name, rows in self.tests.items()}
        parts = run.plan[-1].key, repr(self.recipe.evaluation), json.dumps(tests, default=str)
        return hashlib.sha256(repr(parts).encode()).hexdigest()

    def _earlier_report(self, fingerprint: str) -> Report | None:
        """The report of an earlier run of the same stages, judged in the same way; None if there is none."""
        folder = Path(self.recipe.output_dir)
        if not all((folder / name).is_file() for name in self.report_files):
            return None
        try:
            report = read_report(folder)
        except ValueError:  # of another version
            return None
        return report if report.fingerprint == fingerprint else None

    # --- What each kind of student says -------------------------------------------------------------------------------

    @abstractmethod
    def prepare_process(self) -> None:
        """Set what must be set before anything is computed, and raise what else would show after hours of training."""

    @property
    @abstractmethod
    def introduction(self) -> str:
        """What was read, for the terminal."""

    parent_title = "Stages of the teacher"

    @property
    def parent(self) -> str | None:
        """The parent as the recipe names it, if it needn't be trained first."""
        return self.recipe.teacher.source

    @abstractmethod
    def parent_run(self) -> StagedRun | None:
        """The stages of a parent that is trained first; None if it is finished."""

    def finished_parent(self, results: Sequence[StageResult]) -> Path:
        """The folder of a parent that went through its stages."""
        return best_stage(results).folder

    @abstractmethod
    def staged_run(self, parent: Parent) -> StagedRun:
        """The student's stages. `parent` is the finished one; or any of its shape, to look at the plan."""

    @abstractmethod
    def report(self, parent: Parent, untrained: PreTrainedModel, results: Sequence[StageResult]) -> Report | None:
        """The best stage's student beside the models that it comes from; None if there is nothing to judge by."""

    @property
    @abstractmethod
    def tests(self) -> Mapping[str, Dataset]:
        """What models are judged by at the end, by name."""

    @property
    def report_files(self) -> Sequence[str]:
        """What a report leaves in `output_dir`."""
        return "report.json", "report.png"

    @property
    def card_facts(self) -> Mapping[str, Any]:
        """Fields of the model card (see `CardFacts`) that the stages don't know."""
        return {}

    @abstractmethod
    def how_to_use(self) -> str:
        """How to use the finished student, in one or two lines."""

    def _staged_run(self, folder: str, stages: Sequence[Stage], *models: Any, **settings: Any) -> StagedRun:
        """A run that keeps its stages in a folder beside the finished student."""
        place = Path(self.recipe.output_dir) / folder
        return StagedRun(stages, *models, folder=place, **{"arguments": self.recipe.arguments} | settings)


def up_to(name: str, run: StagedRun) -> StagedRun:
    """A run that ends with the stage of a name, for which those before it must be finished.

    Raises:
        SystemExit: it has no such stage, or one before it isn't finished.
    """
    names = [stage.name for stage in run.stages]
    if name not in names:
        raise SystemExit(f"--only {name}: the recipe has no such stage. Its stages are {', '.join(names)}.")
    shorter = replace(run, stages=run.stages[: names.index(name) + 1])
    before = run.stages[: names.index(name)]
    if before:
        earlier = replace(run, stages=before)
        if unfinished := [planned.stage.name for planned in earlier.plan if not planned.is_finished]:
            raise SystemExit(f"--only {name}: first run what comes before it: {', '.join(unfinished)}.")
    return shorter


def show_plan(run: StagedRun, title: str) -> None:
    """Print what a run will do, on the first rank."""
    if PartialState().is_main_process:
        print(f"\n{title}\n\n" + "\n".join(aligned(plan_table(run.plan), gap=2)) + "\n", flush=True)


def show_scores(before: Sequence[StageResult], results: Sequence[StageResult]) -> None:
    """Print the scores on development data, if there are any, after each stage of the parent and of the student."""
    best = best_stage(results)
    if best.scores:
        lines = [["stage", *(f"dev {name}" for name in best.scores), "steps"]]
        for each in (*before, *results):
            lines.append([each.name, *(f"{each.scores[name]:.4f}" for name in best.scores), f"{each.steps:,}"])
        chosen = f"\n\nBest on dev: {best.name}." if len(results) > 1 else ""
        print("\n" + "\n".join(aligned(lines, gap=2)) + chosen)


def rows_of_stages(stages: Sequence[Stage], readers: Mapping[str, Callable[[], Dataset]]) -> dict[str, Dataset]:
    """Read the rows that stages name, and no others."""
    return {name: readers[name]() for name in {stage.data for stage in stages}}
