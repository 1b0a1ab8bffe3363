"""Reads a labelled task (tagging or classification): its splits, labels and transfer set."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from datasets import Dataset, concatenate_datasets
from transformers import PreTrainedConfig

from ..fingerprints import text_digest
from ..readers import folded
from .labels import label_names, number_labels
from .rows import Columns, RowSchema, joined_words, read_labelled, read_unlabelled
from .sources import find_sources
from .tags import OUTSIDE

logger = logging.getLogger(__name__)

Entries = str | Path | Sequence[str | Path]

# Share of the training rows that is held out if there is no dev split.
HELD_OUT_SHARE = 0.1


@dataclass(frozen=True)
class Task:
    """A labelled task.

    Attributes:
        kind: `tagging` (a label for each word) or `classification` (a label for a text or a pair of texts).
        labels: names of the classes in the order of their ids; empty if labels are real numbers (regression).
        splits: `train`, `dev` and, if there is one, `test`. Columns for tagging: `words`, `labels` (ids, one for each
            word), `language`; for classification: `text`, `text_pair` (pairs only), `labels` (an id or a real number),
            `language`. An unknown language is "".
        transfer: unlabelled texts for distillation. Columns `text` and, for pairs, `text_pair`. For tagging, the words
            are joined by spaces.
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
    labels: str | Path | Sequence[str] | PreTrainedConfig | None = None,
    pairs: bool = False,
    columns: Columns | None = None,
) -> Task:
    """Read the rows of a task from files, folders and datasets.

    Every entry of `folders`, `train`, `dev`, `test` and `transfer` is a path or the name of a dataset, optionally with
    the language of its rows: `da=uner/da_ddt`. Text files may be compressed (`.gz`). The formats are

    - for classification `.tsv` (quotes: see `read_dataset`) or `.csv`: text, label; for pairs text, text, label;
    - for tagging `.tsv` or `.csv`: words and tags, each separated by single spaces; or `.conll`, `.bio`, `.iob2` or
      `.txt`: a word and its tag per line, blank lines between sentences;
    - for both `.jsonl`, `.json`, `.parquet` and datasets with the usual columns (`tokens` and `ner_tags`; `sentence1`,
      `sentence2` and `label`; ...).

    The first row of a `.tsv` or `.csv` is a header if it contains such names for all columns (`text` and `label`), in
    any order, with or without others. Columns are then found by name, which is logged. Otherwise it is an ordinary row.

    Tags of spans are converted to IOB2 from IOB1, IOBES and BILOU, and an `I-` that continues no span becomes `B-`. A
    language in front of tags (`fr:B-PER`) is moved to the column `language` and overrides that of the entry. Rows of a
    dataset without a label (-1) are left out. All these changes are logged with their numbers.

    Args:
        kind: `tagging` or `classification`.
        folders: folders with a file per split (`train`; `dev`, `valid` or `validation`; `test`) and optionally
            `labels.tsv` (a label per line, in the order of their ids) and `transfer.txt` or `transfer.tsv`; or
            datasets.
        train: files of the split, instead of those in the folders. If there are no dev rows, a tenth of the training
            rows is held out.
        dev: see `train`.
        test: see `train`.
        transfer: files of unlabelled text: one text per line of a `.txt`, or the first column (for pairs, the first
            two) of a `.tsv`. All sources of `train` are accepted, too. Default: the training texts.
        labels: names of the labels in the order of their ids, a file like `labels.tsv`, or the configuration of a model
            that was fine-tuned for the task, whose classes are used. If its classes have no names (`LABEL_0`), their
            number must be that of the task's labels, which are ordered as by default. Default: `labels.tsv` of the
            folders; otherwise the names in the datasets; otherwise the labels of the training rows, numbers in
            numerical order and names in alphabetical order, except for the tag `O`, which comes first. If all labels
            are numbers and some are not integers, the task is a regression.
        pairs: whether each row has two texts.
        columns: the columns of the text (or both texts, or the words) and of the label, in this order: names in
            datasets and header rows, or numbers, from 0, in `.tsv` and `.csv` files without a header row. Default: as
            above.

    Raises:
        FileNotFoundError: a source doesn't exist.
        ValueError: a row is malformed (with file and line); there are no training rows; labels are unknown, listed
            twice, fewer than two, or differ from the model's; tags are of an unknown scheme; or all tags of the dev
            split are `O`.
    """
    if kind not in ("tagging", "classification"):
        raise ValueError(f"A task is tagging or classification, but got kind={kind!r}.")
    if pairs and kind == "tagging":
        raise ValueError("Tagging has one text per row, but pairs is true. Leave it out.")
    schema = RowSchema(kind, pairs)
    if columns is not None and len(columns) != len(schema.texts) + 1:
        expected = ", ".join((*schema.texts, "labels"))
        raise ValueError(f"columns= must say where {expected} are, but got {len(columns)}: {list(columns)}.")
    folders = _listed(folders)
    named = {"train": train, "dev": dev, "test": test, "transfer": transfer}
    sources = find_sources(folders, {split: _listed(entries) for split, entries in named.items()})
    found = {
        split: [read for source in sources[split] if len((read := read_labelled(source, schema, columns)).rows)]
        for split in ("train", "dev", "test")
    }
    if not found["train"]:
        raise ValueError("There are no labelled training rows. Pass files as train=, or folders with such files.")
    names = label_names(found, schema, labels, folders)
    splits = {
        split: concatenate_datasets([number_labels(part, schema, names) for part in parts])
        for split, parts in found.items()
        if parts
    }
    if "dev" not in splits:
        splits = _hold_out(splits)
    if OUTSIDE in names and schema.is_tagging:
        outside = names.index(OUTSIDE)
        if all(label == outside for labels in splits["dev"]["labels"] for label in labels):
            raise ValueError(
                f"All tags of the dev split ({len(splits['dev'])} rows) are {OUTSIDE}, so it can't be used to select a "
                "model. Pass files with tagged spans as dev=."
            )
    _warn_of_repetitions(splits, schema)
    if sources["transfer"]:
        texts = concatenate_datasets([read_unlabelled(source, schema, columns) for source in sources["transfer"]])
    else:
        rows = splits["train"]
        logger.warning("There is no transfer set, so the %d training texts are used. Set it by transfer=.", len(rows))
        texts = joined_words(rows) if schema.is_tagging else rows.select_columns(list(schema.texts))
    return Task(kind, names, splits, texts, pairs)


def _listed(entries: Entries) -> list[str | Path]:
    return [entries] if isinstance(entries, str | Path) else list(entries)


def _hold_out(splits: dict[str, Dataset]) -> dict[str, Dataset]:
    """Take a dev split from the training rows, always the same rows."""
    rows = len(splits["train"])
    if rows < 2:
        raise ValueError("There is no dev split, and a single training row can't be split. Pass files as dev=.")
    count = max(1, int(rows * HELD_OUT_SHARE))
    parted = splits["train"].train_test_split(count, seed=0)
    logger.warning("There is no dev split: %d of %d training rows are held out for it.", count, rows)
    return splits | {"train": parted["train"], "dev": parted["test"]}


def _warn_of_repetitions(splits: dict[str, Dataset], schema: RowSchema) -> None:
    """Log how many rows of dev and test have a text that occurs in training, ignoring case and spacing."""

    def digests(split: str) -> Iterator[int]:
        separator = " " if schema.is_tagging else "\t"
        for batch in splits[split].select_columns(list(schema.texts)).with_format(None).iter(batch_size=10_000):
            for texts in batch["words"] if schema.is_tagging else zip(*batch.values(), strict=True):
                yield text_digest(separator.join(map(folded, texts)))

    seen = np.fromiter(digests("train"), np.uint64)
    for split in ("dev", "test"):
        repeated = np.isin(np.fromiter(digests(split), np.uint64), seen).sum() if split in splits else 0
        if repeated:
            logger.warning("%d of %d rows of %s have a text that occurs in train.", repeated, len(splits[split]), split)
