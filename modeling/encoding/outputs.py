"""The outputs requested of an encoder, and the outputs that it returns."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

import torch
from torch import Tensor

from .pooling import Pooling, pooled_hidden_states


@dataclass(frozen=True)
class OutputRequest:
    """The outputs to take from one forward pass.

    Attributes:
        logits: return the task head's output.
        features: return the input of the task head's last linear map: its classifier, or its output layer over a
            vocabulary.
        output_layer: return `features` and the output layer, for losses that apply it to a few tokens at a time.
        hidden_states: indices as in transformers: 0 is the embedding layer's output, i the output of layer i - 1.
        attentions: layers, from 0, whose attention maps are returned.
        projections: layers, from 0, whose queries, keys and values are returned.
        pooler: pooler of the embeddings (see `pooling.pool`), or None for no embeddings.
    """

    logits: bool = False
    features: bool = False
    output_layer: bool = False
    hidden_states: frozenset[int] = frozenset()
    attentions: frozenset[int] = frozenset()
    projections: frozenset[int] = frozenset()
    pooler: str | Pooling | None = None

    def __or__(self, other: OutputRequest) -> OutputRequest:
        if self.pooler and other.pooler and self.pooler != other.pooler:
            raise ValueError(f"A pass has one pooler, but both {self.pooler!r} and {other.pooler!r} are requested.")
        outputs = [each.name for each in fields(self) if each.name != "pooler"]
        both = {name: getattr(self, name) | getattr(other, name) for name in outputs}
        return OutputRequest(**both, pooler=self.pooler or other.pooler)

    def __bool__(self) -> bool:
        return bool(self.runs_head or self.hidden_states or self.attentions or self.projections or self.pooler)

    @property
    def runs_head(self) -> bool:
        """Whether the task head must run."""
        return self.logits or self.reads_features

    @property
    def reads_features(self) -> bool:
        """Whether the input of the head's last linear map is requested."""
        return self.features or self.output_layer

    def layers_needed(self, depth: int) -> int:
        """How many of an encoder's `depth` layers must run."""
        states = self.hidden_states | set(pooled_hidden_states(self.pooler, depth) if self.pooler else ())
        layers = {layer + 1 for layer in self.attentions | self.projections}
        return depth if self.runs_head else max(states | layers, default=0)


@dataclass
class EncoderOutput:
    """Outputs of one forward pass, without padding.

    Attributes:
        logits: `[rows, classes]` of a sequence head, `[tokens, classes]` of a token or masked-LM head.
        features: `[rows, features]` or `[tokens, features]`, as for `logits`; in train mode after the head's dropout.
        output_layer: the output layer of a masked-LM head.
        hidden_states: index -> `[tokens, hidden]`.
        attentions: layer -> `[rows, heads, width, width]`, softmax over the last dimension.
        queries, keys, values: layer -> `[tokens, heads * head_size]`.
        embedding: `[rows, hidden]`. If a teacher has modules after its pooler, the output of the last one.
        quantized: `[rows, hidden]`, the embedding of a student after fake quantisation; None if it isn't quantised.
    """

    logits: Tensor | None = None
    features: Tensor | None = None
    output_layer: OutputLayer | None = None
    hidden_states: dict[int, Tensor] = field(default_factory=dict)
    attentions: dict[int, Tensor] = field(default_factory=dict)
    queries: dict[int, Tensor] = field(default_factory=dict)
    keys: dict[int, Tensor] = field(default_factory=dict)
    values: dict[int, Tensor] = field(default_factory=dict)
    embedding: Tensor | None = None
    quantized: Tensor | None = None


@dataclass(frozen=True)
class OutputLayer:
    """The linear map from features to a logit for each token of a vocabulary.

    Attributes:
        weight: `[vocabulary, features]`, in the dtype of the matrix products.
        bias: `[vocabulary]`, or None.
    """

    weight: Tensor
    bias: Tensor | None = None

    def __len__(self) -> int:
        """Number of tokens in the vocabulary."""
        return len(self.weight)

    def rows(self, tokens: Tensor) -> OutputLayer:
        """The rows that compute the logits of `tokens` `[k]`."""
        bias = None if self.bias is None else self.bias.index_select(0, tokens)
        return OutputLayer(self.weight.index_select(0, tokens), bias)

    def columns(self, features: Tensor, times: Tensor | None = None) -> Tensor:
        """Logits of n positions, one column for each, `[vocabulary, n]`, in float32 or a more exact dtype.

        Args:
            features: `[n, features]`, of one position each; or sums over several positions, which give the sums of
                their logits.
            times: `[n]`, number of positions in each sum; None for one.
        """
        exact = exact_dtype(features)
        logits = (self.weight @ features.to(self.weight.dtype).T).to(exact)
        if self.bias is None:
            return logits
        bias = self.bias.to(exact)[:, None]
        return logits + (bias if times is None else bias * times)


def exact_dtype(tensor: Tensor) -> torch.dtype:
    """float32, or the tensor's dtype if it is more exact."""
    return torch.promote_types(tensor.dtype, torch.float32)
