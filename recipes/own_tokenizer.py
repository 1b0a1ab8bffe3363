"""A student's tokenizer that isn't its teacher's: by name, or made for the text at hand."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from ..data import replace_files
from ..data.tokenizers import train_tokenizer, trim_tokenizer


def own_tokenizer(
    wanted: str | Mapping[str, Any], like: PreTrainedTokenizerBase, texts: Dataset, folder: Path
) -> PreTrainedTokenizerBase:
    """Load a tokenizer, or make one, once: two trainings need not give the same.

    Args:
        wanted: hub id or folder; or `vocab_size`, of one that is trained, or `trim_to`, of one that is `like` without
            the tokens that the text needs least.
        like: which a trained one resembles.
        texts: a column `text`.
        folder: where one that was made is kept, under the name of what it was made of.

    Raises:
        SystemExit: none of these.
    """
    if isinstance(wanted, str):
        return AutoTokenizer.from_pretrained(wanted)
    if not isinstance(wanted, Mapping) or set(wanted) not in ({"vocab_size"}, {"trim_to"}):
        raise SystemExit(
            f"A tokenizer is a hub id, a folder, {{vocab_size: N}} or {{trim_to: N}}, but here it is {wanted}."
        )
    digest = hashlib.sha256(json.dumps([like.backend_tokenizer.to_str(), wanted]).encode())
    for text in texts["text"]:
        digest.update(f"{text}\n".encode())
    place = folder / f"tokenizer-{digest.hexdigest()[:8]}"
    if not (place / "tokenizer.json").exists():
        with replace_files(place) as staging:
            _made(wanted, like, texts).save_pretrained(staging)
    return AutoTokenizer.from_pretrained(place)


def _made(wanted: Mapping[str, int], like: PreTrainedTokenizerBase, texts: Dataset) -> PreTrainedTokenizerBase:
    if "trim_to" in wanted:
        return trim_tokenizer(like, texts, vocab_size=wanted["trim_to"])
    return train_tokenizer(texts, like, wanted["vocab_size"])
