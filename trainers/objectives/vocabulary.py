"""Objectives over whole vocabularies: tokens to be guessed, and what the teacher would guess by another vocabulary."""

import math
from dataclasses import dataclass

from ...modeling.encoding import OutputRequest
from ...modeling.losses import vocabulary_cross_entropy, vocabulary_divergence
from ...modeling.vocabularies import VocabularyMap
from ..arguments import VocabReducedMLMTrainingArguments
from .base import Objective


@dataclass(frozen=True)
class MaskedLMObjective(Objective):
    """The tokens that `Masking` hid (Devlin et al. 2019, arXiv:1810.04805, section 3.1)."""

    name = "mlm"
    description = "hidden tokens"
    citation = "devlin2019bert"
    reads = OutputRequest(output_layer=True)
    reads_teacher = False

    def count(self, batch):
        return len(batch["hidden"])

    def __call__(self, student, teacher, batch):
        return vocabulary_cross_entropy(student.features[batch["hidden"]], batch["hidden_tokens"], student.output_layer)

    def measures(self, total, batch):
        return {"bits_per_character": (total / math.log(2), batch["hidden_characters"])}


@dataclass(frozen=True)
class VocabularyObjective(Objective):
    """Divergence from the teacher's distribution over tokens of its own (Kolesnikova et al. 2022, arXiv:2205.02340).

    At each token of the teacher's that the student spells by whole tokens of its own (see `SpanCollator`).

    Attributes:
        vocabulary: which of the teacher's tokens are compared, and what they are to the student.
        args: with `temperature`, `piece_logits` and `vocabulary_tokens`.
    """

    name = "vocabulary"
    description = "divergence from the teacher's distribution over its vocabulary"
    citation = "kolesnikova2022vocabulary"
    reads = OutputRequest(output_layer=True)
    vocabulary: VocabularyMap
    args: VocabReducedMLMTrainingArguments

    @property
    def hidden_only(self) -> bool:
        """Whether distributions are compared only at tokens that the student has to guess."""
        return self.args.vocabulary_tokens == "hidden"

    def count(self, batch):
        return len(batch["hidden_pairs"] if self.hidden_only else batch["alignment"])

    def __call__(self, student, teacher, batch):
        alignment = batch["alignment"]
        # The output layer is linear: the sum of logits is the logit of sums, computed at one place instead of several.
        summed = self.args.piece_logits == "sum"
        ours, times = (alignment.sums, alignment.counts) if summed else (alignment.of_student, None)
        sides = [ours(student.features), alignment.of_teacher(teacher.features)]
        if self.hidden_only:
            chosen = batch["hidden_pairs"]
            sides, times = [side[chosen] for side in sides], times if times is None else times[chosen]
        return vocabulary_divergence(
            *sides, (student.output_layer, teacher.output_layer), self.vocabulary, self.args.temperature, times
        )
