"""The rows of a labelled task, tagging or classification: its splits, its labels and its transfer set."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from datasets import Dataset, concatenate_datasets

from ..fingerprints import text_digest
from ..readers import folded, format_of
from .datasets import joined_words
from .files import read_part, read_unlabelled
from .labels import declared_labels, label_names, number_labels
from .part import Form, Part, Source
from .sources import find_source, find_sources
from .tags import OUTSIDE

logger = logging.getLogger(__name__)

Entries = str | Path | Sequence[str | Path]

# The part of the training rows that is held out where there is no dev split.
HELD_OUT_SHARE = 0.1


@dataclass(frozen=True)
class Task:
    """A labelled task.

    Attributes:
        kind: `tagging` (a label for each word) or `classification` (a label for a text or a pair of texts).
        labels: names of the classes in the order of their ids; empty where labels are real numbers (regression).
        splits: `train`, `dev` and, if there is one, `test`. Columns of tagging: `words`, `labels` (ids, one for each
            word), `language`; of classification: `text`, `text_pair` (pairs only), `labels` (an id, or a real number),
            `language`. A language that is not known is "".
        transfer: texts without labels to distil on. Columns `text` and, for pairs, `text_pair`; the words of tagging
            have spaces between them.
        pairs: whether rows hold two texts.
    """

    kind: str
    labels: tuple[str, ...]
    splits: dict[str, Dataset]
    transfer: Dataset
    pairs: bool


def read_task(
    kind: str,
    *,
    folders: Entries = (),
    train: Entries = (),
    dev: Entries = (),
    test: Entries = (),
    transfer: Entries = (),
    labels: str | Path | Sequence[str] | None = None,
    pairs: bool = False,
) -> Task:
    """Read the rows of a task from files, folders and datasets.

    Every entry of `folders`, `train`, `dev`, `test` and `transfer` is a path or the name of a dataset, with the
    language of its rows before it if that is known: `da=uner/da_ddt`. Files, with `.gz` if they are text, are

    - for classification `.tsv`: text, a tab, label; for pairs text, a tab, text, a tab, label. No quoting, no header
      row unless its last column is called `label`, `labels` or `score`;
    - for tagging `.tsv`: words with single spaces between them, a tab, tags likewise; or `.conll`, `.bio`, `.iob2` or
      `.txt`: a word and its tag per line, blank lines between sentences;
    - for both `.jsonl`, `.parquet` and datasets with the usual columns (`tokens` and `ner_tags`; `sentence1`,
      `sentence2` and `label`; ...).

    Tags of spans are brought into IOB2: IOB1 is converted, and in IOB2 an `I-` that continues nothing becomes `B-`. A
    language in front of tags (`fr:B-PER`) goes to the column `language`, before that of the entry. Rows of a dataset
    that have no label (-1) are left out. All of this is counted and logged.

    Args:
        kind: `tagging` or `classification`.
        folders: each with a file per split (`train`; `dev`, `valid` or `validation`; `test`) and, perhaps, `labels.tsv`
            (a label per line, in the order of their ids) and `transfer.txt` or `transfer.tsv`; or a dataset.
        train: files of the split, in place of those of the folders. Likewise `dev` and `test`. Without any dev rows, a
            tenth of the training rows is held out.
        dev: see `train`.
        test: see `train`.
        transfer: text without labels, one per line of a `.txt`, or in the first column (for pairs, the first two) of a
            `.tsv`; anything that `train` takes will do. Without it the training texts serve.
        labels: names of the labels in the order of their ids, or a file like `labels.tsv`. Default: `labels.tsv` of
            the folders, what the datasets say, or else the labels of the training rows: numbers by size, names by the
            alphabet, but the tag `O` first. Labels that are numbers, and not all whole, make a regression.
        pairs: whether each row holds two texts.

    Raises:
        FileNotFoundError: nothing there.
        ValueError: rows that are not of their format, with file and line; no training rows; labels that are unknown,
            twice in the list, or fewer than two; tags of another scheme; a dev split without any tag but `O`.
    """
    form = _form(kind, pairs)
    folders = _listed(folders)
    sources = _sources(folders, {"train": train, "dev": dev, "test": test, "transfer": transfer})
    parts = {split: _read_parts(sources[split], form) for split in ("train", "dev", "test")}
    if not parts["train"]:
        raise ValueError("There are no labelled training rows. Name files by train=, or folders that hold them.")
    names = label_names(parts, form, declared_labels(labels, folders, parts))
    splits = {
        split: concatenate_datasets([number_labels(part, form, names) for part in found])
        for split, found in parts.items()
        if found
    }
    if "dev" not in splits:
        splits = _hold_out(splits)
    if form.is_tagging:
        _check_dev(splits["dev"], names)
    _warn_of_repetitions(splits, form)
    return Task(kind, names, splits, _transfer_set(sources["transfer"], splits["train"], form), pairs)


def _form(kind: str, pairs: bool) -> Form:
    if kind not in ("tagging", "classification"):
        raise ValueError(f"A task is tagging or classification, but got kind={kind!r}.")
    if pairs and kind == "tagging":
        raise ValueError("Tagging has one text per row, but got pairs=True. Pass pairs=False.")
    return Form(kind, pairs)


def _listed(entries: Entries) -> list[str | Path]:
    return [entries] if isinstance(entries, str | Path) else list(entries)


def _sources(folders: list[str | Path], named: dict[str, Entries]) -> dict[str, list[Source]]:
    """Sources of each split: those named, or else what the folders hold."""
    in_folders = [find_sources(folder) for folder in folders]
    sources = {}
    for split, entries in named.items():
        if given := _listed(entries):
            sources[split] = [find_source(entry, split) for entry in given]
            continue
        sources[split] = [found[split] for found in in_folders if split in found]
        if sources[split] and len(sources[split]) < len(folders):
            logger.warning("%d of %d folders have no %s.", len(folders) - len(sources[split]), len(folders), split)
    return sources


def _read_parts(sources: list[Source], form: Form) -> list[Part]:
    parts = [read_part(source, form) for source in sources]
    for part in parts:
        _report(part, form)
    return [part for part in parts if len(part.rows)]


def _report(part: Part, form: Form) -> None:
    """Log what was left out of a file, or changed in it."""
    name, count = part.source.name, len(part.rows)
    if part.unlabelled:
        total = part.unlabelled + count
        logger.warning("%s: %d of %d rows have no label and were left out.", name, part.unlabelled, total)
    if isinstance(part.source.data, Path) and format_of(part.source.data) == ".tsv":
        blank = part.rows[-1]["line"] - part.rows[0]["line"] + 1 - count
        if blank:
            logger.warning("%s: %d blank lines between rows were skipped.", name, blank)
    opened = part.sum_of("opened") if form.is_tagging else 0
    if opened and not part.sum_of("iob2_only"):
        logger.warning("%s is in IOB1 and was converted to IOB2: %d tags I- became B-.", name, opened)
    elif opened:
        logger.warning("%s: %d tags I- continue nothing (not IOB2) and are read as B-.", name, opened)


def _hold_out(splits: dict[str, Dataset]) -> dict[str, Dataset]:
    """Take a dev split from the training rows, the same ones every time."""
    rows = len(splits["train"])
    if rows < 2:
        raise ValueError("There is no dev split, and a single training row can't be divided. Name files by dev=.")
    count = max(1, int(rows * HELD_OUT_SHARE))
    parted = splits["train"].train_test_split(count, seed=0)
    logger.warning("There is no dev split: %d of %d training rows are held out for it.", count, rows)
    return splits | {"train": parted["train"], "dev": parted["test"]}


def _check_dev(dev: Dataset, names: tuple[str, ...]) -> None:
    if OUTSIDE not in names:
        return
    outside = names.index(OUTSIDE)
    if all(label == outside for labels in dev["labels"] for label in labels):
        raise ValueError(
            f"All tags of the dev split ({len(dev)} rows) are {OUTSIDE}, so no model can be selected by it. Name "
            "files with tagged spans by dev=."
        )


def _warn_of_repetitions(splits: dict[str, Dataset], form: Form) -> None:
    """Log how many rows of dev and test have a text that occurs in training."""
    seen = _digests(splits["train"], form)
    for split in ("dev", "test"):
        repeated = np.isin(_digests(splits[split], form), seen).sum() if split in splits else 0
        if repeated:
            logger.warning("%d of %d rows of %s have a text of train.", repeated, len(splits[split]), split)


def _digests(dataset: Dataset, form: Form) -> np.ndarray:
    """`[rows]`, a number for the text of each row, the same for texts that differ in case or spacing only."""
    rows = (
        row
        for batch in dataset.select_columns(list(form.texts)).with_format(None).iter(batch_size=10_000)
        for row in zip(*batch.values(), strict=True)
    )
    texts = (row[0] if form.is_tagging else row for row in rows)
    separator = " " if form.is_tagging else "\t"
    return np.fromiter((text_digest(separator.join(map(folded, text))) for text in texts), np.uint64)


def _transfer_set(sources: list[Source], train: Dataset, form: Form) -> Dataset:
    if sources:
        return concatenate_datasets([read_unlabelled(source, form) for source in sources])
    logger.warning("There is no transfer set: the %d training texts serve. Name files by transfer=.", len(train))
    return joined_words(train) if form.is_tagging else train.select_columns(list(form.texts))
