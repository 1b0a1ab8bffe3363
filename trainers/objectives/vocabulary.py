"""Objectives over whole vocabularies: tokens to be guessed, and what the teacher would guess by another vocabulary."""

import math
from functools import partial

from torch import Tensor

from ...collators import MaskedBatch
from ...modeling import losses
from ...modeling.encoding import EncoderOutput, OutputLayer, OutputRequest
from ...modeling.losses import vocabulary_cross_entropy, vocabulary_divergence
from ...modeling.vocabularies import VocabularyMap
from ..arguments import VocabReducedMLMTrainingArguments
from .base import Objective, aligned_tokens, pair_count
from .classes import LogitsObjective, compared_tokens


class PredictionObjective(Objective):
    """What compares predictions over a whole vocabulary."""

    reads = OutputRequest(output_layer=True)

    def forward(self, student: EncoderOutput) -> tuple[Tensor, OutputLayer]:
        """What the output layer reads, `[tokens, features]`, and that layer: it is applied to few tokens at a time."""
        return student.features, student.output_layer


class VocabularyLogitsObjective(PredictionObjective):
    """Distance to the teacher's logits over one vocabulary, of which neither side's are ever whole.

    As `LogitsObjective` of a masked-LM head, but for the memory that logits of all tokens would take.

    Args:
        weight: in the loss.
        loss, temperature: as in the arguments.
    """

    name = LogitsObjective.name
    description = LogitsObjective.description
    citation = LogitsObjective.citation

    def __init__(self, weight: float, loss: str, temperature: float):
        super().__init__(weight)
        soft = partial(losses.soft_cross_entropy, temperature=temperature)
        self.compare = {"kl": soft, "mse": losses.mean_squared_error, "hard": losses.hard_cross_entropy}[loss]

    def count(self, batch):
        compared = compared_tokens(batch)
        return pair_count(batch) if compared is None else len(compared)

    def values(self, ours, teacher, batch):
        features, output_layer = ours
        sides, compared = aligned_tokens(features, teacher.features, batch), compared_tokens(batch)
        sides = sides if compared is None else [each[compared] for each in sides]
        return losses.vocabulary_loss(self.compare, *sides, (output_layer, teacher.output_layer))


class MaskedLMObjective(PredictionObjective):
    """The tokens that `Masking` hid (Devlin et al. 2019, arXiv:1810.04805, section 3.1)."""

    name = "mlm"
    description = "hidden tokens"
    citation = "devlin2019bert"
    reads_teacher = False

    def count(self, batch: MaskedBatch):
        return len(batch.hidden)

    def values(self, ours, teacher, batch: MaskedBatch):
        features, output_layer = ours
        return vocabulary_cross_entropy(features[batch.hidden], batch.hidden_tokens, output_layer)

    def measures(self, total, batch: MaskedBatch):
        return {"bits_per_character": (total / math.log(2), batch.hidden_characters)}


class VocabularyObjective(PredictionObjective):
    """Divergence from the teacher's distribution over tokens of its own (Kolesnikova et al. 2022, arXiv:2205.02340).

    At each token of the teacher's that the student spells by whole tokens of its own (see `SpanCollator`).

    Args:
        weight: in the loss.
        vocabulary: which of the teacher's tokens are compared, and what they are to the student.
        args: with `temperature`, `piece_logits` and `vocabulary_tokens`.
    """

    name = "vocabulary"
    description = "divergence from the teacher's distribution over its vocabulary"
    citation = "kolesnikova2022vocabulary"

    def __init__(self, weight: float, vocabulary: VocabularyMap, args: VocabReducedMLMTrainingArguments):
        super().__init__(weight)
        self.vocabulary, self.args = vocabulary, args

    @property
    def hidden_only(self) -> bool:
        """Whether distributions are compared only at tokens that the student has to guess."""
        return self.args.vocabulary_tokens == "hidden"

    def count(self, batch: MaskedBatch):
        return len(batch.hidden_pairs if self.hidden_only else batch.alignment)

    def values(self, ours, teacher, batch: MaskedBatch):
        (features, output_layer), alignment = ours, batch.alignment
        # The output layer is linear: the sum of logits is the logit of sums, computed at one place instead of several.
        summed = self.args.piece_logits == "sum"
        of_pairs, times = (alignment.sums, alignment.counts) if summed else (alignment.of_student, None)
        sides = [of_pairs(features), alignment.of_teacher(teacher.features)]
        if self.hidden_only:
            chosen = batch.hidden_pairs
            sides, times = [side[chosen] for side in sides], times if times is None else times[chosen]
        return vocabulary_divergence(
            *sides, (output_layer, teacher.output_layer), self.vocabulary, self.args.temperature, times
        )
