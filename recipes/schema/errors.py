"""Error messages for recipes: the key, the expected value, and the nearest valid name."""

from dataclasses import fields
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from pydantic import ValidationError

from ...trainers.arguments import DistillTrainingArguments
from .values import choices, dataclass_in, did_you_mean, element_of, in_words


def first_sentence(error: ValidationError, recipe_type: Any) -> str:
    """The most informative error as a sentence."""
    # A misspelt key often causes further errors: a required key is missing, and every member of a union fails. So
    # misspelt keys come first, then errors that a section raises itself, then the most deeply nested error.
    ranks = {"unexpected_keyword_argument": 2, "value_error": 1}
    first = max(error.errors(include_url=False), key=lambda e: (ranks.get(e["type"], 0), len(e["loc"])))
    unknown = first["type"] == "unexpected_keyword_argument"
    keys, annotation = _walk(first["loc"][:-1] if unknown else first["loc"], recipe_type)
    if unknown:
        return unknown_key(".".join([*keys, first["loc"][-1]]), settable(dataclass_in(annotation)))
    where = ".".join(keys)
    match first["type"]:
        case "missing" | "missing_argument":
            return f"{where} is missing: expected {in_words(annotation)}."
        case "value_error":
            reason = str(first["ctx"]["error"])
            return f"{where}: {reason}" if where else reason
    near = did_you_mean(first["input"], choices(annotation))
    return f"{where}: expected {in_words(annotation)}, but found {first['input']!r}.{near}"


def unknown_key(path: str, known: list[str]) -> str:
    """The message for a key that its section doesn't have."""
    section, _, key = path.rpartition(".")
    if not section and key in {each.name for each in fields(DistillTrainingArguments)}:
        return (
            f"{key}: a recipe has training arguments of all stages under arguments (arguments.{key}), and those of one "
            f"stage under its arguments (stages.NAME.arguments.{key})."
        )
    near = did_you_mean(key, known)
    return f"{path}: there is no such key.{near} Here are {', '.join(known)}."


def settable(section: Any) -> list[str]:
    """The keys of a section."""
    return [each.name for each in fields(get_origin(section) or section) if not each.kw_only]


def types_of(section: Any) -> dict[str, Any]:
    """Key -> type of a section, with the type variables of a recipe resolved."""
    origin = get_origin(section) or section
    decided = dict(zip(getattr(origin, "__parameters__", ()), get_args(section), strict=False))
    hints = get_type_hints(origin, include_extras=True)
    return {name: decided.get(hint, hint) if isinstance(hint, TypeVar) else hint for name, hint in hints.items()}


def _walk(location: tuple[str | int, ...], recipe_type: Any) -> tuple[list[str], Any]:
    """The keys of a location, and the type at its end, without the members of unions that pydantic adds."""
    keys, annotation, section = [], recipe_type, recipe_type
    for part in location:
        if section is not None and part in settable(section):
            annotation = types_of(section)[part]
            section = dataclass_in(annotation)
            keys.append(part)
        elif isinstance(part, int):
            keys.append(str(part))
            annotation = element_of(annotation)
            section = dataclass_in(annotation)
    return keys, annotation
