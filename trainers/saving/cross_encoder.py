"""Keeps the activation of a cross-encoder, which is not in the files that transformers reads."""

import json
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from transformers.utils import cached_file

from ...data import write_json

_SETTINGS = "config_sentence_transformers.json"
# Keys of config.json, in which earlier versions of sentence-transformers keep it: 4 and 5, and those before.
_KEY, _OLD_KEY = "sentence_transformers", "sbert_ce_default_activation_function"


def keep_activation(folder: Path, teachers: Iterable[Any]) -> None:
    """Write the activation that teachers' scores have in sentence-transformers into the configuration of a student.

    `CrossEncoder(folder)` would otherwise apply a sigmoid to a single score. A student with an activation of its own
    keeps it, and teachers with different ones leave the student without.

    Args:
        folder: the student's folder.
        teachers: models, or folders or hub ids.
    """
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    own = config.get(_KEY) or {}
    is_classifier = any(name.endswith("ForSequenceClassification") for name in config.get("architectures") or ())
    if not is_classifier or "activation_fn" in own or config.get(_OLD_KEY):
        return
    found = {_activation_of(teacher) for teacher in teachers}
    if len(found) == 1 and (activation := found.pop()):
        write_json(folder / "config.json", config | {_KEY: {**own, "activation_fn": activation}})


def _activation_of(teacher: Any) -> str | None:
    """As sentence-transformers finds it: in the settings of version 6, or in the configuration of earlier versions."""
    if isinstance(teacher, str | Path):
        return _in_files(str(teacher))
    # Nobody asked to download anything for a model that is in memory.
    settings = _read(str(getattr(teacher, "name_or_path", "")), _SETTINGS, local_files_only=True)
    config = getattr(teacher, "config", None)
    return settings.get("activation_fn") or _in_config({key: getattr(config, key, None) for key in (_KEY, _OLD_KEY)})


def _in_files(name: str) -> str | None:
    settings, config = (_read(name, file, local_files_only=False) for file in (_SETTINGS, "config.json"))
    return settings.get("activation_fn") or _in_config(config)


def _in_config(config: Mapping[str, Any]) -> str | None:
    settings = config.get(_KEY)
    found = settings.get("activation_fn") if isinstance(settings, dict) else None
    return found or config.get(_OLD_KEY)


@cache  # every checkpoint asks for it
def _read(name: str, file: str, *, local_files_only: bool) -> Mapping[str, Any]:
    """The contents of a JSON file of a model; nothing if there is none."""
    if not name:
        return {}
    try:
        found = cached_file(name, file, local_files_only=local_files_only, _raise_exceptions_for_missing_entries=False)
        contents = json.loads(Path(found).read_text(encoding="utf-8")) if found else {}
    except (OSError, ValueError):  # no network, or a damaged file: the student is saved anyway
        return {}
    return contents if isinstance(contents, dict) else {}
