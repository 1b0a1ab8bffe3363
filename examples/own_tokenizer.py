"""A student's tokenizer that isn't its teacher's: by name, or trained on the text at hand."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from retort.collators import train_tokenizer
from retort.trainers.storage import replace_files


def own_tokenizer(
    wanted: str | Mapping[str, Any], like: PreTrainedTokenizerBase, texts: Dataset, folder: Path
) -> PreTrainedTokenizerBase:
    """Load a tokenizer, or train one, once: two trainings need not give the same.

    Args:
        wanted: hub id or folder; or `vocab_size`, of one that is trained.
        like: which a trained one resembles.
        texts: a column `text` to train on.
        folder: where a trained one is kept, under the name of what it was made of.

    Raises:
        SystemExit: neither.
    """
    if isinstance(wanted, str):
        return AutoTokenizer.from_pretrained(wanted)
    if not isinstance(wanted, Mapping) or set(wanted) != {"vocab_size"}:
        raise SystemExit(f"A tokenizer is a hub id, a folder or {{vocab_size: number}}, but here it is {wanted}.")
    digest = hashlib.sha256(json.dumps([like.backend_tokenizer.to_str(), wanted["vocab_size"]]).encode())
    for text in texts["text"]:
        digest.update(f"{text}\n".encode())
    place = folder / f"tokenizer-{digest.hexdigest()[:8]}"
    if not (place / "tokenizer.json").exists():
        with replace_files(place) as staging:
            train_tokenizer(texts, like, wanted["vocab_size"]).save_pretrained(staging)
    return AutoTokenizer.from_pretrained(place)
