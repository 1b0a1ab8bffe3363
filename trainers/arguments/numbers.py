"""Checks that arguments are numbers where their annotations say so. argparse does so for the command line alone."""

import re
from dataclasses import fields
from functools import cache
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

_NUMBERS = {int: (Integral, "a whole number (int)"), float: (Real, "a number")}


def check_are_numbers(arguments: Any) -> None:
    """Refuse values of a dataclass that are no numbers, though their annotation is `int`, `float`, or one of these or
    None. None is also taken where it is the default. NumPy's numbers become Python's.

    Raises:
        ValueError: with the field, its value and the expected type.
    """
    for name, (kind, is_optional) in _fields_of_numbers(type(arguments)).items():
        value, (accepted, expected) = getattr(arguments, name), _NUMBERS[kind]
        if value is None and is_optional:
            continue
        if isinstance(value, accepted) and not isinstance(value, bool):
            if not isinstance(value, int | float):
                setattr(arguments, name, kind(value))  # torch takes no NumPy number as its seed, JSON writes none
            continue
        is_text, way_out = isinstance(value, str), ""
        if is_text:
            of_yaml = re.fullmatch(r"[\d.]+e[-+]?\d+", value, re.IGNORECASE)
            written = "1000 for 1e3" if kind is int else "1.0e-3 for 1e-3, 1.0e+3 for 1e3"
            way_out = f" From YAML? It reads this as text: write {written}." if of_yaml else " Leave out the quotes."
        found = "text" if is_text else f"of type {type(value).__name__}"
        raise ValueError(f"{name}={value!r} is {found}, but must be {expected}.{way_out}")


@cache
def _fields_of_numbers(cls: type) -> dict[str, tuple[type, bool]]:
    """The type of each field that is a number, and whether it may be None."""
    types, found = get_type_hints(cls), {}
    for field in fields(cls):
        annotation = types[field.name]
        parts = set(get_args(annotation)) if get_origin(annotation) in (Union, UnionType) else {annotation}
        if len(kinds := parts - {NoneType}) == 1 and (kind := kinds.pop()) in _NUMBERS:
            found[field.name] = kind, NoneType in parts or field.default is None
    return found
