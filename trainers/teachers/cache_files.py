"""The files of a teacher cache: the manifest, and the shards that belong to it and are still what was written."""

import hashlib
import json
from pathlib import Path

from datasets import Dataset

from ...data import sha256_of

MANIFEST_FILE = "cache.json"


class StaleCacheError(ValueError):
    """A teacher cache that was made from something else than what it is asked for."""


class CorruptCacheError(ValueError):
    """A teacher cache whose files are not what was written."""


def read_manifest(folder: Path) -> dict:
    """What a cache was made from.

    Raises:
        FileNotFoundError: no cache there.
        CorruptCacheError: the manifest isn't one, or isn't that of the shards beside it.
    """
    if not (folder / MANIFEST_FILE).exists():
        raise FileNotFoundError(f"{folder} holds no teacher cache (no cache.json).")
    needed = {"text", "rows", "rows_per_shard", "outputs", "dimensions"}
    way_out = f"Delete {folder} and run again"
    manifest = _read_object(folder / MANIFEST_FILE, needed, way_out)
    for note in sorted(folder.glob("shard-*.json")):
        if _read_object(note, {"cache"}, way_out)["cache"] != seal_of(manifest):
            raise CorruptCacheError(
                f"{folder / MANIFEST_FILE} and {note.name} don't belong together: one of them is not what was written, "
                f"or of an earlier version of retort. {way_out}."
            )
    return manifest


def _read_object(file: Path, needed: set[str], way_out: str) -> dict:
    """A JSON object as it was written.

    Raises:
        CorruptCacheError: it is not JSON, or lacks one of the keys needed.
    """
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:  # neither JSON nor UTF-8
        raise CorruptCacheError(f"{file} is not valid JSON ({error}). {way_out}.") from None
    if not isinstance(found, dict) or not needed <= found.keys():
        raise CorruptCacheError(f"{file} must hold {', '.join(sorted(needed))}, but does not. {way_out}.")
    return found


def check_manifest(folder: Path, wanted: dict) -> None:
    """Refuse a cache of something else than what is wanted.

    Raises:
        StaleCacheError: see `cache_teacher`.
    """
    found = read_manifest(folder)
    differing = [name for name, value in wanted.items() if found.get(name) != value]
    if differing:
        names = {
            "teacher": "the teacher's weights or settings",
            "weights": "the weights of the teachers in their average",
            "precision": "the number format in which the teacher computes",
            "dtype": "the number format of what is stored",
            "outputs": "the outputs (layers, pooler)",
            "text": "the text or its tokens",
        }
        what = ", ".join(names.get(name, name) for name in differing)
        raise StaleCacheError(
            f"The teacher cache {folder} was made from something else: {what} differ. Name another folder with "
            "--teacher_cache, or delete this one."
        )


def check_shards_without_manifest(folder: Path, seal: str) -> None:
    """Refuse shards whose manifest is gone, unless it would be the same again.

    Raises:
        StaleCacheError: they were made from something else, and would be taken for what is asked for.
    """
    for note in sorted(folder.glob("shard-*.json")):
        if _read_object(note, {"cache"}, f"Delete {folder} and run again")["cache"] != seal:
            raise StaleCacheError(
                f"{folder} has lost its cache.json, and {note.name} was made from another teacher, other outputs or "
                "other text than this run's. Name another folder with --teacher_cache, or delete this one."
            )


def shard_files(folder: Path, rows: int, rows_per_shard: int) -> list[Path]:
    """The Arrow files that the outputs for so many rows lie in; each has a note of the same name beside it."""
    return [folder / f"shard-{index:05d}.arrow" for index in range(-(-rows // rows_per_shard))]


def seal_of(manifest: dict) -> str:
    """SHA-256 of what a cache was made from, by which a shard tells that it is one of this cache's."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def open_shard(file: Path) -> Dataset:
    """The columns of one shard, memory-mapped.

    Raises:
        CorruptCacheError: a file is missing, or not what was written.
    """
    note = file.with_suffix(".json")
    way_out = f"Delete {note} and run again with the teacher: only this part is computed anew"
    found = _read_object(note, {"sha256", "rows"}, way_out)
    if not file.exists() or sha256_of(file) != found["sha256"]:
        raise CorruptCacheError(f"{file} is missing or not what was written (its checksum differs). {way_out}.")
    shard = Dataset.from_file(str(file)).with_format("numpy")
    if len(shard) != found["rows"]:
        raise CorruptCacheError(f"{note} tells of {found['rows']} rows, but {file} holds {len(shard)}. {way_out}.")
    return shard
