"""Choices, checked wherever arguments come from: argparse checks those of the command line alone."""

from dataclasses import fields
from difflib import get_close_matches
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints


def check_choices(arguments: Any, where: str = "") -> None:
    """Refuse a dataclass's values that are none of the choices that its annotations list.

    Every field whose type is a `Literal`, or a union of them and None, is checked: a new field needs its type alone.

    Args:
        arguments: an object of the dataclass.
        where: begins the message, where the dataclass's name doesn't tell which of several objects it is.

    Raises:
        ValueError: with the field, its value, the choices and the nearest of them.
    """
    types = get_type_hints(type(arguments))
    for field in fields(arguments):
        choices, value = _choices(types[field.name]), getattr(arguments, field.name)
        if choices and value not in choices:
            near = get_close_matches(str(value), [str(choice) for choice in choices], n=1, cutoff=0.5)
            raise ValueError(
                f"{where}{field.name}={value!r} is none of the choices {', '.join(map(repr, choices))}."
                + (f" Did you mean {near[0]!r}?" if near else "")
            )


def _choices(annotation: Any) -> tuple:
    """What a field may be; empty if its type leaves that open."""
    kind, parts = get_origin(annotation), get_args(annotation)
    if kind is Literal:
        return parts
    if kind not in (Union, UnionType):
        return ()
    listed = [(None,) if part is type(None) else _choices(part) for part in parts]
    # A union with None alone, `int | None`, lists nothing either: its other part is open.
    return tuple(choice for each in listed for choice in each) if all(listed) else ()
