"""A recipe: a YAML file that names a teacher, a student, data, stages, and where to write."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Set
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from inspect import signature
from pathlib import Path
from typing import Any

import torch
import yaml

from .. import trainers
from ..data import sha256_of
from ..modeling.shrinking import shrink
from ..trainers import DistillTrainer
from ..trainers.stages import Stage


def read_yaml(path: str) -> dict:
    """A YAML file as a dict.

    Raises:
        SystemExit: the file is missing, is not YAML or holds something other than names and values.
    """
    try:
        settings = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise SystemExit(f"{path}: {error}") from error
    if not isinstance(settings, dict):
        raise SystemExit(f"{path}: expected names and values (name: value), but found {type(settings).__name__}.")
    return settings


def number_or_layers(flag: list[int] | None) -> int | list[int] | None:
    """What `--layers` says, as `shrink` takes it: one number is how many layers, several are which ones."""
    return flag[0] if flag and len(flag) == 1 else flag


@dataclass(frozen=True)
class Assistant:
    """A model between teacher and student: the student is made of it, and learns from it where a stage says so.

    Attributes:
        model: hub id or folder of a finished assistant; None if it is trained first.
        student: how an assistant that is trained first is made of the teacher.
        stages: the stages that train it.
    """

    model: str | None = None
    student: Mapping[str, Any] = field(default_factory=dict)
    stages: tuple[Stage, ...] = ()


@dataclass(frozen=True)
class NewTeacher:
    """A teacher that is trained from random weights first.

    Attributes:
        model: its tokenizer and sizes.
        stages: the stages that train it.
    """

    model: Mapping[str, Any]
    stages: tuple[Stage, ...]


@dataclass(frozen=True)
class Recipe:
    """A distillation from start to finish, as a YAML file describes it.

    Attributes:
        teacher: hub id or folder; empty for a new teacher.
        teacher_name: the teacher's name in reports and cards.
        fine_tuning: the stage that gives the teacher its head; None if it has one.
        new_teacher: how a new teacher is made and trained; None if the teacher exists.
        assistant: the model between teacher and student; None without one.
        student: how the student is made of the teacher, or of the assistant if there is one.
        data: what the student learns from.
        stages: the student's stages, in order.
        arguments: for the trainers of all stages, the fine-tuning included; a stage's own arguments win.
        evaluation: what the student is judged by.
        output_dir: where everything is written.
        push_to_hub: hub id that the finished student is pushed to; None for no push.
    """

    teacher: str
    teacher_name: str
    student: Mapping[str, Any]
    data: Mapping[str, Any]
    stages: tuple[Stage, ...]
    output_dir: str
    fine_tuning: Stage | None = None
    new_teacher: NewTeacher | None = None
    assistant: Assistant | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    push_to_hub: str | None = None

    def with_teacher(self, teacher: str) -> Recipe:
        """Another teacher, whose student is written beside this one's."""
        folder = f"{self.output_dir}-{Path(teacher).resolve().name}"
        return replace(self, teacher=teacher, teacher_name=teacher, new_teacher=None, output_dir=folder)

    def with_seed(self, seed: int) -> Recipe:
        """Another seed for every stage of the student; the teacher's fine-tuning and the assistant keep theirs."""
        return replace(self, stages=tuple(replace(s, arguments={**s.arguments, "seed": seed}) for s in self.stages))

    def scaled(self, scale: float) -> Recipe:
        """`scale` times the epochs for every stage of the student."""

        def longer(stage: Stage) -> Stage:
            epochs = stage.arguments["num_train_epochs"] * scale
            return replace(stage, arguments={**stage.arguments, "num_train_epochs": epochs})

        return replace(self, stages=tuple(map(longer, self.stages)))


# The settings of a student that is made by `shrink`.
SHRINK_SETTINGS = signature(shrink).parameters.keys() - {"teacher", "tokenizer", "teacher_tokenizer", "piece_counts"}


def check_student(settings: Mapping[str, Any], *ways: Set[str]) -> None:
    """Check that a recipe makes its student in one way.

    Args:
        settings: the recipe's section `student`.
        ways: the settings of each way to make a student.

    Raises:
        SystemExit: a setting that no way has, or settings of different ways.
    """
    if not any(settings.keys() <= way for way in ways):
        told = "; or by ".join(", ".join(sorted(way)) for way in ways)
        raise SystemExit(f"Here a student is made by {told}. This one has {', '.join(settings)}.")


_REQUIRED = ("teacher", "student", "data", "stages", "output_dir")
_OPTIONAL = ("assistant", "arguments", "evaluation", "push_to_hub")
_OF_NEW_TEACHER = ("tokenizer", "layers", "hidden_size", "intermediate_size", "num_attention_heads")


def read_recipe(path: str) -> Recipe:
    """Read a recipe.

    Args:
        path: of a YAML file, or the name of one that comes with retort.

    Raises:
        SystemExit: unknown or missing sections or settings.
    """
    packaged = packaged_recipes()
    if str(path) not in packaged and not Path(path).suffix and not Path(path).exists():
        near = get_close_matches(str(path), packaged, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise SystemExit(
            f"There is no recipe {path}.{hint} retort's own are {', '.join(packaged)}; or name a YAML file."
        )
    path = str(packaged.get(path, path))
    found = read_yaml(path)
    try:
        missing = [name for name in _REQUIRED if name not in found]
        unknown = [name for name in found if name not in (*_REQUIRED, *_OPTIONAL)]
        if missing or unknown:
            raise ValueError(
                f"a recipe has the sections {', '.join(_REQUIRED)} and, if need be, {', '.join(_OPTIONAL)}; here, "
                f"{', '.join(missing) or 'none'} are missing and {', '.join(unknown) or 'none'} unknown."
            )
        told = {"stages": _stages(found["stages"]), "arguments": _resolved(found.get("arguments", {}))}
        if "assistant" in found:
            told["assistant"] = _assistant(found["assistant"])
        return Recipe(**found | told | _teacher(found["teacher"]))
    except ValueError as error:
        raise SystemExit(f"{path}: {error}") from error


def packaged_recipes() -> dict[str, Path]:
    """The recipes that come with retort, by their names."""
    return {file.stem: file for file in sorted((Path(__file__).parent / "configs").glob("*.yaml"))}


def _stage(settings: Mapping[str, Any]) -> Stage:
    """A stage as a recipe writes it.

    Raises:
        ValueError: a setting that stages don't have, one that contradicts another, or no trainer of that name.
    """
    known = [each.name for each in fields(Stage) if not each.kw_only]
    if unknown := [name for name in settings if name not in known]:
        raise ValueError(f"a stage has {', '.join(known)}, but not {', '.join(unknown)}.")
    settings = {"arguments": {}} | dict(settings)
    if "name" not in settings:
        raise ValueError("every stage needs a name.")
    if "trainer" in settings:
        trainer = getattr(trainers, settings["trainer"], None)
        if not (isinstance(trainer, type) and issubclass(trainer, DistillTrainer)):
            raise ValueError(f"retort has no trainer called {settings['trainer']!r}.")
        settings["trainer"] = trainer
    return Stage(**settings | {"arguments": _resolved(settings["arguments"])})


def _teacher(named: str | Mapping[str, Any]) -> dict[str, Any]:
    """The attributes of a `Recipe` that describe its teacher."""
    if isinstance(named, str):
        return {"teacher": named, "teacher_name": named}
    if "new" in named and {"name", "stages"} <= named.keys():
        if "tokenizer" not in named["new"] or not named["new"].keys() <= set(_OF_NEW_TEACHER):
            raise ValueError(
                f"a new teacher has a tokenizer and perhaps {', '.join(_OF_NEW_TEACHER[1:])}; here are "
                f"{', '.join(named['new'])}."
            )
        made = NewTeacher(named["new"], _stages(named["stages"]))
        return {"teacher": "", "teacher_name": named["name"], "new_teacher": made}
    fine_tuning = named.get("fine_tuning")
    stage = fine_tuning and _stage({"name": "fine-tuning"} | fine_tuning)
    if "package" in named:
        folder = packaged_model(named["package"], named["folder"], named["sha256"])
        return {"teacher": str(folder), "teacher_name": named["name"], "fine_tuning": stage}
    if "model" not in named:
        raise ValueError(
            "teacher needs a model (hub id or folder); a package, folder, sha256 and name; or new, name and "
            "stages, by which a masked language model is trained first."
        )
    return {"teacher": named["model"], "teacher_name": named["model"], "fine_tuning": stage}


def _assistant(settings: Mapping[str, Any]) -> Assistant:
    """An assistant as a recipe writes it."""
    if set(settings) not in ({"model"}, {"student", "stages"}):
        raise ValueError(
            f"an assistant is a finished model (model: hub id or folder), or has student and stages, by which "
            f"it is made of the teacher; here are {', '.join(settings)}."
        )
    return Assistant(**settings | {"stages": _stages(settings.get("stages", []))})


def _stages(found: Any) -> tuple[Stage, ...]:
    if not isinstance(found, list) or not all(isinstance(stage, dict) for stage in found):
        raise ValueError("stages must be a list (- name: ...).")
    return tuple(_stage(stage) for stage in found)


def _resolved(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of a trainer; `bf16: auto` is decided for this machine."""
    return {name: supports_bf16() if (name, value) == ("bf16", "auto") else value for name, value in arguments.items()}


def supports_bf16() -> bool:
    """Whether bfloat16 is computed by the hardware, and so worth having."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") or capabilities.get("bf16"))


def packaged_model(package: str, folder: str, sha256: str) -> Path:
    """The folder of a model that lies in an installed package, its weights checked before anyone reads them.

    Args:
        package: import name; it is located, not imported.
        folder: the model's folder within the package.
        sha256: of `model.safetensors`.

    Raises:
        SystemExit: the package is not installed, or its weights are not the ones expected.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(
            f"The default teacher lies in the package {package}, which is not installed: run `make quickstart`, or "
            "pip install 'retort[quickstart]', or name another with --teacher."
        )
    path = Path(spec.submodule_search_locations[0]) / folder
    found = sha256_of(path / "model.safetensors")
    if found != sha256:
        raise SystemExit(
            f"{path}/model.safetensors has SHA-256 {found}, not the expected {sha256}: refusing to load it."
        )
    return path
