"""Manifests with the size and SHA-256 of each file of a folder, by which damaged files are found."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ...data import sha256_of, write_json


class DamagedFilesError(ValueError):
    """Files of a checkpoint or of a stage's result are missing or were changed."""


def describe_files(files: Iterable[Path], folder: Path) -> dict[str, dict[str, Any]]:
    """Path in the folder -> size in bytes and SHA-256 of the file."""
    return {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
        for path in sorted(files)
    }


def write_sealed(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON with a SHA-256 of its content, atomically."""
    write_json(path, {**content, "sha256": _seal(content)})


def read_sealed(path: Path) -> dict[str, Any]:
    """Read what `write_sealed` wrote.

    Raises:
        DamagedFilesError: the file is missing or was changed. The message begins with its name.
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
    """Compare a folder with the result of `describe_files`. Additional files are ignored.

    Raises:
        DamagedFilesError: a file is missing, or its size or content differs. The message begins with its name.
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
