"""Checks the values of arguments against their choices. argparse does so for the command line alone."""

from dataclasses import fields
from difflib import get_close_matches
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints


def check_choices(arguments: Any, where: str = "") -> None:
    """Refuse values of a dataclass that are not among the choices in its annotations.

    Checks every field whose type is a `Literal`, or a union of `Literal` and None.

    Args:
        arguments: an instance of the dataclass.
        where: prefix of the message, if there are several instances.

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
    """The choices of a field; empty if its type allows any value."""
    kind, parts = get_origin(annotation), get_args(annotation)
    if kind is Literal:
        return parts
    if kind not in (Union, UnionType):
        return ()
    listed = [(None,) if part is type(None) else _choices(part) for part in parts]
    # `int | None` has no choices either, since an int may have any value.
    return tuple(choice for each in listed for choice in each) if all(listed) else ()
