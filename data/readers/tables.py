"""Reads TSV and CSV files, and decides whether their first row is a header."""

import csv
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from transformers.utils import logging

from .columns import Choices, find_columns
from .lines import format_of, lines_of, without_line_end

logger = logging.get_logger(__name__)

TABLES = (".tsv", ".csv")
# A row's line number, from 1, and its cells.
Row = tuple[int, list[str]]

# The largest limit that works on every platform. Python's default of 131,072 characters guards against unclosed quotes,
# which are errors at the end of the file here. The limit holds for all csv readers of the process.
_LONGEST_FIELD = 2**31 - 1
_QUOTED = re.compile(r'"(?:[^"]|"")*"')
_WAY_OUT = "Write a .csv file with commas, or use quoting=csv.QUOTE_NONE, without tabs and line breaks in cells."
_QUOTES = f'It is read without quoting, but looks like the output of pandas\' to_csv(sep="\\t"). {_WAY_OUT}'
_INDEX = "The first column seems to be an index, as pandas writes it: use to_csv(index=False)."
_FEWEST_COUNTED = 3
_FEWEST_QUOTED = 3


class Layout(NamedTuple):
    """The positions of a table's columns.

    Attributes:
        at: position of each column to read, from 0.
        has_header: whether the first non-blank row is a header.
    """

    at: tuple[int, ...]
    has_header: bool


def table_rows(file: Path, columns: Sequence[str] | None = None) -> Iterator[dict[str, str]]:
    """Rows of a TSV or CSV file, as strings. Blank lines at the end are ignored.

    Args:
        file: TSV (see `cells_of`), or CSV with standard quoting.
        columns: names of the columns of a file without a header row. If None, the first row is the header.
    """
    rows = cells_of(file)
    number, names = (0, list(columns)) if columns is not None else next(rows, (0, []))
    if not names:
        raise ValueError(f"{file} holds no rows.")
    if columns is None and ("" in names or len(set(names)) < len(names)):
        cause = f" {_INDEX}" if names[0] == "" and "" not in names[1:] and len(names) > 1 else ""
        raise ValueError(
            f"{file}:{number}: a header row must give each column a different name, but holds {names}.{cause} If the "
            "file has no header row, pass the names of its columns."
        )
    row = None
    for number, cells in rows:
        if not cells and len(names) == 1 and format_of(file) != ".csv":
            cells = [""]  # an empty text; CSV writes it as two quotes
        if len(cells) != len(names):
            raise ValueError(
                f"{file}:{number}: this row has {len(cells)} columns, expected {len(names)} ({', '.join(names)})."
                f"{_quotes_in(file, cells)}"
            )
        row = dict(zip(names, cells, strict=True))
        yield row
    if row is None:
        raise ValueError(f"{file} has a header row ({', '.join(names)}), but no other rows.")


def find_layout(file: Path, choices: Choices, columns: Sequence[str] | Sequence[int] | None = None) -> Layout | None:
    """Find a table's columns and log the result.

    The first row is a header if it contains names for all wanted columns, in any order and case, with or without
    others. `columns` overrides this rule.

    Args:
        file: TSV or CSV.
        choices: see `find_columns`.
        columns: names, which the first row must contain; or numbers, from 0, for a file without a header row.

    Returns:
        The layout; None if the first row is not a header, so that columns are read in order.

    Raises:
        ValueError: the header row lacks the names in `columns`, or its first column has no name.
    """
    number, first = next(((n, cells) for n, cells in cells_of(file) if cells), (1, []))
    if not first:
        raise ValueError(f"{file} holds no rows.")
    if columns is not None and all(isinstance(column, int) for column in columns):
        if max(columns) >= len(first) or min(columns) < 0:
            raise ValueError(f"{file}:{number}: has {len(first)} columns, but columns= is {list(columns)}, from 0.")
        return Layout(tuple(columns), has_header=False)
    found = tuple(columns) if columns is not None else find_columns(first, choices)
    if columns is not None and not set(columns) <= set(first):
        raise ValueError(
            f"{file}:{number}: expected a header row with {', '.join(columns)}, but the first row is {first}. Number "
            "the columns, from 0, if there is no header row."
        )
    known = {name for choice in choices for names in choice for name in names}
    if columns is None and not first[0].strip() and known & {name.strip().casefold() for name in first}:
        raise ValueError(f"{file}:{number}: the first column has no name. {_INDEX}")
    if found is None:
        logger.info("%s: no header row; columns are read in order.", file)
        return None
    logger.info("%s: the first row is a header; reading the columns %s.", file, ", ".join(found))
    return Layout(tuple(first.index(name) for name in found), has_header=True)


def role_rows(
    file: Path, roles: Sequence[str], layout: Sequence | None, *, more: bool = False, hint: str = ""
) -> Iterator[dict[str, Any]]:
    """Read some columns of a table under new names. Blank lines are skipped.

    Args:
        file: TSV or CSV.
        roles: the new names of the columns.
        layout: the result of `find_layout`. If None, the columns are read in the order of `roles`.
        more: whether more columns may follow if there is no layout. They are ignored.
        hint: advice for the message about a row with another number of columns.

    Yields:
        A value for each role, and `line`, the line number of the row's start, from 1.
    """
    at, has_header = layout or (range(len(roles)), False)
    rows = ((number, cells) for number, cells in cells_of(file) if cells)
    width = len(roles)
    if layout:
        number, first = next(rows)
        width = len(first)
        rows = rows if has_header else chain([(number, first)], rows)
    count, line, starts = 0, 0, set()
    for count, (line, cells) in enumerate(rows, 1):
        if len(cells) < width or (len(cells) > width and not more):
            cause = _quotes_in(file, cells) or (f" {_INDEX}" if _counts(cells[0], count) and count > 1 else hint)
            raise ValueError(
                f"{file}:{line}: this row has {len(cells)} columns, expected {width} ({', '.join(roles)}), with a "
                f"{'tab' if format_of(file) != '.csv' else 'comma'} between them.{cause}"
            )
        row = {role: cells[place] for role, place in zip(roles, at, strict=True)}
        starts = _possible_starts(starts, count, row[roles[0]])
        yield row | {"line": line}
    if not count:
        raise ValueError(f"{file} holds no rows.")
    if starts and count >= _FEWEST_COUNTED and len(roles) > 1:
        raise ValueError(f"{file}:{line}: the column read as {roles[0]} holds row numbers. {_INDEX}")


def cells_of(file: Path) -> Iterator[Row]:
    """All rows of a TSV or CSV file with the line numbers of their starts. A blank line has no cells.

    Blank lines at the end are left out. Quotes in a TSV file are ordinary characters, unless it was certainly written
    with quoting, as pandas' `to_csv(sep="\\t")` does it: every cell with quotes is quoted, and had to be, since quotes
    in it are doubled; or all cells are quoted, and quotes in some are doubled. A warning says so.

    Raises:
        ValueError: a CSV file has unbalanced quotes, or a TSV file may have been written with quoting or without; and
            all errors of `lines_of`.
    """
    blank: list[Row] = []
    for row in _csv_cells(file) if format_of(file) == ".csv" else _tsv_cells(file):
        if not row[1]:
            blank.append(row)
            continue
        yield from blank
        blank.clear()
        yield row


def _tsv_cells(file: Path) -> Iterator[Row]:
    quoted = _is_quoted(file)
    if quoted:
        logger.warning_once("%s: cells with quotes are quoted, and are read without these quotes.", file)
    for number, line in enumerate(lines_of(file), 1):
        text = without_line_end(line)
        cells = text.split("\t")
        if len(cells) == 1 and not text.strip():
            yield number, []
        else:
            yield number, list(map(_unquoted, cells)) if quoted else cells


def _is_quoted(file: Path) -> bool:
    """Whether a TSV file was certainly written with quoting, which takes a pass over the file."""
    rows = all_quoted = first_doubled = 0
    all_doubled, quoted_in_column = True, Counter()
    for number, line in enumerate(lines_of(file), 1):
        text = without_line_end(line)
        cells = text.split("\t")
        rows += len(cells) > 1 or bool(text.strip())
        if '"' not in text:
            continue
        quoted = [cell for cell in cells if '"' in cell]
        if not all(map(_QUOTED.fullmatch, quoted)):
            return False
        all_quoted += len(quoted) == len(cells) > 1
        quoted_in_column.update(column for column, cell in enumerate(cells) if '"' in cell)
        doubled = ['""' in cell[1:-1] for cell in quoted]
        first_doubled = first_doubled or number * any(doubled)
        all_doubled = all_doubled and all(doubled)
    everywhere = rows == all_quoted > 0
    if first_doubled and (all_doubled or everywhere):
        return True
    # pandas' QUOTE_NONNUMERIC quotes every cell of a column of text.
    whole_column = rows >= _FEWEST_QUOTED and rows in quoted_in_column.values()
    if first_doubled or everywhere or whole_column:  # a quoted cell may be a quoted text
        raise ValueError(
            f"{file}:{first_doubled or 1}: cells that contain quotes are quoted, but some need no quotes, so it is "
            f"unclear whether these quotes belong to the text. {_WAY_OUT}"
        )
    return False


def _unquoted(cell: str) -> str:
    return cell[1:-1].replace('""', '"') if cell.startswith('"') else cell


def _csv_cells(file: Path) -> Iterator[Row]:
    csv.field_size_limit(_LONGEST_FIELD)
    reader = csv.reader(lines_of(file), strict=True)
    start = 1
    try:
        for cells in reader:
            yield start, cells
            start = reader.line_num + 1
    except csv.Error as error:
        raise ValueError(
            f"{file}:{start}: the row that begins here is not CSV ({error}). A quote that opens a field must be "
            'closed, and quotes inside a field must be doubled ("").'
        ) from None


def _quotes_in(file: Path, cells: list[str]) -> str:
    """Advice about quotes, if they are the likely cause of a row with another number of columns."""
    opened = format_of(file) != ".csv" and any(cell.startswith('"') or cell.endswith('"') for cell in cells)
    return f" {_QUOTES}" if opened else ""


def _counts(cell: str, count: int) -> bool:
    return cell in (str(count), str(count - 1))


def _possible_starts(starts: set[int], count: int, cell: str) -> set[int]:
    """The possible first numbers, 0 or 1, if a column holds row numbers so far; empty if it doesn't."""
    return {start for start in (starts if count > 1 else (0, 1)) if cell == str(start + count - 1)}
