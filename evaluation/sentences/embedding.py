"""Texts to embeddings, for judging a model."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ...modeling.encoding import OutputRequest, TokenLayout, encode
from ..batching import map_batches


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
    """Embed `texts` in the model's own dtype, on its own device.

    Batches hold texts of similar length, longest first, whatever the order of `texts`. The model runs in eval mode
    and is left in the mode that it was in.

    Args:
        model: an encoder, with or without a head.
        tokenizer: the tokenizer that it was trained with.
        texts: `rows` strings.
        pooler: see `modeling.pooling.pool`.
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
    if isinstance(texts, str) or not len(texts):
        raise ValueError(f"embed takes a list of at least one text, but got {texts!r}.")
    encoded = tokenizer(list(texts), truncation=True, max_length=min(max_length, tokenizer.model_max_length))
    rows = [{name: column[row] for name, column in encoded.items()} for row in range(len(texts))]

    def embed_batch(chosen: list[int], inputs: dict[str, Tensor]) -> Tensor:
        lengths = [len(rows[row]["input_ids"]) for row in chosen]
        layout = TokenLayout.from_lengths(lengths, packed=False).to(model.device)
        return encode(model, inputs, layout, OutputRequest(pooler=pooler)).embedding.float().cpu()

    label = "Embedding" if progress else None
    embeddings = torch.stack(map_batches(embed_batch, rows, model, tokenizer, batch_size=batch_size, progress=label))
    return F.normalize(embeddings, dim=-1) if normalize else embeddings
