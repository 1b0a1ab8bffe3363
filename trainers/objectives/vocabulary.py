"""Objectives over whole vocabularies: masked LM, and distillation with the same or another vocabulary."""

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
    """Base class of objectives on predictions over a whole vocabulary."""

    reads = OutputRequest(output_layer=True)

    def forward(self, student: EncoderOutput) -> tuple[Tensor, OutputLayer]:
        """The inputs of the output layer, `[tokens, features]`, and the layer, which is applied to chunks of tokens."""
        return student.features, student.output_layer


class VocabularyLogitsObjective(PredictionObjective):
    """`LogitsObjective` for masked-LM heads, in chunks, so that the logits of all tokens are never in memory."""

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
    """Masked language modelling: cross-entropy of the masked tokens (Devlin et al. 2019, arXiv:1810.04805, section
    3.1)."""

    name = "mlm"
    description = "masked tokens"
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
    """KL divergence from the teacher's distribution over its own vocabulary (Kolesnikova et al. 2022,
    arXiv:2205.02340).

    It is computed at each teacher token that is covered by whole student tokens (see `SpanCollator`).

    Args:
        vocabulary: maps student logits to logits of the teacher's tokens that are compared.
        args: arguments with `temperature`, `piece_logits` and `vocabulary_tokens`.
    """

    name = "vocabulary"
    description = "divergence from the teacher's distribution over its vocabulary"
    citation = "kolesnikova2022vocabulary"

    def __init__(self, weight: float, vocabulary: VocabularyMap, args: VocabReducedMLMTrainingArguments):
        super().__init__(weight)
        self.vocabulary, self.args = vocabulary, args

    @property
    def hidden_only(self) -> bool:
        """Whether distributions are compared only at masked tokens."""
        return self.args.vocabulary_tokens == "hidden"

    def count(self, batch: MaskedBatch):
        return len(batch.hidden_pairs if self.hidden_only else batch.alignment)

    def values(self, ours, teacher, batch: MaskedBatch):
        (features, output_layer), alignment = ours, batch.alignment
        # The output layer is linear, so the sum of logits is the logit of the summed features, computed only once.
        summed = self.args.piece_logits == "sum"
        of_pairs, times = (alignment.sums, alignment.counts) if summed else (alignment.of_student, None)
        sides = [of_pairs(features), alignment.of_teacher(teacher.features)]
        if self.hidden_only:
            chosen = batch.hidden_pairs
            sides, times = [side[chosen] for side in sides], times if times is None else times[chosen]
        return vocabulary_divergence(
            *sides, (output_layer, teacher.output_layer), self.vocabulary, self.args.temperature, times
        )
