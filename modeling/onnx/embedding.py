"""A sentence encoder as one traceable module: padded tensors in, embeddings out."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig
from transformers.utils import ModelOutput

from ..encoding import EmbeddingHead, SentenceEncoder, pooled_hidden_states, require_bidirectional


class EmbeddingGraph(nn.Module):
    """A sentence encoder's model, pooling and modules, for tracing. It shares the encoder's weights.

    Raises:
        ValueError: the model is causal; or the embedding is the output of the model's pooler, but it has none.
    """

    def __init__(self, encoder: SentenceEncoder):
        super().__init__()
        require_bidirectional(encoder.model, "an ONNX file of embeddings")
        self.model = encoder.model.base_model
        self.head = EmbeddingHead(encoder.modules.head, encoder.modules.truncate_dim)
        self.modes = encoder.modules.pooling.modes
        if self.modes == ("cls",) and getattr(self.model, "pooler", None) is None:
            raise ValueError(f"The embedding is the pooler's output, but {type(self.model).__name__} has no pooler.")
        self.states = pooled_hidden_states(encoder.modules.pooling, self.config.num_hidden_layers)

    @property
    def config(self) -> PreTrainedConfig:
        """The encoder's configuration."""
        return self.model.config

    @property
    def dtype(self) -> torch.dtype:
        """The encoder's dtype."""
        return self.model.dtype

    @property
    def device(self) -> torch.device:
        """The encoder's device."""
        return self.model.device

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, prompt_length: Tensor | None = None, **inputs: Tensor
    ) -> ModelOutput:
        """Compute the embeddings of padded rows.

        Args:
            input_ids: `[rows, width]`, padded on the tokenizer's padding side.
            attention_mask: `[rows, width]`, 0 in the padding.
            prompt_length: `[rows]`, number of tokens at the start of each row that are not pooled.
            inputs: the encoder's other inputs, `[rows, width]` each.

        Returns:
            `sentence_embedding` `[rows, embedding_size]` and `last_hidden_state` `[rows, width, hidden]`.
        """
        deeper = {"output_hidden_states": True} if self.states != (self.config.num_hidden_layers,) else {}
        output = self.model(input_ids=input_ids, attention_mask=attention_mask, **inputs, **deeper)
        last = output[0]
        if self.modes == ("cls",):
            pooled = output.pooler_output
        else:
            # The last hidden state has to be the encoder's output, after its final norm.
            read = [last if i == self.config.num_hidden_layers else output.hidden_states[i] for i in self.states]
            pooled = self._pool(sum(read[1:], start=read[0]) / len(read), attention_mask, prompt_length)
        return ModelOutput(sentence_embedding=self.head(pooled), last_hidden_state=last)

    def _pool(self, states: Tensor, mask: Tensor, prompt_length: Tensor | None) -> Tensor:
        """`[rows, width, hidden]` -> `[rows, modes * hidden]`; same as `pooling.pool`, but with a mask for a layout."""
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
    """The token of each row where `chosen` `[rows, width]` is 1; the first token if it is 1 nowhere."""
    # Not argmax, which ONNX Runtime can't run on int64 (https://github.com/microsoft/onnxruntime/issues/10068).
    places = (chosen * torch.arange(chosen.shape[1], device=chosen.device)).sum(1)
    return states.gather(1, places[:, None, None].expand(-1, 1, states.shape[-1])).squeeze(1)


def embedding_inputs(
    encoder: SentenceEncoder, texts: Sequence[str], *, prompt_name: str | None = None
) -> dict[str, Tensor]:
    """Tokenize texts as inputs of an ONNX file of `encoder`, with a prompt, truncation and padding.

    Args:
        encoder: the sentence encoder that was exported.
        texts: `rows` strings.
        prompt_name: name of the prompt to put before every text. Default: the default prompt.

    Returns:
        `input_ids`, `attention_mask` and the tokenizer's other outputs, `[rows, width]`; also `prompt_length` `[rows]`
        if prompts are not pooled.
    """
    prompt, length = encoder.modules.prompt(prompt_name), encoder.max_length
    made = encoder.tokenizer(
        [prompt + text for text in texts], padding=True, truncation=True, max_length=length, return_tensors="pt"
    )
    if encoder.modules.include_prompt:
        return dict(made)
    return dict(made) | {"prompt_length": torch.full((len(texts),), encoder.prompt_length(prompt))}
