"""Reads parallel text: sentences and their translations."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from datasets import Dataset, concatenate_datasets

from .columns import PAIRS, find_columns
from .datasets import (
    convert,
    distinct,
    folded,
    listed,
    read_dataset,
    renamed_texts,
    require_texts,
    select,
    sift,
    text_columns,
)
from .lines import format_of
from .tables import TABLES, cells_of, find_layout, role_rows

logger = logging.getLogger(__name__)

SIDES = ("source", "target")


def read_parallel(
    sources: str | Path | Sequence[str | Path],
    *,
    exclude: Iterable[str] = (),
    max_characters: int = 250,
    max_rows: int | None = None,
    alpha: float = 1.0,
) -> Dataset:
    """Read sentences and their translations, without repeated pairs in a source.

    Args:
        sources: one or several, each of which is

            - a TSV or CSV file (plain or `.gz`) with a sentence and its translation in each row. The first row is a
              header if it contains `source` and `target`, or two usual names for pairs of texts. Then there may be
              other columns, and what is read is logged;
            - a dataset with such columns, or with only two columns of text;
            - a file or dataset with the names of its two columns, `opus.parquet:en,de`, or their numbers, from 0, in a
              TSV or CSV file without a header: `talks.tsv:0,2`;
            - two files with aligned rows, joined by a plus, each with columns as in `read_texts`:
              `en.tsv:sentence1,sentence2+de.tsv:sentence1,sentence2`.
        exclude: texts to leave out on either side, such as those of a test set. They are compared ignoring case and
            spacing.
        max_characters: pairs with a longer side are left out.
        max_rows: maximal number of rows of each source; the first ones are kept.
        alpha: exponent of source sizes: a source is sampled in proportion to its size to this power. 1 keeps the sizes,
            0 makes them equal by repeating rows of smaller sources (Conneau et al. 2020, XLM-R, arXiv:1911.02116,
            section 3.1).

    Returns:
        Columns `source` and `target`, source by source. The numbers of rows that were left out are logged.

    Raises:
        ValueError: a row has no translation, two files have different lengths, or no pair of a source is left; and all
            errors of `read_dataset`.
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha={alpha}, but must be from 0 (equal sizes of all sources) to 1 (their own sizes).")
    excluded = {folded(text) for text in exclude}
    parts = []
    for source in listed(sources):
        pairs = _read_pairs(source)
        kept, left_out = sift(pairs, excluded, max_characters=max_characters)
        if left_out:
            logger.warning("Of %d pairs in %s, left out: %s.", len(pairs), source, left_out)
        if not len(kept):
            raise ValueError(f"No pair is left of {source}; left out: {left_out}.")
        parts.append(kept if max_rows is None else _resized(kept, min(max_rows, len(kept))))
    longest = max(map(len, parts))
    return concatenate_datasets([_resized(part, round(longest ** (1 - alpha) * len(part) ** alpha)) for part in parts])


def both_sides(pairs: Dataset) -> Dataset:
    """The distinct texts of both sides of `read_parallel`'s pairs, in a column `text`."""
    columns = [pairs.select_columns(side).rename_column(side, "text") for side in SIDES]
    return distinct(columns, named="the translations")


def read_pairs(source: str) -> Dataset:
    """All rows of one source of `read_parallel`, for an evaluation: columns `source` and `target`.

    Raises:
        ValueError: a text is missing (null); and see `read_parallel`.
    """
    pairs = _read_pairs(source)
    require_texts(pairs, SIDES, source)
    return pairs


def _read_pairs(source: str) -> Dataset:
    path = Path(source).expanduser()
    if path.is_file() and format_of(path) in (*TABLES, ".txt"):
        layout = find_layout(path, [((*SIDES,), *PAIRS)])
        if layout is None:
            return convert(path, parallel_rows)
        return convert(path, role_rows, roles=list(SIDES), layout=layout).select_columns(list(SIDES))
    first, plus, second = source.partition("+")
    file, _, columns = source.rpartition(":")
    if plus and not path.exists():
        sides = [concatenate_datasets(text_columns(side)) for side in (first, second)]
    elif "," in columns or (file and Path(file).expanduser().is_file()):
        sides = text_columns(source)
    else:
        return _read_columns(source)
    if len(sides) != 2:
        example = "0,1" if columns.replace(",", "").isdecimal() else "en,de"
        raise ValueError(
            f"{source}: name the two columns that translate each other: {source.partition(':')[0]}:{example}"
        )
    if len(sides[0]) != len(sides[1]):
        raise ValueError(
            f"Rows of {first} and {second} must be translations of each other, but they have {len(sides[0])} and "
            f"{len(sides[1])} rows."
        )
    columns = [side.rename_column("text", name) for side, name in zip(sides, SIDES, strict=True)]
    return concatenate_datasets(columns, axis=1)


def _read_columns(source: str) -> Dataset:
    dataset = read_dataset(source)
    texts = [name for name, feature in dataset.features.items() if getattr(feature, "dtype", "").endswith("string")]
    found = find_columns(dataset.column_names, [((*SIDES,), *PAIRS)]) or (tuple(texts) if len(texts) == 2 else None)
    if found is None:
        raise ValueError(
            f"{source} has the columns {', '.join(dataset.column_names)}: expected a sentence and its translation, as "
            f"source and target. Name two columns of text: {source}:COLUMN+{source}:COLUMN."
        )
    return renamed_texts(dataset, dict(zip(found, SIDES, strict=True)), source)


def parallel_rows(file: Path) -> Iterator[dict[str, str]]:
    """Yield the pairs of a file without a header, as `source` and `target`. Blank lines are skipped; cells may be
    empty."""
    row = None
    for number, cells in ((number, cells) for number, cells in cells_of(file) if cells):
        if len(cells) < 2:
            raise ValueError(
                f"{file}:{number}: this row has no translation: expected a sentence, a tab and its translation, but "
                f"found {cells[0][:60]!r}."
            )
        if len(cells) > 2:
            is_text = format_of(file) == ".txt"
            way_out, name = ("Rename it to .tsv, and name", file.with_suffix(".tsv")) if is_text else ("Name", file)
            raise ValueError(
                f"{file}:{number}: this row has {len(cells)} columns, expected a sentence, a tab and its translation. "
                f"{way_out} the two columns: {name}:0,1."
            )
        row = dict(zip(SIDES, cells, strict=True))
        yield row
    if row is None:
        raise ValueError(f"{file} holds no rows.")


def _resized(pairs: Dataset, rows: int) -> Dataset:
    """The first `rows` rows, repeated from the start if there are fewer."""
    return pairs if rows == len(pairs) else select(pairs, np.arange(rows) % len(pairs))
