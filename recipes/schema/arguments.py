"""Converts and checks the training arguments of all stages when a recipe is read."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from functools import cache
from typing import Any

from transformers import HfArgumentParser

from ...trainers.arguments import DistillTrainingArguments
from ...trainers.stages import Stage
from .recipe import Recipe
from .values import did_you_mean, supports_bf16
from .yaml_files import parse_yaml


def with_converted_arguments(recipe: Recipe) -> Recipe:
    """The recipe with all arguments converted to the types of their flags, and `bf16: auto` set for this machine.

    Raises:
        ValueError: a stage's trainer doesn't have an argument, or refuses its value. The message has the key.
    """
    sections = recipe.stages_by_section()
    shared: dict[str, Any] = {}
    for stage in (stage for stages in sections.values() for stage in stages):
        shared |= converted(recipe.arguments, stage.trainer.arguments_class, "arguments")

    def with_own(section: str) -> tuple[Stage, ...]:
        return tuple(_converted_stage(stage, shared, section) for stage in sections[section])

    teacher, assistant = recipe.teacher, recipe.assistant
    if teacher.fine_tuning:
        teacher = replace(teacher, fine_tuning=with_own("teacher.fine_tuning")[0])
    if assistant:
        assistant = replace(assistant, stages=with_own("assistant.stages"))
    teacher = replace(teacher, stages=with_own("teacher.stages"))
    return replace(recipe, arguments=shared, stages=with_own("stages"), teacher=teacher, assistant=assistant)


def converted_arguments(given: Sequence[str], cls: type[DistillTrainingArguments]) -> dict[str, Any]:
    """Convert arguments such as `["embedding_weight=1"]`.

    Raises:
        ValueError: see `converted`; or an argument is not key=value.
    """
    pairs = [each.partition("=") for each in given]
    if wrong := [each for each, (_, equals, _) in zip(given, pairs, strict=True) if not equals]:
        raise ValueError(f"expected key=value, but found {wrong[0]!r}.")
    return converted({name: parse_yaml(value, name) for name, _, value in pairs}, cls, "arguments")


def converted(arguments: Mapping[str, Any], cls: type[DistillTrainingArguments], where: str) -> dict[str, Any]:
    """Convert arguments to the types of their flags. `where` is the section of the recipe, for messages.

    Raises:
        ValueError: a name is unknown, or a value can't be converted.
    """
    known = {each.name for each in fields(cls) if each.init} - {"output_dir"}
    for name in arguments:
        if name == "output_dir":
            raise ValueError(f"{where}.output_dir: stages are written below the recipe's output_dir. Leave it out.")
        if name in ("push_to_hub", "hub_model_id"):
            raise ValueError(
                f"{where}.{name}: all stages, even a teacher's, would be pushed to the same repository. Set "
                "push_to_hub: ID of the recipe to push the finished student."
            )
        if name not in known:
            raise ValueError(f"{where}.{name}: {cls.__name__} has no such argument.{did_you_mean(name, known)}")
    return {name: _converted_value(name, value, cls, where) for name, value in arguments.items()}


def _converted_stage(stage: Stage, shared: Mapping[str, Any], section: str) -> Stage:
    where = section if section == "teacher.fine_tuning" else f"{section}.{stage.name}"
    cls = stage.trainer.arguments_class
    arguments = converted(stage.arguments, cls, f"{where}.arguments")
    try:
        cls(output_dir="unused", **{**shared, **arguments})
    except (TypeError, ValueError, OSError, ImportError) as error:
        raise ValueError(f"{where}.arguments: {error}") from error
    return replace(stage, arguments=arguments)


def _converted_value(name: str, value: Any, cls: type, where: str) -> Any:
    if (name, value) == ("bf16", "auto"):
        return supports_bf16()
    parser = _parser(cls)
    action = next(action for action in parser._actions if action.dest == name)
    several = action.nargs == "+"
    # The arguments class checks values that a flag can't have.
    if value is None or isinstance(value, dict) or (isinstance(value, list) and not several):
        return value
    if action.choices and value not in action.choices:
        listed = ", ".join(map(str, action.choices))
        raise ValueError(f"{where}.{name}: {value!r} is none of {listed}.{did_you_mean(value, action.choices)}")
    flags = (
        [f"--{name}", *map(str, value if isinstance(value, list) else [value])] if several else [f"--{name}={value}"]
    )
    try:
        return getattr(parser.parse_args(["--output_dir=unused", *flags]), name)
    except ValueError as error:
        raise ValueError(f"{where}.{name}: {str(error).removeprefix(f'argument --{name}: ').rstrip('.')}.") from None


class _Parser(HfArgumentParser):
    """A parser that raises a ValueError instead of exiting."""

    def error(self, message: str) -> None:
        raise ValueError(message)


@cache
def _parser(cls: type) -> _Parser:
    parser = _Parser(cls, allow_abbrev=False)
    for action in parser._actions:
        action.option_strings = action.option_strings[:1]  # messages have each flag once, without the form with dashes
    return parser
