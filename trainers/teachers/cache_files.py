"""The files of a teacher cache: the manifest and the shards, with their checks.

A `CorruptCacheError` names a missing or changed file. A `StaleCacheError` says what the cache was made from instead.
"""

import hashlib
import json
from pathlib import Path

from datasets import Dataset

from ...data import sha256_of

MANIFEST_FILE = "cache.json"


class StaleCacheError(ValueError):
    """A teacher cache was made from another teacher, other outputs or other text."""


class CorruptCacheError(ValueError):
    """Files of a teacher cache are missing or were changed."""


def read_manifest(folder: Path) -> dict:
    """Read the manifest of a cache, which describes what it was made from.

    Raises:
        FileNotFoundError: there is no cache.
        CorruptCacheError: the manifest is invalid, or doesn't belong to the shards in the folder.
    """
    if not (folder / MANIFEST_FILE).exists():
        raise FileNotFoundError(f"{folder} holds no teacher cache (no cache.json).")
    needed = {"text", "rows", "rows_per_shard", "outputs", "dimensions"}
    way_out = f"Delete {folder} and run again"
    manifest = _read_object(folder / MANIFEST_FILE, needed, way_out)
    for note in sorted(folder.glob("shard-*.json")):
        if _read_object(note, {"cache"}, way_out)["cache"] != seal_of(manifest):
            raise CorruptCacheError(
                f"{folder / MANIFEST_FILE} and {note.name} don't belong together: one of them was changed, or was "
                f"written by an earlier version of retort. {way_out}."
            )
    return manifest


def _read_object(file: Path, needed: set[str], way_out: str) -> dict:
    """Read a JSON object that has the keys in `needed`."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:  # neither JSON nor UTF-8
        raise CorruptCacheError(f"{file} is not valid JSON ({error}). {way_out}.") from None
    if not isinstance(found, dict) or not needed <= found.keys():
        raise CorruptCacheError(f"{file} must hold {', '.join(sorted(needed))}, but does not. {way_out}.")
    return found


def check_manifest(folder: Path, wanted: dict) -> None:
    """Refuse a cache whose manifest differs from `wanted`."""
    found = read_manifest(folder)
    differing = [name for name, value in wanted.items() if found.get(name) != value]
    if differing:
        names = {
            "teacher": "the teacher's weights or settings",
            "weights": "the weights of the teachers in their average",
            "precision": "the dtype in which the teacher computes",
            "dtype": "the dtype of the stored outputs",
            "outputs": "the outputs (layers, pooler)",
            "text": "the text or its tokens",
        }
        what = ", ".join(names.get(name, name) for name in differing)
        raise StaleCacheError(
            f"The teacher cache {folder} was made from something else: {what} differ. Name another folder, "
            "or delete this one."
        )


def check_shards_without_manifest(folder: Path, seal: str) -> None:
    """If the manifest is missing, refuse shards that don't belong to the new one."""
    for note in sorted(folder.glob("shard-*.json")):
        if _read_object(note, {"cache"}, f"Delete {folder} and run again")["cache"] != seal:
            raise StaleCacheError(
                f"{folder} has lost its cache.json, and {note.name} was made from another teacher, other outputs or "
                "other text than this run's. Name another folder, or delete this one."
            )


def shard_files(folder: Path, rows: int, rows_per_shard: int) -> list[Path]:
    """The Arrow files with the outputs for `rows` rows. Each has a JSON file of the same name."""
    return [folder / f"shard-{index:05d}.arrow" for index in range(-(-rows // rows_per_shard))]


def seal_of(manifest: dict) -> str:
    """SHA-256 of the manifest, which is stored with each shard of the cache."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def open_shard(file: Path) -> Dataset:
    """The columns of one shard, memory-mapped."""
    note = file.with_suffix(".json")
    way_out = f"Delete {note} and run again with the teacher: only this part is computed again"
    found = _read_object(note, {"sha256", "rows"}, way_out)
    if not file.exists() or sha256_of(file) != found["sha256"]:
        raise CorruptCacheError(f"{file} is missing or not what was written (its checksum differs). {way_out}.")
    shard = Dataset.from_file(str(file)).with_format("numpy")
    if len(shard) != found["rows"]:
        raise CorruptCacheError(f"{note} lists {found['rows']} rows, but {file} holds {len(shard)}. {way_out}.")
    return shard
