"""The student's tokenizer: its teacher's, one with a name, or one that is made for the text at hand."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from ..data import replace_files
from ..data.tokenizers import train_tokenizer, trim_tokenizer


def student_tokenizer(
    wanted: str | Mapping[str, Any] | None,
    teachers: PreTrainedTokenizerBase | None,
    texts: Callable[[], Dataset],
    folder: str | Path,
) -> PreTrainedTokenizerBase:
    """Load a tokenizer, or make one, once: two trainings need not give the same.

    Args:
        wanted: None for the teacher's; a hub id or folder; `vocab_size`, of one that is trained; or `trim_to`, of the
            teacher's without the tokens that the text needs least.
        teachers: which a trained one resembles.
        texts: gives a column `text`; called if one is to be made.
        folder: where one that was made is kept, under the name of what it was made of.

    Raises:
        SystemExit: none of these.
    """
    if wanted is None:
        return teachers
    if isinstance(wanted, str):
        return AutoTokenizer.from_pretrained(wanted)
    if not isinstance(wanted, Mapping) or set(wanted) not in ({"vocab_size"}, {"trim_to"}):
        raise SystemExit(
            f"A tokenizer is a hub id, a folder, {{vocab_size: N}} or {{trim_to: N}}, but here it is {wanted}."
        )
    rows = texts()
    digest = hashlib.sha256(json.dumps([teachers.backend_tokenizer.to_str(), wanted]).encode())
    for text in rows["text"]:
        digest.update(f"{text}\n".encode())
    place = Path(folder) / f"tokenizer-{digest.hexdigest()[:8]}"
    if not (place / "tokenizer.json").exists():
        if "trim_to" in wanted:
            made = trim_tokenizer(teachers, rows, vocab_size=wanted["trim_to"])
        else:
            made = train_tokenizer(rows, teachers, wanted["vocab_size"])
        with replace_files(place) as staging:
            made.save_pretrained(staging)
    return AutoTokenizer.from_pretrained(place)
