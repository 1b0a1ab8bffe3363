"""Evaluation of masked language models by the cross-entropy of masked words."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from accelerate.utils import send_to_device
from datasets import Dataset
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ...collators import EVALUATION, Filler, Masking, SpanCollator, collator_for, masking_chances
from ...data.tokenization import tokenize_spans
from ...modeling.encoding import (
    AttentionSettings,
    OutputRequest,
    SentenceEncoder,
    SentenceModules,
    encode,
    has_plain_output_layer,
)
from ...modeling.losses import vocabulary_cross_entropy

# Rows per forward pass.
_ROWS = 64
# Share of masked words, and seed of the choice.
_SHARE, _SEED = 0.15, 42


@dataclass(frozen=True)
class MaskedModel:
    """A masked language model with its tokenizer.

    Attributes:
        model: a model with a masked-LM head.
        tokenizer: the model's tokenizer.
        max_length: maximal number of tokens of a row.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    max_length: int

    def embed(self, texts: Sequence[str]) -> torch.Tensor:
        """Mean-pooled embeddings of texts, `[texts, hidden]`, to measure the encoder's speed."""
        modules = SentenceModules.plain("mean", self.max_length, normalize=False)
        return SentenceEncoder(self.model, self.tokenizer, modules).encode(texts)

    def bits_per_character(self, texts: Dataset) -> float:
        """What hidden words cost, spread over their characters: see `costs`."""
        bits, characters = self.costs(texts)
        return float(bits.sum() / characters.sum())

    def costs(self, texts: Dataset) -> tuple[np.ndarray, np.ndarray]:
        """What hidden words cost in each row of tokens, in bits, and how many characters they have.

        All tokenizers mask the same words if no text is longer than `max_length` tokens, so models with different
        vocabularies can be compared.

        Args:
            texts: a dataset with a column `text`.

        Returns:
            `[rows]` each; a text that is longer than `max_length` makes several rows.

        Raises:
            ValueError: the model's logits are not simply the outputs of its output layer.
        """
        if not has_plain_output_layer(self.model):
            raise ValueError(
                f"{type(self.model).__name__} has no output layer over a vocabulary, or changes the logits of that "
                "layer, so the cross-entropy of masked words can't be computed."
            )
        rows = tokenize_spans(texts, self.tokenizer, max_length=self.max_length)
        rows = rows.select(np.argsort(rows["length"], kind="stable")).with_format("numpy")
        attention = AttentionSettings(self.model.device)
        collate = SpanCollator(collator_for(self.model, [], self.tokenizer, None, attention=attention))
        chances = masking_chances(None, self.model.config.vocab_size, _SHARE, smoothing=0)
        mask = Masking(chances, Filler.of(self.tokenizer), None, whole_words=True, seed=_SEED)
        request, costs = OutputRequest(output_layer=True), []
        self.model.eval()
        for start in tqdm(range(0, len(rows), _ROWS), desc="Masked words", unit=" batches", leave=False):
            batch = collate([rows[at] for at in range(start, min(start + _ROWS, len(rows)))])
            batch = mask(send_to_device(batch, self.model.device), EVALUATION)
            with torch.inference_mode():
                output = encode(self.model, batch.student, batch.layout, request)
                hidden = output.features[batch.hidden], batch.hidden_tokens
                bits = vocabulary_cross_entropy(*hidden, output.output_layer).double().cpu().numpy() / math.log(2)
            of_token, row_ids = batch.spans.student[batch.hidden].cpu().numpy(), batch.layout.row_ids[batch.hidden]
            row_ids = row_ids.cpu().numpy()
            spans, firsts = np.unique(of_token, return_index=True)  # a span may have several tokens
            characters = batch.spans.characters.cpu().numpy()[spans]
            sums = ((row_ids, bits), (row_ids[firsts], characters))
            costs.append([np.bincount(ids, values, minlength=batch.layout.rows) for ids, values in sums])
        bits, characters = map(np.concatenate, zip(*costs, strict=True))
        return bits, characters
