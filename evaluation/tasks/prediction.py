"""Finished taggers and classifiers at work: words to tags and entities, texts to probabilities of classes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase
from transformers.utils import logging

from ...collators import most_tokens
from ...data.tokenization import EncodedRow, Encoder, cut_into_windows, makes_token_types, stride_within
from ...modeling import map_batches

logger = logging.get_logger(__name__)

OUTSIDE = "O"
"""The tag of words that belong to no entity."""


@dataclass(frozen=True, slots=True)
class TagPrediction:
    """What a tagger says of one word.

    Attributes:
        tag: the likeliest.
        probability: of that tag.
        distribution: the probabilities of all tags, in the order of `Tagger.labels`, if they were asked for.
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
        # Some tokenizers know no limit, but the model has so many positions and no more.
        longest = min(max_length, most_tokens(model)) if isinstance(model, nn.Module) else max_length
        self._encoder = Encoder(tokenizer, longest, pairs=self.reads_pairs)

    def _map(self, forward: Callable, rows: list[EncodedRow], *, token_types: bool = False) -> list[Tensor]:
        inputs = [{"input_ids": row.ids} | ({"token_type_ids": row.type_ids} if token_types else {}) for row in rows]
        return map_batches(forward, inputs, self.model, self.tokenizer, batch_size=self.batch_size)


class Tagger(_Predictor):
    """Gives each word the tag that is likeliest at its first piece, which is where taggers are trained.

    Rows that are longer than the model reads are read in windows that overlap. A word takes its tag from the window in
    which it is farthest from a cut.

    Args:
        model: a `PreTrainedModel` for token classification, or anything that has its `config` and `device` and takes
            the same inputs, `[rows, width]` each, to an object with `logits`, `[rows, width, classes]`.
        tokenizer: the one that it was trained with; a fast one.
        max_length: tokens of a window at most, special ones included; lowered to the tokenizer's `model_max_length`,
            and to the model's positions.
        batch_size: windows per forward pass.
        stride: tokens that neighbouring windows share, as `transformers.pipeline("token-classification", stride=...)`
            counts them. Default: a quarter of the tokens of text that a window holds.

    Attributes:
        labels: names of the classes, in the order of the logits.

    Raises:
        ValueError: a slow tokenizer, a `max_length` that special tokens fill, or a `stride` that fills a window.
    """

    reads_pairs = False

    def __init__(self, model: Any, tokenizer: PreTrainedTokenizerBase, *, stride: int | None = None, **settings: int):
        super().__init__(model, tokenizer, **settings)
        self.stride = stride_within(stride, self._encoder.max_length, tokenizer)

    def __call__(self, rows: Sequence[Sequence[str]], *, distributions: bool = False) -> list[list[TagPrediction]]:
        """Predict one tag per word.

        Every word has a prediction: one of which the tokenizer makes nothing that of its unknown token, and words in
        one token the same.

        Args:
            rows: lists of words, which are tokenised as the text that they make with a space between them.
            distributions: give the probabilities of all tags, too.

        Raises:
            ValueError: a row that isn't a list of words; a word of which the tokenizer makes nothing, if it has no
                unknown token.
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
    """Gives each text, or pair of texts, the probabilities of the classes, or a score if the model has one output.

    Args:
        model: as for `Tagger`, but for sequence classification, with `logits` `[rows, classes]`.
        tokenizer: as for `Tagger`.
        max_length: tokens of a row at most, special ones included; lowered as for `Tagger`.
        batch_size: rows per forward pass.

    Attributes:
        labels: names of the classes, in the order of the logits.
        is_regression: whether there is only one output.

    Raises:
        ValueError: a slow tokenizer, a `max_length` that special tokens fill, or a model of several labels, or several
            scores, at once.
    """

    # Room for a pair is room for one text.
    reads_pairs = True

    def __init__(self, model: Any, tokenizer: PreTrainedTokenizerBase, **settings: int):
        super().__init__(model, tokenizer, **settings)
        self.is_regression = len(self.labels) == 1
        problem = model.config.problem_type
        if not self.is_regression and problem not in (None, "single_label_classification"):
            raise ValueError(
                f"The model's configuration says problem_type={problem!r} with {len(self.labels)} outputs, but "
                "Classifier takes models that choose one of several classes, or have a single output."
            )

    def __call__(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> Tensor:
        """Predict the probability of each class; what is longer than `max_length` is cut, which is said once.

        Args:
            texts: `rows` strings.
            pairs: their second texts, for a model of pairs.

        Returns:
            `[rows, classes]`, float32, on the CPU: softmax of the logits, in the order of `labels`; the raw output of
            a model that has only one.

        Raises:
            ValueError: one string instead of a list of them, or another number of second texts.
        """
        if isinstance(texts, str) or isinstance(pairs, str):
            raise ValueError("Classifier takes lists of texts, but got one string. Pass a list that holds it.")
        if pairs is not None and len(pairs) != len(texts):
            raise ValueError(f"Each text needs a second one, but there are {len(texts)} and {len(pairs)}.")

        def classify(chosen: list[int], inputs: dict[str, Tensor]) -> Tensor:
            logits = self.model(**inputs).logits.float()
            return (logits if self.is_regression else logits.softmax(-1)).cpu()

        encoded = self._encoder.encode_texts(list(texts), pairs and list(pairs))
        if any(row.was_cut for row in encoded):
            longest = self._encoder.max_length
            logger.warning_once("Texts of more than %d tokens are cut there before they are classified.", longest)
        rows = self._map(classify, encoded, token_types=bool(pairs) and makes_token_types(self.tokenizer))
        return torch.stack(rows) if rows else torch.empty(0, len(self.labels))


def entity_spans(predictions: Sequence[TagPrediction]) -> list[EntitySpan]:
    """The entities of a row, grouped as `transformers.pipeline("token-classification")` groups words.

    An I- tag goes on with the entity before it if that is of the same type, and else begins one, which a score by
    `entity_scores` would not count. Tags without B- or I- stand for a type of their own.
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
