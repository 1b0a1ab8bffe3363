"""Rows of text files, one by one, checked as they are read: what is wrong is told with the file and the line."""

from __future__ import annotations

import codecs
import csv
import gzip
import json
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

NumberedFields = Iterator[tuple[int, list[str]]]

_JSON_KINDS = {
    type(None): "null",
    bool: "boolean",
    int: "number",
    float: "number",
    str: "string",
    list: "list",
    dict: "object",
}


def text_rows(file: Path) -> Iterator[dict[str, str]]:
    """One text per line, empty lines included."""
    for line in _lines(file):
        yield {"text": _without_line_end(line)}


def table_rows(file: Path, columns: Sequence[str] | None = None) -> Iterator[dict[str, str]]:
    """Rows of a TSV or CSV file; all values are text.

    Args:
        file: TSV without quoting (a quote is a character like any other), or CSV with its standard quoting.
        columns: names of the columns of a file without a header row; without them the first row is the header.
    """
    rows = _fields(file)
    names = list(columns) if columns is not None else _header(file, *next(rows))
    empty = True
    for number, fields in rows:
        if len(fields) != len(names):
            raise ValueError(
                f"{file}:{number}: this row has {len(fields)} columns, expected {len(names)} ({', '.join(names)})."
            )
        empty = False
        yield dict(zip(names, fields, strict=True))
    if empty:
        raise ValueError(f"{file} has a header row ({', '.join(names)}), but no rows below it.")


def json_rows(file: Path) -> Iterator[dict[str, Any]]:
    """One JSON object per line, all with the same keys and, null aside, the same kinds of values."""
    kinds: dict[str, str] = {}
    for number, line in enumerate(_lines(file), 1):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{file}:{number}: this line is not JSON ({error}).") from None
        if not isinstance(row, dict):
            raise ValueError(
                f"{file}:{number}: expected a JSON object ({{...}}), but this line is {line.strip()[:40]}."
            )
        kinds = kinds or dict.fromkeys(row, "null")
        if row.keys() != kinds.keys():
            raise ValueError(f"{file}:{number}: this row has the keys {', '.join(row)}, expected {', '.join(kinds)}.")
        for key, value in row.items():
            kind = _JSON_KINDS[type(value)]
            if "null" not in (kind, kinds[key]) and kind != kinds[key]:
                raise ValueError(f"{file}:{number}: {key!r} holds a {kind} here, but a {kinds[key]} before.")
            kinds[key] = kinds[key] if kind == "null" else kind
        yield row


def count_columns(file: Path) -> int:
    """Number of columns in the first row of a TSV or CSV file."""
    return len(next(_fields(file))[1])


def _header(file: Path, number: int, names: list[str]) -> list[str]:
    if "" in names or len(set(names)) < len(names):
        raise ValueError(
            f"{file}:{number}: a header row must give every column a name of its own, but holds {names}. If the file "
            "has no header row, pass the names of its columns."
        )
    return names


def _fields(file: Path) -> NumberedFields:
    return _csv_fields(file) if ".csv" in file.suffixes[-2:] else _tsv_fields(file)


def _tsv_fields(file: Path) -> NumberedFields:
    for number, line in enumerate(_lines(file), 1):
        yield number, _without_line_end(line).split("\t")


def _csv_fields(file: Path) -> NumberedFields:
    reader = csv.reader(_lines(file), strict=True)
    start = 1
    try:
        for fields in reader:
            yield start, fields
            start = reader.line_num + 1
    except csv.Error as error:
        raise ValueError(
            f"{file}:{start}: the row that begins here is not CSV ({error}). A quote that opens a field must be "
            'closed, and a quote inside it doubled ("").'
        ) from None


def _without_line_end(line: str) -> str:
    return line.removesuffix("\n").removesuffix("\r")


def _lines(file: Path) -> Iterator[str]:
    """Lines of a UTF-8 file (gzip if its name ends in .gz), with their ends, without a byte order mark."""
    number = offset = 0
    try:
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as stream:
            for number, line in enumerate(stream, 1):
                start = len(codecs.BOM_UTF8) if number == 1 and line.startswith(codecs.BOM_UTF8) else 0
                yield _decode(line[start:], file, number, offset + start)
                offset += len(line)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{file}:{number + 1}: the gzip file is damaged or cut short ({error}).") from None
    if number == 0:
        raise ValueError(f"{file} is empty.")


def _decode(line: bytes, file: Path, number: int, offset: int) -> str:
    if b"\0" in line:
        at = offset + line.index(b"\0")
        raise ValueError(
            f"{file}:{number}: holds a NUL byte (at byte {at}), so it is not UTF-8 text but a binary file or UTF-16. "
            "Convert it to UTF-8 first."
        )
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{file}:{number}: not UTF-8: byte 0x{line[error.start]:02x} at byte {offset + error.start} of the file. "
            "Convert it to UTF-8 first."
        ) from None
