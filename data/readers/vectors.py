"""Reads texts with their vectors, computed by any model or service, and joins vectors to training texts."""

import logging
from pathlib import Path

import numpy as np
import pyarrow as pa
from datasets import Dataset, Value
from safetensors import safe_open

from ..fingerprints import fingerprint, sha256_of, text_digest
from ..vectors import VECTORS, beside, check_vectors, vector_columns, vectors_of
from .datasets import read_dataset, text_columns
from .lines import format_of

logger = logging.getLogger(__name__)

ARRAYS = (".npy", ".safetensors")
# If vectors of the same text have a lower cosine, they are from different models or not in the order of the texts.
_SAME = 0.99
_MOST_COMPARED = 1_000


def read_vectors(source: str) -> Dataset:
    """Read texts and their vectors, and check the vectors (see `check_vectors`).

    Args:
        source: one of

            - a table that `read_dataset` reads (Parquet, Arrow, a folder, a Hub dataset) with a column of texts and a
              column of vectors: lists of floats, all of the same width. By default these are `text` and the only column
              of vectors. Other columns are named after a colon: `vectors.parquet:question,embedding`;
            - an array and a file of its texts, joined by a plus: `vectors.npy+corpus.txt`. The vectors are in the order
              of the texts (`[rows, width]`). A `.safetensors` file may also have a tensor `ids` of integers, `[rows]`:
              the row of each vector's text, from 0.

    Returns:
        Columns `text` and `teacher_embedding`. Files are memory-mapped, not loaded.

    Raises:
        ValueError: no column of vectors, or several and none is named; the numbers of vectors and texts differ; `ids`
            are not a permutation of the rows; and all errors of `check_vectors`. The message names the file.
        FileNotFoundError: the source doesn't exist.
    """
    file, plus, texts = source.partition("+")
    is_array = format_of(Path(file)) in ARRAYS
    if is_array != bool(plus):
        raise ValueError(
            f"{source}: arrays (.npy, .safetensors) need the file of their texts, and tables have them: "
            "vectors.npy+corpus.txt, or vectors.parquet."
        )
    found, vectors = _of_array(Path(file).expanduser(), texts) if is_array else _of_table(source)
    (column,) = vectors.column_names
    try:
        check_vectors(vectors, column)  # under the name that it has in the file
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None
    rows = beside(found, vectors.rename_columns({column: VECTORS}))
    logger.info("%s: %d vectors.", source, len(rows))
    return rows


def with_vectors(texts: Dataset, vectors: Dataset, *, column: str = "text", source: str = "the vectors") -> Dataset:
    """Add its vector to each text. Texts must be exactly equal to those of the vectors.

    Args:
        texts: a dataset with a column of texts.
        vectors: result of `read_vectors`. If a text occurs twice, its first vector is used.
        column: name of the column of texts.
        source: name of `vectors` in error messages.

    Raises:
        ValueError: a text has no vector; or two vectors of the same text have different directions, which suggests that
            vectors and texts are not in the same order.
    """
    known = _digests(vectors, "text")
    order = np.argsort(known, kind="stable")
    known = known[order]
    _check_repeated(vectors, known, order, source)
    wanted = _digests(texts, column)
    places = np.searchsorted(known, wanted).clip(max=len(known) - 1)
    if (missing := known[places] != wanted).any():
        row = int(missing.argmax())
        text = texts[row][column] or ""
        raise ValueError(
            f"{missing.sum():,} of {len(texts):,} texts have no vector in {source}; the first is row {row}, "
            f"{text[:60]!r}. Vectors are found by the exact text. Write those of all texts (`retort "
            "cache` does), or leave these texts out."
        )
    return beside(texts, vectors_of(vectors, VECTORS, order[places]))


def _digests(rows: Dataset, column: str) -> np.ndarray:
    batches = rows.select_columns(column).with_format(None).iter(batch_size=10_000)
    digests = (text_digest(text or "") for batch in batches for text in batch[column])
    return np.fromiter(digests, dtype=np.uint64, count=len(rows))


def _check_repeated(vectors: Dataset, known: np.ndarray, order: np.ndarray, source: str) -> None:
    """Compare vectors of equal texts. If they differ, vectors and texts are not in the same order."""
    twice = np.flatnonzero(known[1:] == known[:-1])[:_MOST_COMPARED]
    if not len(twice):
        return
    rows = vectors.select_columns(VECTORS).with_format("numpy")
    one, other = (np.stack(list(rows[order[at].tolist()][VECTORS])) for at in (twice, twice + 1))
    cosines = (one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)
    if cosines.min() < _SAME:
        worst = twice[cosines.argmin()]
        raise ValueError(
            f"{source}: rows {order[worst]} and {order[worst + 1]} hold the same text, but vectors whose cosine is "
            f"{cosines.min():.2f}. The vectors are not in the order of the texts, or are from several models."
        )


def _of_table(source: str) -> tuple[Dataset, Dataset]:
    """The texts of a table, and its column of vectors."""
    name, colon, columns = source.rpartition(":")
    if not colon or Path(source).expanduser().exists():
        name, columns = source, ""
    rows = _table(Path(name).expanduser())
    found = vector_columns(rows)
    text, _, vector = columns.partition(",")
    text, vector = text or "text", vector or (found[0] if len(found) == 1 else "")
    if {text, vector} - set(rows.column_names):
        texts = [each for each in rows.column_names if each not in found]
        example = f"{name}:{(*texts, 'text')[0]},{(*found, 'embedding')[0]}"
        raise ValueError(
            f"{name} has the columns {', '.join(rows.column_names)}, of which {', '.join(found) or 'none'} may be "
            f"vectors (lists of floats). Name the columns of texts and of vectors: {example}."
        )
    if getattr(rows.features[text], "dtype", None) not in ("string", "large_string"):
        raise ValueError(f"{name}: the column {text!r} holds {rows.features[text]}, not text.")
    texts = rows.select_columns(text).rename_columns({text: "text"}).cast_column("text", Value("string"))
    return texts, rows.select_columns(vector)


def _table(path: Path) -> Dataset:
    """Read a table by `read_dataset`, but a folder of Parquet files by its files. For a deleted folder, datasets would
    return the rows in its cache."""
    parts = sorted(path.glob("*.parquet")) if path.is_dir() else []
    if parts:
        return Dataset.from_parquet(list(map(str, parts)))
    return read_dataset(path)


def _of_array(file: Path, texts: str) -> tuple[Dataset, Dataset]:
    """The texts, and the vectors of an array in a column that is named after its file."""
    columns = text_columns(texts)
    if len(columns) > 1:
        raise ValueError(f"{texts}: expected one column of texts for the vectors in {file}, but got {len(columns)}.")
    if not file.is_file():
        raise FileNotFoundError(f"There is no file {file} (in {Path.cwd()}).")
    matrix, ids = _read_npy(file) if format_of(file) == ".npy" else _read_safetensors(file)
    if matrix.ndim != 2 or not matrix.shape[1] or matrix.dtype.kind != "f" or matrix.dtype.itemsize > 8:
        raise ValueError(
            f"{file} must hold floats of 16, 32 or 64 bits, [rows, width], but holds {matrix.dtype}, "
            f"{list(matrix.shape)}."
        )
    if len(matrix) != len(columns[0]):
        raise ValueError(
            f"{file} holds {len(matrix):,} vectors, but {texts} {len(columns[0]):,} texts. Each text needs one vector."
        )
    if ids is not None:
        if not np.array_equal(np.sort(ids), np.arange(len(matrix))):
            raise ValueError(f"{file}: ids must be the numbers 0 to {len(matrix) - 1}, each once: the texts' rows.")
        matrix = matrix[np.argsort(ids)]
    matrix = matrix.astype(matrix.dtype.newbyteorder("="), copy=False)  # Arrow has no other byte order
    flat = pa.array(np.ascontiguousarray(matrix).reshape(-1))  # not copied
    table = pa.table({file.name: pa.FixedSizeListArray.from_arrays(flat, matrix.shape[1])})
    return columns[0], Dataset(table, fingerprint=fingerprint(sha256_of(file), "vectors"))


def _read_npy(file: Path) -> tuple[np.ndarray, None]:
    try:
        return np.load(file, mmap_mode="r", allow_pickle=False), None
    except ValueError as error:
        raise ValueError(f"{file} is not an array of numbers from numpy.save ({error}).") from None


def _read_safetensors(file: Path) -> tuple[np.ndarray, np.ndarray | None]:
    with safe_open(file, framework="pt") as opened:
        names = list(opened.keys())
        found = [name for name in names if name != "ids"]
        if len(found) != 1:
            raise ValueError(f"{file} must hold one tensor of vectors, and perhaps ids, but holds {', '.join(names)}.")
        matrix = opened.get_tensor(found[0])
        ids = opened.get_tensor("ids").numpy() if "ids" in names else None
    return (matrix.float() if matrix.dtype.itemsize == 2 else matrix).numpy(), ids
