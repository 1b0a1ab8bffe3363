"""Texts to embeddings, for judging a model that says nothing of its pooling."""

from collections.abc import Sequence

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ...modeling.encoding import SentenceEncoder, SentenceModules


def embed(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    pooler: str = "mean",
    normalize: bool = False,
    batch_size: int = 32,
    max_length: int = 128,
    progress: bool = False,
) -> Tensor:
    """Embed `texts` with a pooler of one's choice; see `SentenceEncoder.encode`.

    Args:
        model: an encoder, with or without a head.
        tokenizer: the tokenizer that it was trained with.
        texts: `rows` strings.
        pooler: see `modeling.encoding.pooling.pool`.
        normalize: scale each embedding to unit length.
        batch_size: texts per forward pass.
        max_length: tokens per text, special tokens included; what is longer than this, or than the tokenizer's
            `model_max_length`, is cut.
        progress: show a bar.

    Returns:
        `[rows, hidden]`, float32, on the CPU.

    Raises:
        ValueError: no texts, or one string instead of a list of them.
    """
    encoder = SentenceEncoder(model, tokenizer, SentenceModules.plain(pooler, max_length, normalize=normalize))
    return encoder.encode(texts, batch_size=batch_size, progress=progress)
