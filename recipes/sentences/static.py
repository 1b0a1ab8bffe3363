"""The first token vectors of a static student."""

import hashlib
import json
from pathlib import Path

from transformers import AutoModel, PreTrainedModel, PreTrainedTokenizerBase

from ...data import fingerprint_sentence_encoder, replace_files
from ...modeling import static_outline, static_student
from ...modeling.encoding import SentenceEncoder
from ..schema import Static


def static_start(
    teacher: SentenceEncoder,
    settings: Static,
    tokenizer: PreTrainedTokenizerBase | None,
    folder: str | Path,
    *,
    dry_run: bool,
) -> PreTrainedModel:
    """Make the token vectors of a static student, or load those of an earlier call.

    They are saved, since another number of threads gives slightly other vectors, and a run that goes on would then
    repeat finished stages.

    Args:
        teacher: embeds each token.
        settings: the student's settings.
        tokenizer: the student's tokenizer; None for the teacher's.
        folder: folder for the vectors, in a subfolder named by a hash of all of these.
        dry_run: use zero vectors if there are none of an earlier call, and write nothing.
    """
    vocabulary = (tokenizer or teacher.tokenizer).get_vocab()
    parts = [fingerprint_sentence_encoder(teacher), tokenizer is None, vocabulary, settings.hidden_size]
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    place = Path(folder) / f"_static-{digest[:8]}"
    if not (place / "model.safetensors").exists():
        shape = {"hidden_size": settings.hidden_size, "tokenizer": tokenizer}
        if dry_run:
            return static_outline(teacher, **shape).model
        print("Embedding each token ...", flush=True)
        made = static_student(teacher, **shape, progress=True)
        with replace_files(place) as staging:
            made.model.save_pretrained(staging)
    return AutoModel.from_pretrained(place).eval()
