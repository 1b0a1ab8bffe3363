"""Embeds texts with a model whose files define no pooling."""

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
    """Embed `texts` with the given pooler; see `SentenceEncoder.encode`.

    Args:
        model: an encoder, with or without a head.
        tokenizer: the model's tokenizer.
        texts: `rows` strings.
        pooler: see `modeling.encoding.pooling.pool`.
        normalize: scale each embedding to unit length.
        batch_size: texts per forward pass.
        max_length: texts are truncated to this many tokens, special tokens included, or to the tokenizer's
            `model_max_length` if it is less.
        progress: show a progress bar.

    Returns:
        `[rows, hidden]`, float32, on the CPU.

    Raises:
        ValueError: `texts` is empty or a single string.
    """
    encoder = SentenceEncoder(model, tokenizer, SentenceModules.plain(pooler, max_length, normalize=normalize))
    return encoder.encode(texts, batch_size=batch_size, progress=progress)
