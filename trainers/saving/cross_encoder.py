"""Keeps the activation of a cross-encoder, which is not in the files that transformers reads."""

import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from transformers.utils import cached_file

from ...data import write_json

_SETTINGS = "config_sentence_transformers.json"


def keep_activation(folder: Path, teachers: Iterable[Any]) -> None:
    """Write the activation that teachers' scores have in sentence-transformers into the configuration of a student.

    `CrossEncoder(folder)` would otherwise apply a sigmoid to a single score. A student with an activation of its own
    keeps it, and teachers with different ones leave the student without.

    Args:
        folder: the student's folder.
        teachers: models, or folders or hub ids.
    """
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    own = config.get("sentence_transformers") or {}
    is_classifier = any(name.endswith("ForSequenceClassification") for name in config.get("architectures") or ())
    if not is_classifier or "activation_fn" in own or config.get("sbert_ce_default_activation_function"):
        return
    found = {_activation_of(teacher) for teacher in teachers}
    if len(found) == 1 and (activation := found.pop()):
        write_json(folder / "config.json", config | {"sentence_transformers": {**own, "activation_fn": activation}})


def _activation_of(teacher: Any) -> str | None:
    if isinstance(teacher, str | Path):
        return _read(str(teacher), local_files_only=False)
    # Nobody asked to download anything for a model that is in memory.
    return _read(str(getattr(teacher, "name_or_path", "")), local_files_only=True)


@cache  # every checkpoint asks for it
def _read(name: str, *, local_files_only: bool) -> str | None:
    if not name:
        return None
    try:
        file = cached_file(
            name, _SETTINGS, local_files_only=local_files_only, _raise_exceptions_for_missing_entries=False
        )
        found = json.loads(Path(file).read_text(encoding="utf-8")) if file else {}
    except (OSError, ValueError):  # no network, or a damaged file: the student is saved anyway
        return None
    return found.get("activation_fn") if isinstance(found, dict) else None
