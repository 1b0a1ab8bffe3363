"""What pydantic finds wrong with a recipe, as a sentence: the key, what was expected, the nearest name."""

from dataclasses import fields
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from pydantic import ValidationError

from .values import choices, dataclass_in, did_you_mean, element_of, in_words


def first_sentence(error: ValidationError, recipe_type: Any) -> str:
    """The first thing that is wrong.

    Args:
        error: of validating a recipe.
        recipe_type: the type that it was validated as.
    """
    # A misspelt key often leaves a required one missing, and of a union every member complains: the misspelt key says
    # most, then what a section itself finds wrong, then what lies deepest.
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
    """What is said of a key that its section doesn't have."""
    near = did_you_mean(path.rpartition(".")[2], known)
    return f"{path}: there is no such key.{near} Here are {', '.join(known)}."


def settable(section: Any) -> list[str]:
    """The keys of a section."""
    return [each.name for each in fields(get_origin(section) or section) if not each.kw_only]


def types_of(section: Any) -> dict[str, Any]:
    """The types of a section's keys, those that the kind of recipe decides among them."""
    origin = get_origin(section) or section
    decided = dict(zip(getattr(origin, "__parameters__", ()), get_args(section), strict=False))
    hints = get_type_hints(origin, include_extras=True)
    return {name: decided.get(hint, hint) if isinstance(hint, TypeVar) else hint for name, hint in hints.items()}


def _walk(location: tuple[str | int, ...], recipe_type: Any) -> tuple[list[str], Any]:
    """The keys of a location, and the type at its end.

    pydantic puts the member of a union that it tried into a location; this is left out.
    """
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
