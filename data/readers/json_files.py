"""Reads JSON files. The type of each column is determined from the whole file."""

import json
import math
import re
from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datasets import Features, List, Value

from .lines import format_of, lines_of

JSON = (".jsonl", ".json")

# A value's kind: one of the names below, {"list": kind of the members} or {"object": {key: kind}}.
Kind = str | dict[str, Any]

_KINDS = {bool: "boolean", int: "integer", float: "float", str: "string", list: "list", dict: "object"}
_FEATURES = {"null": "null", "boolean": "bool", "integer": "int64", "wide": "int64", "float": "float64"}
_WORDS = {"integer": "number", "wide": "number", "float": "number"}
# The limits of exact floats and of Arrow's integers.
_EXACT, _LARGEST = 2**53, 2**63
_SPACE = re.compile(r"[ \t\r\n]*")


def json_rows(file: Path, keys: list[str]) -> Iterator[dict[str, Any]]:
    """The objects of a JSON file, each with all `keys`. Missing values are None."""
    for _, row in json_objects(file):
        yield {key: row.get(key) for key in keys}


def json_kinds(file: Path) -> Iterator[dict[str, str]]:
    """The kind of each key's values, as a single row with a JSON string in the column `kinds`.

    Integers and floats together become float. No other kinds are converted.

    Raises:
        ValueError: a value has another kind than earlier values (with file and line).
    """
    kinds: dict[str, Kind] = {}
    for line, row in json_objects(file):
        if kinds and row and not row.keys() & kinds.keys():
            raise ValueError(f"{file}:{line}: this row has the keys {', '.join(row)}, expected {', '.join(kinds)}.")
        for key, value in row.items():
            kinds[key] = _joined(kinds.get(key, "null"), value, f"{file}:{line}: {key!r}")
    if not kinds:
        raise ValueError(f"{file} holds no rows.")
    yield {"kinds": json.dumps(kinds)}


def features_of(kinds: dict[str, Kind]) -> Features:
    """The columns for the result of `json_kinds`."""

    def feature(kind: Kind) -> Any:
        if isinstance(kind, str):
            return Value(_FEATURES.get(kind, kind))
        if "list" in kind:
            return List(feature(kind["list"]))
        return {key: feature(each) for key, each in kind["object"].items()}

    return Features({key: feature(kind) for key, kind in kinds.items()})


def json_objects(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Read one object per line, skipping blank lines, or the list of objects in a `.json` file.

    Yields:
        The line number of an object's start, from 1, and the object.

    Raises:
        ValueError: a line is not a JSON object (with file and line).
    """
    is_list = format_of(file) == ".json" and next(filter(str.strip, lines_of(file)), "").lstrip().startswith("[")
    found = _members(file) if is_list else _lines(file)
    for number, row in found:
        if not isinstance(row, dict):
            raise ValueError(f"{file}:{number}: expected a JSON object ({{...}}), but found {json.dumps(row)[:40]}.")
        yield number, row


def _lines(file: Path) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(lines_of(file), 1):
        if text := line.strip():
            value, end = _decoded(file, number, text, 0)
            if end < len(text):
                raise ValueError(f"{file}:{number}: this line is not JSON (unexpected {text[end:][:40]!r}).")
            yield number, value


def _members(file: Path) -> Iterator[tuple[int, Any]]:
    """The members of the list in a file, one by one."""
    text = "".join(lines_of(file))
    ends = [match.start() for match in re.finditer("\n", text)]

    def line(at: int) -> int:
        return 1 + bisect_left(ends, at)

    at = _SPACE.match(text, text.index("[") + 1).end()
    ended = text[at : at + 1] == "]"
    while not ended:
        value, end = _decoded(file, line(at), text, at)
        yield line(at), value
        at = _SPACE.match(text, end).end()
        ended = text[at : at + 1] == "]"
        if not ended:
            if text[at : at + 1] != ",":
                raise ValueError(f"{file}:{line(at)}: not JSON: expected a comma or ] after an object of the list.")
            at = _SPACE.match(text, at + 1).end()
    if text[at + 1 :].strip():
        raise ValueError(f"{file}:{line(at)}: not JSON: the list ends here, but the file continues.")


def _decoded(file: Path, number: int, text: str, at: int) -> tuple[Any, int]:
    """The JSON value that starts at `at`, and the position of its end."""
    try:
        return _DECODER.raw_decode(text, at)
    except json.JSONDecodeError as error:
        number += text.count("\n", at, error.pos)
        raise ValueError(f"{file}:{number}: this line is not JSON ({error.msg}).") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file}:{number}: this line is not JSON that Python can parse ({error}).") from None


def _finite(text: str) -> float:
    if math.isfinite(value := float(text)):
        return value
    raise ValueError(f"{text} is not a finite number")


_DECODER = json.JSONDecoder(parse_float=_finite, parse_constant=_finite)


def _joined(kind: Kind, value: Any, place: str) -> Kind:
    """The kind of a column of this kind after one more value."""
    if value is None:
        return kind
    given = _KINDS[type(value)]
    if given == "integer" and abs(value) > _EXACT:
        if not -_LARGEST <= value < _LARGEST:
            raise ValueError(f"{place} holds an integer of more than 64 bits. Write it as a string.")
        given = "wide"
    elif given == "string" and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError(f"{place} holds half a surrogate pair, which is not a character.") from None
    if kind == "null":
        kind = {"list": "null"} if given == "list" else {"object": {}} if given == "object" else given
    former = kind if isinstance(kind, str) else next(iter(kind))
    if given != former:
        if {given, former} == {"wide", "float"}:
            raise ValueError(f"{place} holds floats, and integers above 2**53, which floats can't represent exactly.")
        if {given, former} <= {"integer", "wide", "float"}:
            return max(given, former, key=("integer", "wide", "float").index)
        before = f"a {_WORDS.get(former, former)}"
        raise ValueError(f"{place} holds a {_WORDS.get(given, given)} here, but {before} before.")
    if given == "list":
        for member in value:
            kind = {"list": _joined(kind["list"], member, f"{place}, in a list,")}
    elif given == "object":
        kinds = kind["object"]
        joined = {key: _joined(kinds.get(key, "null"), member, f"{place}, {key!r},") for key, member in value.items()}
        kind = {"object": kinds | joined}
    return kind
