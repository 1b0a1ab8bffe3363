"""Reads plain text files: a text per line, or a word and its tag per line."""

import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from .lines import lines_of, without_line_end

# Comments of CoNLL-U (`# sent_id = a1`) and CoNLL-2012. A word may also begin with # or be #.
_COMMENT = re.compile(r"#\s.*|#(begin|end) document.*")
_SETTING = re.compile(r"#\s*[\w.:-]+\s+=\s.*")


def text_rows(file: Path) -> Iterator[dict[str, str]]:
    """One text per line, empty lines included."""
    for line in lines_of(file):
        yield {"text": without_line_end(line)}


def conll_rows(file: Path) -> Iterator[dict[str, Any]]:
    """Sentences of a file with one word per line: the word first, its tag last, blank lines between sentences.

    Columns are separated by tabs, or by spaces if the first row has no tab. Lines with `-DOCSTART-` and comments are
    skipped. Comments are lines like `# key = value`, and lines that begin with a hash and a space and don't have the
    columns of the file.

    Yields:
        `words`, `labels`, and `line`, the line number of the sentence's first word, from 1.
    """
    separator, width = _conll_layout(file)
    for is_separator, sentence in groupby(_conll_lines(file, separator, width), lambda row: not row[1]):
        if is_separator:
            continue
        rows = list(sentence)
        for number, fields in rows:
            if len(fields) != width or width < 2 or not (fields[0] and fields[-1].strip()):
                raise ValueError(
                    f"{file}:{number}: expected {max(width, 2)} columns with a {'space' if separator == ' ' else 'tab'}"
                    f" between them, the word first and its tag last, but this line is {separator.join(fields)[:60]!r}."
                )
        yield {
            "words": [fields[0] for _, fields in rows],
            "labels": [fields[-1].strip() for _, fields in rows],
            "line": rows[0][0],
        }
    if width == 0:
        raise ValueError(f"{file} holds no sentences.")


def _conll_layout(file: Path) -> tuple[str, int]:
    """The separator and number of the columns, from the first row that is certainly not a comment."""
    doubtful = ""
    for line in map(without_line_end, lines_of(file)):
        if _is_separator(line) or _SETTING.fullmatch(line):
            continue
        if "\t" in line or not _COMMENT.fullmatch(line):
            return _split(line)
        doubtful = doubtful or line
    return _split(doubtful) if doubtful else (" ", 0)


def _split(line: str) -> tuple[str, int]:
    separator = "\t" if "\t" in line else " "
    return separator, len(_fields(line, separator))


def _fields(line: str, separator: str) -> list[str]:
    return line.split("\t") if separator == "\t" else [field for field in line.split(" ") if field]


def _is_separator(line: str) -> bool:
    return not line.strip() or line.startswith("-DOCSTART-")


def _conll_lines(file: Path, separator: str, width: int) -> Iterator[tuple[int, list[str]]]:
    """Lines with their numbers and fields, without comments. Lines between sentences have no fields."""
    for number, line in enumerate(map(without_line_end, lines_of(file)), 1):
        fields = [] if _is_separator(line) else _fields(line, separator)
        is_setting = "\t" not in line and _SETTING.fullmatch(line)
        if is_setting or (_COMMENT.fullmatch(line) and len(fields) != width):
            continue
        yield number, fields
