"""Base class of the recipes for all kinds of students."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from accelerate import PartialState
from datasets import Dataset
from transformers import PreTrainedModel, TrainingArguments

from ..evaluation.report import Report, aligned, markdown_table, read_report, text_table, write_report
from ..trainers import leave_process_group
from ..trainers.saving import is_hub_id, is_own_card
from ..trainers.stages import Stage, StagedRun, StageResult, best_stage, plan_table, publish, push_student
from .presence import downloads, hub_names
from .schema import Recipe

# A model, its folder or its hub id.
Parent = PreTrainedModel | str | Path


@dataclass(frozen=True)
class StudentRecipe(ABC):
    """A recipe with the rows, models and evaluation of its kind of student.

    The student is made from its parent: the assistant if there is one, or the teacher.

    Attributes:
        recipe: content of the recipe file.
        dry_run: whether `run` only shows the stages.
    """

    recipe: Recipe
    dry_run: bool = False

    def run(self, only: str | None = None) -> None:
        """Train the parent if needed, distil, evaluate, and write student, model card and report: see `run_recipe`."""
        self.prepare_process()
        # The arguments of the first stage start the process group, so they are created before anything is read.
        first = self.recipe.stages[0]
        args = first.trainer.arguments_class(output_dir=self.recipe.output_dir, **self.recipe.arguments_of(first))
        if args.process_index == 0 and (named := downloads(self.recipe)):
            print("Downloads from the Hub, unless cached:", *named, sep="\n- ", flush=True)
        with args.main_process_first(desc="reading data"):
            parent_run = self.parent_run()
        if args.process_index == 0:
            print(self.introduction)
        if parent_run:
            show_plan(parent_run, self.parent_title)
        if self.dry_run:
            if parent_run:
                parent_run.check()
            outline = self._outlined(args, parent_run, only)
            require_previous(only, outline)
            show_plan(outline, "Stages of the student")
            outline.check()
            if args.process_index == 0:
                print("Dry run: no errors were found, and nothing was trained.")
        else:
            # A student that is refused shall not cost hours of training its parent, or of computing its first weights.
            if self.starts_slowly or (parent_run and not all(planned.is_finished for planned in parent_run.plan)):
                self._outlined(args, parent_run, only).check()
            before = parent_run.run() if parent_run else []
            parent = self.finished_parent(before) if parent_run else self.parent
            with args.main_process_first(desc="reading data"):
                run = self.staged_run(parent)
            run = up_to(only, run)
            require_previous(only, run)
            show_plan(run, "Stages of the student")
            self._distil(run, parent, before)
        leave_process_group()

    def _outlined(self, args: TrainingArguments, parent_run: StagedRun | None, only: str | None) -> StagedRun:
        """The student's stages for checks, up to the one that is run."""
        # A copy, since the check must not change the model that is trained.
        parent = deepcopy(parent_run.student) if parent_run else self.parent
        if parent_run and any(self.recipe.arguments_of(stage).get("attention_weight") for stage in self.recipe.stages):
            parent.set_attn_implementation("eager")  # as a trained one is loaded from its folder
        with args.main_process_first(desc="reading data"):
            outline = self.outline(parent)
        return up_to(only, outline)

    def _distil(self, run: StagedRun, parent: Parent, before: Sequence[StageResult]) -> None:
        """Run the student's stages. The first rank evaluates and publishes the student after the last stage."""
        results = run.run()
        if not PartialState().is_main_process:
            return
        show_scores(before, results)
        if len(run.stages) < len(self.recipe.stages):
            return
        fingerprint = self._fingerprint(run)
        report = earlier = self._earlier_report(fingerprint)
        if report is None and (report := self.report(parent, run.student, results)):
            report = replace(report, fingerprint=fingerprint)
            write_report(report, self.recipe.output_dir)
        self._publish(results, report, keep_card=earlier is not None or report is None)
        print(f"\n{self.how_to_use()}\n")

    def _publish(self, results: Sequence[StageResult], report: Report | None, keep_card: bool) -> None:
        """Write student and model card, print the report, and push the student if the recipe has `push_to_hub`."""
        folder, name, facts = self.recipe.output_dir, self.recipe.teacher.title, dict(self.card_facts)
        facts["datasets"] = tuple(hub_names(self.recipe))
        if report:
            facts |= _report_facts(report)
        facts |= {"teachers": (name,), "base_models": (name,) if is_hub_id(name) else ()}
        publish(results, folder, keep_card=keep_card, **facts)
        if report:
            print(f"\n{text_table(report)}")
        # A README.md of the user's own is kept, and no card is written then.
        card = ["model card"] if is_own_card(Path(folder) / "README.md") else []
        written = ["Student", *card, *(["report.json", "report.png"] if report else [])]
        print(f"\n{', '.join(written)}: {Path(folder)}/")
        if self.recipe.push_to_hub:
            print(f"Pushed: {push_student(folder, self.recipe.push_to_hub)}")

    def _fingerprint(self, run: StagedRun) -> str:
        """Hash of all that a report depends on: the student and its stages, and the evaluation and its data."""
        tests = {name: rows.to_dict() for name, rows in self.tests.items()}
        asymmetric = self.recipe.student.queries_only
        title = self.recipe.teacher.title  # heads a column of the report
        parts = run.plan[-1].key, title, repr(self.recipe.evaluation), json.dumps(tests, default=str), asymmetric
        return hashlib.sha256(repr(parts).encode()).hexdigest()

    def _earlier_report(self, fingerprint: str) -> Report | None:
        """The report of an earlier run with the same stages and evaluation; None if there is none."""
        folder = Path(self.recipe.output_dir)
        if not all((folder / name).is_file() for name in self.report_files):
            return None
        try:
            report = read_report(folder)
        except ValueError:  # of another version
            return None
        return report if report.fingerprint == fingerprint else None

    # --- Methods of each kind of student ------------------------------------------------------------------------------

    @abstractmethod
    def prepare_process(self) -> None:
        """Prepare the process, and raise errors that would otherwise occur after hours of training."""

    @property
    @abstractmethod
    def introduction(self) -> str:
        """Description of teacher and data, for the terminal."""

    parent_title = "Stages of the teacher"

    @property
    def parent(self) -> str | None:
        """Hub id or folder of the parent, if it needn't be trained first."""
        return self.recipe.teacher.source

    @abstractmethod
    def parent_run(self) -> StagedRun | None:
        """The stages of a parent that is trained first; None if it is finished."""

    def finished_parent(self, results: Sequence[StageResult]) -> Path:
        """The folder of a trained parent."""
        return best_stage(results).folder

    @property
    def starts_slowly(self) -> bool:
        """Whether the student's first weights take long to compute, so that its stages are checked before that."""
        return False

    def outline(self, parent: Parent) -> StagedRun:
        """The student's stages with a student of the right shape, for checks.

        Args:
            parent: the parent; an untrained model of the same shape if it isn't trained yet.
        """
        return self.staged_run(parent)

    @abstractmethod
    def staged_run(self, parent: Parent) -> StagedRun:
        """The student's stages."""

    @abstractmethod
    def report(self, parent: Parent, untrained: PreTrainedModel, results: Sequence[StageResult]) -> Report | None:
        """Report on the best stage's student and the models that it comes from; None if there are no test data."""

    @property
    @abstractmethod
    def tests(self) -> Mapping[str, Dataset]:
        """Name -> test data of the final evaluation."""

    @property
    def report_files(self) -> Sequence[str]:
        """Files of a report in `output_dir`."""
        return "report.json", "report.png"

    @property
    def card_facts(self) -> Mapping[str, Any]:
        """Further fields of the model card (see `CardFacts`)."""
        return {}

    @abstractmethod
    def how_to_use(self) -> str:
        """How to use the finished student, in one or two lines."""

    def _staged_run(self, folder: str, stages: Sequence[Stage], *models: Any, **settings: Any) -> StagedRun:
        """A run with its stages in a subfolder of `output_dir`."""
        place = Path(self.recipe.output_dir) / folder
        return StagedRun(stages, *models, folder=place, **{"arguments": self.recipe.arguments} | settings)


def up_to(name: str | None, run: StagedRun) -> StagedRun:
    """The run up to a stage; the whole run if `name` is None.

    Raises:
        SystemExit: there is no such stage.
    """
    names = [stage.name for stage in run.stages]
    if name is None:
        return run
    if name not in names:
        raise SystemExit(f"--only {name}: the recipe has no such stage. Its stages are {', '.join(names)}.")
    return replace(run, stages=run.stages[: names.index(name) + 1])


def require_previous(name: str | None, run: StagedRun) -> None:
    """Refuse to run only the last stage of a run, called `name`, if a previous one isn't finished.

    Raises:
        SystemExit: there is such a stage.
    """
    if name is None or len(run.stages) < 2:
        return
    earlier = replace(run, stages=run.stages[:-1])
    if unfinished := [planned.stage.name for planned in earlier.plan if not planned.is_finished]:
        raise SystemExit(f"--only {name}: first run the stages before it: {', '.join(unfinished)}.")


def show_plan(run: StagedRun, title: str) -> None:
    """Print the plan of a run, on the first rank."""
    if PartialState().is_main_process:
        print(f"\n{title}\n\n" + "\n".join(aligned(plan_table(run.plan), gap=2)) + "\n", flush=True)


def show_scores(before: Sequence[StageResult], results: Sequence[StageResult]) -> None:
    """Print the scores on development data after each stage, if there are any."""
    best = best_stage(results)
    if best.scores:
        lines = [["stage", *(f"dev {name}" for name in best.scores), "steps"]]
        for each in (*before, *results):
            lines.append([each.name, *(f"{each.scores[name]:.4f}" for name in best.scores), f"{each.steps:,}"])
        chosen = f"\n\nBest on dev: {best.name}." if len(results) > 1 else ""
        print("\n" + "\n".join(aligned(lines, gap=2)) + chosen)


def rows_of_stages(stages: Sequence[Stage], readers: Mapping[str, Callable[[], Dataset]]) -> dict[str, Dataset]:
    """Read the datasets that stages use."""
    return {name: readers[name]() for name in {stage.data for stage in stages}}


def _report_facts(report: Report) -> Mapping[str, Any]:
    """Fields of `CardFacts` from a report."""
    return {
        "summary": f"{report.title}.",
        "results": markdown_table(report),
        "measured": report.measured,
        "scores": dict(report.student.quality),
        "test_set": report.test_set,
    }
