"""Tells a user's own files from those of retort, so that none of the user's is replaced unasked."""

import json
import logging
import os
import re
from pathlib import Path

import yaml
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from .checkpoints import MANIFEST_FILE

logger = logging.getLogger(__name__)

CARD_FILE = "README.md"
# Files of a model...
_OF_MODEL = (
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "modules.json",
    "config_sentence_transformers.json",
    "sentence_bert_config.json",
)
# ... and of a run, beside them.
_OF_RUN = (CARD_FILE, "report.json", "report.png", "onnx/model.onnx")
# Folders of a run, each with one folder for each stage.
_STAGES = ("stages", "teacher", "assistant")
_STAGE_NAME = re.compile(r"\d{2,}-.+-[0-9a-f]{8}")
# The metadata at the top of a card, and the tag that every card of retort has there.
_METADATA = re.compile(r"---\n(.*?)\n---", re.DOTALL)
_TAG = "retort"


def check_own_folder(folder: str | os.PathLike, *, model_only: bool = False) -> None:
    """Refuse a folder with files that a run would replace, but that aren't known to be retort's.

    A folder is retort's if it has stages, a checkpoint, a report or a model card of retort.

    Args:
        folder: where the files are to be written.
        model_only: whether only the files of a model are written, without a card and a report.

    Raises:
        ValueError: with the names of the files.
    """
    place = Path(folder).expanduser()
    there = [name for name in (*_OF_MODEL, *(() if model_only else _OF_RUN)) if (place / name).is_file()]
    if there and not _has_run(place):
        they, them = ("They", "them") if len(there) > 1 else ("It", "it")
        raise ValueError(
            f"The folder {folder} has {_listed(there)}, which retort doesn't recognise as its own. {they} would be "
            f"replaced. Name another output_dir, or move {them}."
        )


def may_write_card(folder: str | os.PathLike) -> bool:
    """Whether a model card may be written into a folder. A README.md that isn't retort's is kept, with a warning."""
    card = Path(folder) / CARD_FILE
    if not card.is_file() or is_own_card(card):
        return True
    logger.warning("%s is not a model card of retort: it is kept, and no card is written beside it.", card)
    return False


def is_own_card(card: Path) -> bool:
    """Whether a file is a model card that retort wrote; its user may have added to it."""
    try:
        metadata = _METADATA.match(card.read_text(encoding="utf-8"))
        found = yaml.safe_load(metadata[1]) if metadata else None
    except (OSError, ValueError, yaml.YAMLError):
        return False
    tags = found.get("tags") if isinstance(found, dict) else None
    return isinstance(tags, list) and _TAG in tags


def _has_run(folder: Path) -> bool:
    """Whether a run of retort wrote into a folder."""
    stages = [path for name in _STAGES for path in (folder / name).glob("*") if path.is_dir()]
    checkpoints = folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*/{MANIFEST_FILE}")
    return (
        any(_STAGE_NAME.fullmatch(path.name) for path in stages)
        or next(checkpoints, None) is not None
        or is_own_card(folder / CARD_FILE)
        or _is_report(folder / "report.json")
    )


def _is_report(file: Path) -> bool:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and {"rows", "metric", "fingerprint"} <= found.keys()


def _listed(names: list[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]
