"""What a finished folder holds: each file's size and SHA-256, so that a missing, cut or flipped file is an error."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ...data import sha256_of, write_json


class DamagedFilesError(ValueError):
    """A checkpoint, or the result of a stage, whose files are not what was written."""


def describe_files(files: Iterable[Path], folder: Path) -> dict[str, dict[str, Any]]:
    """Each file's size in bytes and SHA-256, by its path inside a folder."""
    return {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
        for path in sorted(files)
    }


def write_sealed(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON together with a SHA-256 of its content, whole or not at all."""
    write_json(path, {**content, "sha256": _seal(content)})


def read_sealed(path: Path) -> dict[str, Any]:
    """Read what `write_sealed` wrote.

    Raises:
        DamagedFilesError: it is missing, or not what was written. The message begins with the file's name.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DamagedFilesError(f"{path.name} is missing") from None
    except ValueError:  # neither JSON nor UTF-8
        raise DamagedFilesError(f"{path.name} is not valid JSON") from None
    seal = found.pop("sha256", None) if isinstance(found, dict) else None
    if seal is None or seal != _seal(found):
        raise DamagedFilesError(f"{path.name} is not what was written (its SHA-256 differs)")
    return found


def check_files(folder: Path, files: Mapping[str, Mapping[str, Any]]) -> None:
    """Compare a folder with what `describe_files` found in it. Further files don't matter.

    Raises:
        DamagedFilesError: a file is missing, shorter or longer, or has other bytes. The message begins with its name.
    """
    for name, expected in files.items():
        path = folder / name
        if not path.is_file():
            raise DamagedFilesError(f"{name} is missing")
        if (size := path.stat().st_size) != expected["bytes"]:
            raise DamagedFilesError(f"{name} has {size:,} bytes instead of {expected['bytes']:,}")
        if sha256_of(path) != expected["sha256"]:
            raise DamagedFilesError(f"{name} is not what was written (its SHA-256 differs)")


def _seal(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
