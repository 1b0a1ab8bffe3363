"""Rows of JSON files, whose types are settled over the whole file."""

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datasets import Features, List, Value

from .lines import format_of, lines_of

JSON = (".jsonl", ".json")

# A value's kind: a name of these, {"list": the kind of its members} or {"object": {key: kind}}.
Kind = str | dict[str, Any]

_KINDS = {bool: "boolean", int: "integer", float: "float", str: "string", list: "list", dict: "object"}
_FEATURES = {"null": "null", "boolean": "bool", "integer": "int64", "wide": "int64", "float": "float64"}
_WORDS = {"integer": "number", "wide": "number", "float": "number"}
# Beyond these, a float isn't exact, and Arrow has no integer.
_EXACT, _LARGEST = 2**53, 2**63
_SPACE = re.compile(r"[ \t\r\n]*")


def json_rows(file: Path, keys: list[str]) -> Iterator[dict[str, Any]]:
    """The objects of a JSON file, each with all keys; what an object lacks is None."""
    for _, row in json_objects(file):
        yield {key: row.get(key) for key in keys}


def json_kinds(file: Path) -> Iterator[dict[str, str]]:
    """What each key of a file's objects holds, as a single row of a column `kinds` of JSON.

    Whole numbers and fractions make fractions; nothing else is brought to one kind.

    Raises:
        ValueError: a value of another kind than those before it, with file and line.
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
    """The columns that `json_kinds` tells."""

    def feature(kind: Kind) -> Any:
        if isinstance(kind, str):
            return Value(_FEATURES.get(kind, kind))
        if "list" in kind:
            return List(feature(kind["list"]))
        return {key: feature(each) for key, each in kind["object"].items()}

    return Features({key: feature(kind) for key, kind in kinds.items()})


def json_objects(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """One object per line, blank lines skipped; a `.json` file may hold a list of objects instead.

    Yields:
        The line that an object begins in, from 1, and the object.

    Raises:
        ValueError: a line that is no JSON object, with file and line.
    """
    is_list = format_of(file) == ".json" and next(filter(str.strip, lines_of(file)), "").lstrip().startswith("[")
    found = _members(file) if is_list else _lines(file)
    for number, row in found:
        if not isinstance(row, dict):
            raise ValueError(f"{file}:{number}: expected a JSON object ({{...}}), but this is {json.dumps(row)[:40]}.")
        yield number, row


def _lines(file: Path) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(lines_of(file), 1):
        if text := line.strip():
            value, end = _decoded(file, number, text, 0)
            if end < len(text):
                raise ValueError(f"{file}:{number}: this line is not JSON (it goes on with {text[end:][:40]!r}).")
            yield number, value


def _members(file: Path) -> Iterator[tuple[int, Any]]:
    """The members of the list that a file holds, one by one."""
    text = "".join(lines_of(file))
    at, number = text.index("[") + 1, 1 + text.count("\n", 0, text.index("["))
    is_first = True
    while True:
        start = _SPACE.match(text, at).end()
        number, at = number + text.count("\n", at, start), start
        if is_first and text[at : at + 1] == "]":
            break
        value, end = _decoded(file, number, text, at)
        yield number, value
        is_first = False
        number, at = number + text.count("\n", at, end), end
        start = _SPACE.match(text, at).end()
        number, at = number + text.count("\n", at, start), start
        if text[at : at + 1] == "]":
            break
        if text[at : at + 1] != ",":
            raise ValueError(f"{file}:{number}: not JSON: expected a comma or ] after an object of the list.")
        at += 1
    if text[at + 1 :].strip():
        raise ValueError(f"{file}:{number}: not JSON: the list is closed here, but the file goes on.")


def _decoded(file: Path, number: int, text: str, at: int) -> tuple[Any, int]:
    """The value that begins somewhere, and where it ends."""
    try:
        return _DECODER.raw_decode(text, at)
    except json.JSONDecodeError as error:
        number += text.count("\n", at, error.pos)
        raise ValueError(f"{file}:{number}: this line is not JSON ({error.msg}).") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file}:{number}: this line is not JSON that can be read ({error}).") from None


def _finite(text: str) -> float:
    if math.isfinite(value := float(text)):
        return value
    raise ValueError(f"{text} is no finite number")


_DECODER = json.JSONDecoder(parse_float=_finite, parse_constant=_finite)


def _joined(kind: Kind, value: Any, place: str) -> Kind:
    """The kind of a column that was of a kind before, and holds one more value."""
    if value is None:
        return kind
    given = _KINDS[type(value)]
    if given == "integer" and abs(value) > _EXACT:
        if not -_LARGEST <= value < _LARGEST:
            raise ValueError(f"{place} holds a whole number of more than 64 bits. Write it as a string.")
        given = "wide"
    elif given == "string" and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError(f"{place} holds half a surrogate pair, which is no character.") from None
    if kind == "null":
        kind = {"list": "null"} if given == "list" else {"object": {}} if given == "object" else given
    told = kind if isinstance(kind, str) else next(iter(kind))
    if given != told:
        if {given, told} == {"wide", "float"}:
            raise ValueError(f"{place} holds fractions and whole numbers beyond 2**53, which no float tells apart.")
        if {given, told} <= {"integer", "wide", "float"}:
            return max(given, told, key=("integer", "wide", "float").index)
        before = f"a {_WORDS.get(told, told)}"
        raise ValueError(f"{place} holds a {_WORDS.get(given, given)} here, but {before} before.")
    if given == "list":
        for member in value:
            kind = {"list": _joined(kind["list"], member, f"{place}, in a list,")}
    elif given == "object":
        kinds = kind["object"]
        told = {key: _joined(kinds.get(key, "null"), member, f"{place}, {key!r},") for key, member in value.items()}
        kind = {"object": kinds | told}
    return kind
