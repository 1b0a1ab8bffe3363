"""Reads a recipe from YAML, merges it with the recipe that it extends and with command-line changes, and checks it."""

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
# `data.task` -> type of the recipe.
RECIPE_TYPES = {None: SENTENCES, "tagging": TASKS, "classification": TASKS, "masked_lm": MASKED}


def read_recipe(source: str | Path, changes: Sequence[str] = ()) -> Recipe:
    """Read a recipe, and check everything that needs neither models nor data.

    Args:
        source: a YAML file, or the name of a packaged recipe.
        changes: changes such as `stages.logits.learning_rate=1e-4`: keys separated by dots, and a YAML value. Stages
            are addressed by name. Keys that stages don't have are arguments of the stage's trainer. `null` removes a
            key.

    Raises:
        SystemExit: the recipe is invalid. The message has the file and the key.
    """
    path = recipe_path(source)
    try:
        recipe = parse_recipe(reduce(merged, map(_nested, changes), settings_of(path)))
        _check_effect(recipe, changes)
        return recipe
    except ValueError as error:
        raise SystemExit(f"{path}: {error}") from error


def parse_recipe(settings: Mapping[str, Any]) -> Recipe:
    """Make a recipe from the content of a YAML file.

    Raises:
        ValueError: the recipe is invalid. The message has the key.
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
        raise ValueError("stages: a recipe needs at least one stage.")
    return with_converted_arguments(recipe)


def packaged_recipes() -> dict[str, Path]:
    """Name -> file of the packaged recipes."""
    return {file.stem: file for file in sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))}


def recipe_path(source: str | Path) -> Path:
    """The file of a recipe, from the name of a packaged recipe or from a path.

    Raises:
        SystemExit: there is no recipe of this name. The message has the nearest name.
    """
    packaged = packaged_recipes()
    if str(source) in packaged:
        return packaged[str(source)]
    if not Path(source).exists():
        raise SystemExit(
            f"There is no recipe {source}.{did_you_mean(source, packaged)} The packaged recipes are "
            f"{', '.join(packaged)}; or pass a YAML file."
        )
    return Path(source)


def settings_of(path: Path, extending: tuple[Path, ...] = ()) -> dict[str, Any]:
    """A file's settings, merged into those of the recipe that it extends. `extending` are the files that extend it."""
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
    return merged(settings_of(found, (*extending, path.resolve())), settings)


# --- Changes ----------------------------------------------------------------------------------------------------------


def merged(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Merge changes into settings. Sections are merged key by key, lists are replaced, and None removes a key.

    `teacher: ID`, or a teacher of another kind (`teacher: {vectors: ...}`), replaces the teacher, but keeps its stage
    `fine_tuning`.

    Stages can also be changed by a mapping with their names, as in `stages: {logits: {learning_rate: 1e-4}}`.
    """
    result = dict(settings)
    for name, change in changes.items():
        before = result.get(name)
        if change is None:
            result.pop(name, None)
        elif name == "stages" and isinstance(before, list) and isinstance(change, Mapping):
            result[name] = _changed_stages(before, change)
        elif name == "teacher" and isinstance(before, str | Mapping) and isinstance(change, str | Mapping):
            result[name] = _changed_teacher(before, change)
        elif name == "fine_tuning" and isinstance(before, Mapping) and isinstance(change, Mapping):
            result[name] = _changed_stage(before, change)
        elif isinstance(before, Mapping | None) and isinstance(change, Mapping):
            result[name] = merged(before or {}, change)
        else:
            result[name] = change
    return result


def _changed_teacher(before: str | Mapping[str, Any], change: str | Mapping[str, Any]) -> dict[str, Any]:
    before = {"model": before} if isinstance(before, str) else before
    after = {"model": change} if isinstance(change, str) else change
    sources = {key for key in ("model", "bundled", "vectors", "new") if after.get(key) is not None}
    if isinstance(change, str) or sources - before.keys():
        before = {key: before[key] for key in ("fine_tuning",) if key in before}
    return merged(before, after)


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
    """Convert `a.b=1` to `{"a": {"b": 1}}`."""
    path, equals, value = change.partition("=")
    if not equals or not all(path.split(".")):
        raise ValueError(f"{change!r} is not key=value, such as stages.logits.learning_rate=1e-4.")
    nested = parse_yaml(value, f"{path}=")
    for key in reversed(path.split(".")):
        nested = {key: nested}
    return nested


def _check_effect(recipe: Recipe, changes: Sequence[str]) -> None:
    """Refuse a change of `arguments` that no stage would follow, since each has an argument of its own."""
    stages = [stage for section in recipe.stages_by_section().values() for stage in section]
    for change in changes:
        section, _, name = change.partition("=")[0].partition(".")
        if section == "arguments" and name in recipe.arguments and all(name in stage.arguments for stage in stages):
            example = recipe.stages[-1]
            raise ValueError(
                f"arguments.{name} has no effect: every stage has its own {name} ({example.arguments[name]} in "
                f"{example.name}). Change that of a stage: stages.{example.name}.{name}=VALUE."
            )


# --- Shorthands -------------------------------------------------------------------------------------------------------


def _written_out(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings without shorthands: `teacher: ID` becomes its `model`, and names of trainers become classes."""
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
    """The arguments of `Stage`, with the class of its trainer instead of the name."""
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
    """Replace numbers of stages in a message with their names."""
    sections = {"": settings, "assistant.": settings.get("assistant"), "teacher.": settings.get("teacher")}
    for prefix, section in sections.items():
        stages = section.get("stages") if isinstance(section, Mapping) else None
        for number, stage in enumerate(stages if isinstance(stages, list) else ()):
            if isinstance(stage, Mapping) and "name" in stage:
                place = rf"(?<![\w.]){re.escape(prefix)}stages\.{number}\b"
                sentence = re.sub(place, f"{prefix}stages.{stage['name']}", sentence, count=1)
    return sentence
