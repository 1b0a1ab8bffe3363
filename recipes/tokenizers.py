"""The student's tokenizer: the teacher's, a given one, or a new one for the training texts."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from datasets import Dataset
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from ..data import replace_files
from ..data.tokenizers import train_tokenizer, trim_tokenizer
from .schema import NewTokenizer


def student_tokenizer(
    wanted: str | NewTokenizer | None,
    teachers: PreTrainedTokenizerBase | None,
    texts: Callable[[], Dataset],
    folder: str | Path,
    *,
    save: bool = True,
) -> PreTrainedTokenizerBase:
    """Load a tokenizer, or make one. A new tokenizer is saved, since training it again may give another one.

    Args:
        wanted: None for the teacher's; a hub id or folder; or settings of a new tokenizer.
        teachers: the teacher's tokenizer. A trained tokenizer is of the same kind.
        texts: returns a dataset with a column `text`; only called for a new tokenizer.
        folder: folder for a new tokenizer, in a subfolder named by a hash of its settings and texts. If it is there
            already, it is loaded.
        save: False returns a new tokenizer without saving it.
    """
    if wanted is None:
        return teachers
    if isinstance(wanted, str):
        return AutoTokenizer.from_pretrained(wanted)
    rows = texts()
    described = {name: size for name, size in asdict(wanted).items() if size is not None}
    digest = hashlib.sha256(json.dumps([teachers.backend_tokenizer.to_str(), described]).encode())
    for text in rows["text"]:
        digest.update(f"{text}\n".encode())
    place = Path(folder) / f"tokenizer-{digest.hexdigest()[:8]}"
    if not (place / "tokenizer.json").exists():
        if wanted.trim_to is not None:
            made = trim_tokenizer(teachers, rows, vocab_size=wanted.trim_to)
        else:
            made = train_tokenizer(rows, teachers, wanted.vocab_size)
        if not save:
            return made
        with replace_files(place) as staging:
            made.save_pretrained(staging)
    return AutoTokenizer.from_pretrained(place)
