"""A sentence encoder as a function of padded tensors alone, so that it can be traced: pooling and modules included."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig
from transformers.utils import ModelOutput

from ..anatomy import backbone
from ..encoding import EmbeddingHead, SentenceEncoder, pooled_hidden_states, require_bidirectional


class EmbeddingGraph(nn.Module):
    """What an ONNX file of a sentence encoder computes. It shares the encoder's weights.

    Args:
        encoder: with its pooling and what comes after it.

    Raises:
        ValueError: a causal model; or a model without a pooler of its own whose embedding is the pooler's output.
    """

    def __init__(self, encoder: SentenceEncoder):
        super().__init__()
        require_bidirectional(encoder.model, "an ONNX file of embeddings")
        self.model = backbone(encoder.model)
        self.head = EmbeddingHead(encoder.modules.head, encoder.modules.truncate_dim)
        self.modes = encoder.modules.pooling.modes
        if self.modes == ("cls",) and getattr(self.model, "pooler", None) is None:
            raise ValueError(f"The embedding is the pooler's output, but {type(self.model).__name__} has no pooler.")
        self.states = pooled_hidden_states(encoder.modules.pooling, self.config.num_hidden_layers)

    @property
    def config(self) -> PreTrainedConfig:
        """The encoder's."""
        return self.model.config

    @property
    def dtype(self) -> torch.dtype:
        """The encoder's number format."""
        return self.model.dtype

    @property
    def device(self) -> torch.device:
        """Where the encoder lies."""
        return self.model.device

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, prompt_length: Tensor | None = None, **inputs: Tensor
    ) -> ModelOutput:
        """Padded rows to embeddings.

        Args:
            input_ids: `[rows, width]`, padded on the side that the tokenizer pads.
            attention_mask: `[rows, width]`, 0 in the padding.
            prompt_length: `[rows]`, tokens at the start of each row that are not pooled.
            inputs: what else the encoder takes, `[rows, width]` each.

        Returns:
            `sentence_embedding` `[rows, embedding_size]` and `last_hidden_state` `[rows, width, hidden]`.
        """
        deeper = {"output_hidden_states": True} if self.states != (self.config.num_hidden_layers,) else {}
        output = self.model(input_ids=input_ids, attention_mask=attention_mask, **inputs, **deeper)
        last = output[0]
        if self.modes == ("cls",):
            pooled = output.pooler_output
        else:
            # The last state as the encoder returns it: after its final norm.
            read = [last if i == self.config.num_hidden_layers else output.hidden_states[i] for i in self.states]
            pooled = self._pool(sum(read[1:], start=read[0]) / len(read), attention_mask, prompt_length)
        return ModelOutput(sentence_embedding=self.head(pooled), last_hidden_state=last)

    def _pool(self, states: Tensor, mask: Tensor, prompt_length: Tensor | None) -> Tensor:
        """`[rows, width, hidden]` -> `[rows, modes * hidden]`; equals `pooling.pool`, which needs a layout."""
        if prompt_length is not None:
            mask = mask * (mask.cumsum(1) > prompt_length[:, None])
        ways = {"cls_before_pooler": _first, "last_token": _last, "max": _maximum}
        return torch.cat([ways.get(mode, _mean)(states, mask) for mode in self.modes], dim=-1)


def _mean(states: Tensor, mask: Tensor) -> Tensor:
    kept = mask[..., None].to(states.dtype)
    return (states * kept).sum(1) / kept.sum(1).clamp(min=1)


def _maximum(states: Tensor, mask: Tensor) -> Tensor:
    return states.masked_fill(mask[..., None] == 0, float("-inf")).amax(1)


def _first(states: Tensor, mask: Tensor) -> Tensor:
    return _token(states, mask * (mask.cumsum(1) == 1))


def _last(states: Tensor, mask: Tensor) -> Tensor:
    total = mask.sum(1, keepdim=True)
    return _token(states, mask * (mask.cumsum(1) == total)) * total.clamp(max=1)


def _token(states: Tensor, chosen: Tensor) -> Tensor:
    """The token of each row where `chosen` `[rows, width]` is 1; the first where it is nowhere."""
    # Not argmax, which ONNX Runtime can't run on int64 (https://github.com/microsoft/onnxruntime/issues/10068).
    places = (chosen * torch.arange(chosen.shape[1], device=chosen.device)).sum(1)
    return states.gather(1, places[:, None, None].expand(-1, 1, states.shape[-1])).squeeze(1)


def embedding_inputs(
    encoder: SentenceEncoder, texts: Sequence[str], *, prompt_name: str | None = None
) -> dict[str, Tensor]:
    """What an ONNX file of `encoder` takes for texts: they are given a prompt, cut and padded.

    Args:
        encoder: whose file it is.
        texts: `rows` strings.
        prompt_name: of the prompt before every text. Default: the default prompt.

    Returns:
        `input_ids` and `attention_mask`, `[rows, width]`, and what else the tokenizer makes; if prompts are not pooled,
        `prompt_length` `[rows]`, too.
    """
    prompt, length = encoder.modules.prompt(prompt_name), encoder.max_length
    made = encoder.tokenizer(
        [prompt + text for text in texts], padding=True, truncation=True, max_length=length, return_tensors="pt"
    )
    if encoder.modules.include_prompt:
        return dict(made)
    return dict(made) | {"prompt_length": torch.full((len(texts),), encoder.prompt_length(prompt))}
