"""The first token vectors of a static student."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from transformers import AutoModel, PreTrainedModel, PreTrainedTokenizerBase

from ...data import fingerprint_sentence_encoder, replace_files
from ...modeling import static_outline, static_student
from ...modeling.encoding import SentenceEncoder
from ..schema import Static


@dataclass(frozen=True)
class StaticStart:
    """A static student before its first stage.

    Its token vectors are saved, since another number of threads gives slightly other vectors, and a run that goes on
    would then repeat finished stages.

    Attributes:
        teacher: embeds each token.
        settings: the student's settings.
        tokenizer: the student's tokenizer; None for the teacher's.
        folder: folder for the vectors, in a subfolder named by a hash of all of these.
    """

    teacher: SentenceEncoder
    settings: Static
    tokenizer: PreTrainedTokenizerBase | None
    folder: str | Path

    @cached_property
    def place(self) -> Path:
        """The folder of the vectors."""
        vocabulary = (self.tokenizer or self.teacher.tokenizer).get_vocab()
        settings = self.tokenizer is None, vocabulary, self.settings.hidden_size
        parts = [fingerprint_sentence_encoder(self.teacher), *settings]
        digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
        return Path(self.folder) / f"_static-{digest[:8]}"

    @property
    def is_made(self) -> bool:
        """Whether the vectors are there, from an earlier call of `model`."""
        return (self.place / "model.safetensors").exists()

    def model(self) -> PreTrainedModel:
        """The student. Its vectors are made if they aren't there."""
        if not self.is_made:
            print("Embedding each token ...", flush=True)
            made = static_student(self.teacher, **self._shape, progress=True)
            with replace_files(self.place) as staging:
                made.model.save_pretrained(staging)
        return AutoModel.from_pretrained(self.place).eval()

    def outline(self) -> PreTrainedModel:
        """The student, with zero vectors if they aren't there. Nothing is written."""
        return self.model() if self.is_made else static_outline(self.teacher, **self._shape).model

    @property
    def _shape(self) -> Mapping[str, Any]:
        return {"hidden_size": self.settings.hidden_size, "tokenizer": self.tokenizer}
