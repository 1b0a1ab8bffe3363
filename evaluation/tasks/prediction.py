"""Prediction with trained taggers (tags and entities of words) and classifiers (class probabilities of texts)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase
from transformers.utils import logging

from ...collators import most_tokens
from ...data.tasks import OUTSIDE
from ...data.tokenization import EncodedRow, Encoder, cut_into_windows, makes_token_types, stride_within
from ...modeling import map_batches

logger = logging.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class TagPrediction:
    """A tagger's prediction for one word.

    Attributes:
        tag: the most likely tag.
        probability: probability of that tag.
        distribution: probabilities of all tags, in the order of `Tagger.labels`, if requested.
    """

    tag: str
    probability: float
    distribution: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class EntitySpan:
    """One entity: its type, its first word, one past its last word, and the mean probability of its words' tags."""

    type: str
    first: int
    end: int
    probability: float


class _Predictor:
    """Model, tokenizer and the names of the classes."""

    reads_pairs: bool

    def __init__(self, model: Any, tokenizer: PreTrainedTokenizerBase, *, max_length: int = 128, batch_size: int = 32):
        self.model = model
        self.tokenizer = tokenizer
        self.batch_size = batch_size
        self.labels = [model.config.id2label[index] for index in range(model.config.num_labels)]
        # Some tokenizers have no limit, but the model's number of positions is a limit.
        longest = min(max_length, most_tokens(model)) if isinstance(model, nn.Module) else max_length
        self._encoder = Encoder(tokenizer, longest, pairs=self.reads_pairs)

    def _map(self, forward: Callable, rows: list[EncodedRow], *, token_types: bool = False) -> list[Tensor]:
        inputs = [{"input_ids": row.ids} | ({"token_type_ids": row.type_ids} if token_types else {}) for row in rows]
        return map_batches(forward, inputs, self.model, self.tokenizer, batch_size=self.batch_size)


class Tagger(_Predictor):
    """Predicts the tag of each word from its first piece, as taggers are trained.

    Rows that are longer than the model's limit are split into overlapping windows. A word's tag comes from the window
    in which the word is farthest from a cut.

    Args:
        model: a `PreTrainedModel` for token classification, or an object with its `config` and `device` that takes the
            same inputs, `[rows, width]` each, and returns an object with `logits`, `[rows, width, classes]`.
        tokenizer: the model's tokenizer; a fast tokenizer.
        max_length: maximal number of tokens of a window, special tokens included; lowered to the tokenizer's
            `model_max_length` and to the model's number of positions.
        batch_size: windows per forward pass.
        stride: number of tokens that consecutive windows share, as in
            `transformers.pipeline("token-classification", stride=...)`. Default: a quarter of a window's text tokens.

    Attributes:
        labels: names of the classes, in the order of the logits.

    Raises:
        ValueError: the tokenizer is slow, `max_length` leaves no room for text, or `stride` is not smaller than a
            window.
    """

    reads_pairs = False

    def __init__(self, model: Any, tokenizer: PreTrainedTokenizerBase, *, stride: int | None = None, **settings: int):
        super().__init__(model, tokenizer, **settings)
        self.stride = stride_within(stride, self._encoder.max_length, tokenizer)

    def __call__(self, rows: Sequence[Sequence[str]], *, distributions: bool = False) -> list[list[TagPrediction]]:
        """Predict one tag per word.

        Every word has a prediction. A word that the tokenizer drops gets the prediction of the unknown token. Words
        that share a token get the same prediction.

        Args:
            rows: lists of words. They are tokenized as one text with a space between words.
            distributions: also return the probabilities of all tags.

        Raises:
            ValueError: a row is not a list of words; or the tokenizer drops a word and has no unknown token.
        """
        for index, words in enumerate(rows):
            if isinstance(words, str) or not all(isinstance(word, str) for word in words):
                raise ValueError(f"Row {index} must be a list of words, but is {words!r}.")
        windows = [
            (row, window)
            for row, whole in enumerate(self._encoder.encode_words([list(words) for words in rows]))
            for (window,) in cut_into_windows([whole], [self._encoder.max_length], self.stride)
        ]
        places = [list(window.first_pieces.values()) for _, window in windows]

        def at_first_pieces(chosen: list[int], inputs: dict[str, Tensor]) -> tuple[Tensor, ...]:
            logits = self.model(**inputs).logits
            found = [(line, position) for line, window in enumerate(chosen) for position in places[window]]
            lines, positions = torch.tensor(found, dtype=torch.long, device=logits.device).reshape(-1, 2).unbind(1)
            probabilities = logits[lines, positions].float().softmax(-1).cpu()
            return probabilities.split([len(places[window]) for window in chosen])

        predictions: list[dict[int, TagPrediction]] = [{} for _ in rows]
        found = self._map(at_first_pieces, [window for _, window in windows])
        for (row, window), probabilities in zip(windows, found, strict=True):
            likeliest = probabilities.argmax(-1).tolist()
            for (_, word), best, of_tags in zip(window.first_pieces, likeliest, probabilities.tolist(), strict=True):
                distribution = tuple(of_tags) if distributions else None
                predictions[row][word] = TagPrediction(self.labels[best], of_tags[best], distribution)
        return [[of_row[word] for word in range(len(of_row))] for of_row in predictions]


class Classifier(_Predictor):
    """Predicts class probabilities of texts or pairs of texts, or a score if the model has one output.

    Args:
        model: as for `Tagger`, but for sequence classification, with `logits` `[rows, classes]`.
        tokenizer: as for `Tagger`.
        max_length: maximal number of tokens of a row, special tokens included; lowered as for `Tagger`.
        batch_size: rows per forward pass.

    Attributes:
        labels: names of the classes, in the order of the logits.
        is_regression: whether the model has only one output.

    Raises:
        ValueError: the tokenizer is slow, `max_length` leaves no room for text, or the model is for multi-label
            classification or predicts several scores.
    """

    # If there is room for a pair, there is room for one text.
    reads_pairs = True

    def __init__(self, model: Any, tokenizer: PreTrainedTokenizerBase, **settings: int):
        super().__init__(model, tokenizer, **settings)
        self.is_regression = len(self.labels) == 1
        problem = model.config.problem_type
        if not self.is_regression and problem not in (None, "single_label_classification"):
            raise ValueError(
                f"The model has problem_type={problem!r} with {len(self.labels)} outputs, but Classifier takes models "
                "that choose one of several classes or have a single output."
            )

    def __call__(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> Tensor:
        """Predict the probability of each class. Longer rows are truncated to `max_length` with one warning.

        Args:
            texts: `rows` strings.
            pairs: the second texts, for a model of pairs.

        Returns:
            `[rows, classes]`, float32, on the CPU: softmax of the logits, in the order of `labels`; or the raw output
            of a model with one output.

        Raises:
            ValueError: `texts` or `pairs` is a single string, or their lengths differ.
        """
        if isinstance(texts, str) or isinstance(pairs, str):
            raise ValueError("Classifier takes lists of texts, but got one string. Pass a list with the string.")
        if pairs is not None and len(pairs) != len(texts):
            raise ValueError(
                f"Each text needs a second text, but there are {len(texts)} texts and {len(pairs)} second texts."
            )

        def classify(chosen: list[int], inputs: dict[str, Tensor]) -> Tensor:
            logits = self.model(**inputs).logits.float()
            return (logits if self.is_regression else logits.softmax(-1)).cpu()

        encoded = self._encoder.encode_texts(list(texts), pairs and list(pairs))
        if any(row.was_cut for row in encoded):
            longest = self._encoder.max_length
            logger.warning_once("Texts of more than %d tokens are truncated before they are classified.", longest)
        rows = self._map(classify, encoded, token_types=bool(pairs) and makes_token_types(self.tokenizer))
        return torch.stack(rows) if rows else torch.empty(0, len(self.labels))


def entity_spans(predictions: Sequence[TagPrediction]) -> list[EntitySpan]:
    """The entities of a row, grouped as `transformers.pipeline("token-classification")` groups words.

    An I- tag continues the entity before it if the types are equal. Otherwise it begins a new entity, which
    `entity_scores` would not count. A tag without B- or I- is a type itself.
    """
    groups: list[tuple[str, list[int]]] = []
    for place, prediction in enumerate(predictions):
        begins, kind = prediction.tag.startswith("B-"), prediction.tag
        if kind.startswith(("B-", "I-")):
            kind = kind[2:]
        if groups and groups[-1][0] == kind and not begins:
            groups[-1][1].append(place)
        else:
            groups.append((kind, [place]))
    return [
        EntitySpan(kind, places[0], places[-1] + 1, fmean(predictions[place].probability for place in places))
        for kind, places in groups
        if kind != OUTSIDE
    ]
