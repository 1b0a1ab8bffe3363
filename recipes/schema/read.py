"""Reading a recipe: YAML, below it the recipe that it extends, on top the changes of a command line; then types."""

import re
from collections.abc import Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from ... import trainers
from ...trainers import DistillTrainer
from ...trainers.stages import Stage
from .arguments import with_converted_arguments
from .data import MaskedEvaluation, MaskedFiles, SentenceEvaluation, SentenceFiles, TaskEvaluation, TaskFiles
from .errors import first_sentence, settable, unknown_key
from .recipe import Recipe
from .values import did_you_mean
from .yaml_files import parse_yaml, read_yaml

SENTENCES = Recipe[SentenceFiles, SentenceEvaluation]
TASKS = Recipe[TaskFiles, TaskEvaluation]
MASKED = Recipe[MaskedFiles, MaskedEvaluation]
# What `data.task` says, and the type of such a recipe.
RECIPE_TYPES = {None: SENTENCES, "tagging": TASKS, "classification": TASKS, "masked_lm": MASKED}


def read_recipe(source: str | Path, changes: Sequence[str] = ()) -> Recipe:
    """Read a recipe, and check everything that needs neither models nor data.

    Args:
        source: a YAML file, or the name of a recipe that comes with retort.
        changes: each as `stages.logits.learning_rate=1e-4`: keys with dots between them, and a value as YAML has it.
            A stage is addressed by its name; a key that stages don't have is an argument of the stage's trainer. `null`
            removes a key.

    Raises:
        SystemExit: the first thing that is wrong, with the file and the key.
    """
    path = recipe_path(source)
    try:
        settings = reduce(merged, map(_nested, changes), _extended(path, ()))
        return parse_recipe(settings)
    except ValueError as error:
        raise SystemExit(f"{path}: {error}") from error


def parse_recipe(settings: Mapping[str, Any]) -> Recipe:
    """A recipe of what a YAML file holds.

    Raises:
        ValueError: the first thing that is wrong, with its key.
    """
    settings = _written_out(settings)
    data = settings.get("data")
    task = data.get("task") if isinstance(data, Mapping) else None
    if not isinstance(task, str | None) or task not in RECIPE_TYPES:
        tasks = [name for name in RECIPE_TYPES if name]
        raise ValueError(
            f"data.task: expected one of {', '.join(tasks)}, or no task for sentence embeddings, but found "
            f"{task!r}.{did_you_mean(task, tasks)}"
        )
    try:
        adapter = TypeAdapter(RECIPE_TYPES[task], config=ConfigDict(extra="forbid"))
        recipe = adapter.validate_python(settings)
    except ValidationError as error:
        raise ValueError(_with_stage_names(first_sentence(error, RECIPE_TYPES[task]), settings)) from None
    if not recipe.stages:
        raise ValueError("stages: a recipe needs one stage at least.")
    return with_converted_arguments(recipe)


def packaged_recipes() -> dict[str, Path]:
    """The recipes that come with retort, by their names."""
    return {file.stem: file for file in sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))}


def recipe_path(source: str | Path) -> Path:
    """The file of a recipe: of one of retort's by its name, of any other by its path.

    Raises:
        SystemExit: a name that retort's recipes don't have; with the nearest of theirs.
    """
    packaged = packaged_recipes()
    if str(source) in packaged:
        return packaged[str(source)]
    if not Path(source).suffix and not Path(source).exists():
        raise SystemExit(
            f"There is no recipe {source}.{did_you_mean(source, packaged)} retort's own are {', '.join(packaged)}; or "
            "name a YAML file."
        )
    return Path(source)


def _extended(path: Path, extending: tuple[Path, ...]) -> dict[str, Any]:
    """A file's settings on top of those of the recipe that it extends."""
    settings = read_yaml(path)
    base = settings.pop("extends", None)
    if base is None:
        return settings
    if not isinstance(base, str):
        raise ValueError(f"extends: expected a recipe's name or a YAML file, but found {base!r}.")
    beside = path.parent / base
    found = beside if beside.is_file() else recipe_path(base)
    if found.resolve() in (*extending, path.resolve()):
        raise ValueError(f"extends: {base} extends this recipe in turn.")
    return merged(_extended(found, (*extending, path.resolve())), settings)


# --- Changes ----------------------------------------------------------------------------------------------------------


def merged(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with changes on top. Sections are changed key by key, lists are replaced; None removes a key.

    A list of stages is also changed by a mapping of their names, as in `stages: {logits: {learning_rate: 1e-4}}`.

    Raises:
        ValueError: a change of a stage that isn't there.
    """
    result = dict(settings)
    for name, change in changes.items():
        before = result.get(name)
        if change is None:
            result.pop(name, None)
        elif name == "stages" and isinstance(before, list) and isinstance(change, Mapping):
            result[name] = _changed_stages(before, change)
        elif name == "fine_tuning" and isinstance(before, Mapping) and isinstance(change, Mapping):
            result[name] = _changed_stage(before, change)
        elif isinstance(before, Mapping | None) and isinstance(change, Mapping):
            result[name] = merged(before or {}, change)
        else:
            result[name] = change
    return result


def _changed_stages(stages: list[Any], changes: Mapping[str, Any]) -> list[Any]:
    names = [stage.get("name") if isinstance(stage, Mapping) else None for stage in stages]
    for name in changes:
        if name not in names:
            near = did_you_mean(name, names)
            raise ValueError(f"stages.{name}: there is no such stage.{near} Here are {', '.join(map(str, names))}.")
        if not isinstance(changes[name], Mapping):
            raise ValueError(f"stages.{name}: expected keys and values, but found {changes[name]!r}.")
    by_stage = [changes.get(name, {}) for name in names]
    return [_changed_stage(stage, change) for stage, change in zip(stages, by_stage, strict=True)]


def _changed_stage(stage: Any, change: Mapping[str, Any]) -> Any:
    if not isinstance(stage, Mapping):
        return stage
    own = {name: value for name, value in change.items() if name in settable(Stage)}
    of_trainer = {name: value for name, value in change.items() if name not in own}
    return merged(merged(stage, own), {"arguments": of_trainer} if of_trainer else {})


def _nested(change: str) -> dict[str, Any]:
    """`a.b=1` as `{"a": {"b": 1}}`.

    Raises:
        ValueError: no key, or no value.
    """
    path, equals, value = change.partition("=")
    if not equals or not all(path.split(".")):
        raise ValueError(f"{change!r} changes nothing: give key=value, such as stages.logits.learning_rate=1e-4.")
    nested = parse_yaml(value, f"{path}=")
    for key in reversed(path.split(".")):
        nested = {key: nested}
    return nested


# --- Shorthands -------------------------------------------------------------------------------------------------------


def _written_out(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings without shorthands: a teacher given as a text is its `model`; trainers are classes, not names."""
    full = {"evaluation": {}} | dict(settings)
    if isinstance(full.get("teacher"), str):
        full["teacher"] = {"model": full["teacher"]}
    for section in ("teacher", "assistant"):
        if isinstance(full.get(section), Mapping):
            full[section] = _with_stages(full[section], f"{section}.")
    teacher = full.get("teacher")
    if isinstance(teacher, Mapping) and isinstance(teacher.get("fine_tuning"), Mapping):
        stage = {"name": "fine-tuning"} | teacher["fine_tuning"]
        full["teacher"] = teacher | {"fine_tuning": _stage(stage, "teacher.fine_tuning")}
    return _with_stages(full, "")


def _with_stages(section: Mapping[str, Any], path: str) -> dict[str, Any]:
    stages = section.get("stages")
    if not isinstance(stages, list):
        return dict(section)

    def named(stage: Mapping[str, Any], number: int) -> str:
        return f"{path}stages.{stage.get('name', number)}"

    full = [_stage(s, named(s, number)) if isinstance(s, Mapping) else s for number, s in enumerate(stages)]
    return {**section, "stages": full}


def _stage(settings: Mapping[str, Any], path: str) -> dict[str, Any]:
    """The arguments of `Stage`; its trainer by its name.

    Raises:
        ValueError: a key that stages don't have, a number that is true or false, or no trainer of that name.
    """
    known = settable(Stage)
    for name, value in settings.items():
        if name not in known:
            raise ValueError(unknown_key(f"{path}.{name}", known))
        if name in ("chunk_rows", "patience") and isinstance(value, bool):  # pydantic would take true for 1
            raise ValueError(f"{path}.{name}: expected a whole number, but found {value!r}.")
    full = {"arguments": {}} | dict(settings)
    if "trainer" in full:
        classes = {n: c for n, c in vars(trainers).items() if isinstance(c, type) and issubclass(c, DistillTrainer)}
        if not isinstance(full["trainer"], str) or full["trainer"] not in classes:
            near = did_you_mean(full["trainer"], classes)
            raise ValueError(
                f"{path}.trainer: retort has no trainer called {full['trainer']!r}.{near} Here are "
                f"{', '.join(classes)}."
            )
        full["trainer"] = classes[full["trainer"]]
    return full


def _with_stage_names(sentence: str, settings: Mapping[str, Any]) -> str:
    """A sentence that names the n-th stage by its name."""
    sections = {"": settings, "assistant.": settings.get("assistant"), "teacher.": settings.get("teacher")}
    for prefix, section in sections.items():
        stages = section.get("stages") if isinstance(section, Mapping) else None
        for number, stage in enumerate(stages if isinstance(stages, list) else ()):
            if isinstance(stage, Mapping) and "name" in stage:
                place = rf"(?<![\w.]){re.escape(prefix)}stages\.{number}\b"
                sentence = re.sub(place, f"{prefix}stages.{stage['name']}", sentence, count=1)
    return sentence
