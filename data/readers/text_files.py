"""Rows of text files, one by one, checked as they are read: what is wrong is told with the file and the line."""

import codecs
import csv
import gzip
import json
import zlib
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

NumberedFields = Iterator[tuple[int, list[str]]]

# What a header row calls the last column of labelled data.
_LABEL_COLUMNS = frozenset(("label", "labels", "score", "tags"))

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
    number, names = (0, list(columns)) if columns is not None else next(rows)
    if columns is None and ("" in names or len(set(names)) < len(names)):
        raise ValueError(
            f"{file}:{number}: a header row must give every column a name of its own, but holds {names}. If the file "
            "has no header row, pass the names of its columns."
        )
    row = None
    for number, fields in rows:
        if len(fields) != len(names):
            raise ValueError(
                f"{file}:{number}: this row has {len(fields)} columns, expected {len(names)} ({', '.join(names)})."
            )
        row = dict(zip(names, fields, strict=True))
        yield row
    if row is None:
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


def labelled_rows(
    file: Path, columns: Sequence[str], *, more: bool = False, hint: str = ""
) -> Iterator[dict[str, Any]]:
    """Rows of a TSV file as tasks are published: without quoting, without a header row, perhaps with blank lines.

    Blank lines are skipped. A first row whose last column is called `label`, `labels`, `tags` or `score` is a header,
    and skipped as well.

    Args:
        file: the TSV file.
        columns: names for its columns.
        more: whether further columns may follow. They are ignored.
        hint: the way out, for the message about a row with other than these columns.

    Yields:
        The columns, and `line`, the row's number in the file, from 1.
    """
    row, is_first = None, True
    for number, fields in _tsv_fields(file):
        if len(fields) == 1 and not fields[0].strip():
            continue
        is_header = is_first and len(fields) > 1 and fields[-1].strip().lower() in _LABEL_COLUMNS
        is_first = False
        if is_header:
            continue
        if len(fields) < len(columns) or (len(fields) > len(columns) and not more):
            raise ValueError(
                f"{file}:{number}: this row has {len(fields)} columns, expected {len(columns)} ({', '.join(columns)}), "
                f"with a tab between them.{hint}"
            )
        row = dict(zip(columns, fields, strict=False)) | {"line": number}
        yield row
    if row is None:
        raise ValueError(f"{file} holds no rows.")


def parallel_rows(file: Path) -> Iterator[dict[str, Any]]:
    """Sentences and their translations, of a TSV file without a header row: a row for each translation.

    Blank lines are skipped. Cells may be empty.

    Yields:
        `source` and `target`.
    """
    row = None
    for number, (source, *targets) in _tsv_fields(file):
        if not targets and source.strip():
            raise ValueError(
                f"{file}:{number}: this row has no translation: expected a sentence, a tab and its translation, but it "
                f"is {source[:60]!r}."
            )
        for target in targets:
            row = {"source": source, "target": target}
            yield row
    if row is None:
        raise ValueError(f"{file} holds no rows.")


def conll_rows(file: Path) -> Iterator[dict[str, Any]]:
    """Sentences of a file with one word per line: the word first, its tag last, blank lines between sentences.

    Columns are separated by tabs or, in a file whose first row has none, by spaces. Lines of `-DOCSTART-` are skipped.

    Yields:
        `words`, `labels`, and `line`, the number of the sentence's first line, from 1.
    """
    width, separator = 0, None
    lines = ((number, _without_line_end(line)) for number, line in enumerate(_lines(file), 1))
    for is_between, sentence in groupby(lines, lambda row: not row[1].strip() or row[1].startswith("-DOCSTART-")):
        if is_between:
            continue
        first_line, words, labels = None, [], []
        for number, line in sentence:
            first_line = first_line or number
            separator = separator or ("\t" if "\t" in line else " ")
            fields = line.split("\t") if separator == "\t" else [field for field in line.split(" ") if field]
            width = width or len(fields)
            if len(fields) != width or width < 2 or not (fields[0] and fields[-1].strip()):
                raise ValueError(
                    f"{file}:{number}: expected {max(width, 2)} columns with a {'space' if separator == ' ' else 'tab'}"
                    f" between them, the word first and its tag last, but this line is {line[:60]!r}."
                )
            words.append(fields[0])
            labels.append(fields[-1].strip())
        yield {"words": words, "labels": labels, "line": first_line}
    if width == 0:
        raise ValueError(f"{file} holds no sentences.")


def first_row(file: Path) -> list[str]:
    """The first row of a TSV or CSV file, be it a header or not."""
    return next(_fields(file))[1]


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
