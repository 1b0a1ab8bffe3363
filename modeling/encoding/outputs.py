"""What is asked of an encoder, and what it returns."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from .pooling import Pooling, pooled_hidden_states


@dataclass(frozen=True)
class OutputRequest:
    """What to take out of one forward pass.

    Attributes:
        logits: the task head's output.
        features: what the task head's last linear map reads: its classifier, or its output layer over a vocabulary.
        output_layer: `features` and that output layer itself, for losses that apply it to few tokens at a time.
        hidden_states: indices as in transformers: 0 is the embedding layer's output, i the output of layer i - 1.
        attentions: layers whose attention maps are wanted, from 0.
        projections: layers whose queries, keys and values are wanted, from 0.
        pooler: how to pool an embedding, or None for none (see `pooling.pool`).
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
            raise ValueError(f"One pass gives one embedding, but both {self.pooler!r} and {other.pooler!r} are asked.")
        return OutputRequest(
            self.logits or other.logits,
            self.features or other.features,
            self.output_layer or other.output_layer,
            self.hidden_states | other.hidden_states,
            self.attentions | other.attentions,
            self.projections | other.projections,
            self.pooler or other.pooler,
        )

    def __bool__(self) -> bool:
        return bool(self.runs_head or self.hidden_states or self.attentions or self.projections or self.pooler)

    @property
    def runs_head(self) -> bool:
        """Whether the task head must run."""
        return self.logits or self.reads_features

    @property
    def reads_features(self) -> bool:
        """Whether what the head's last linear map reads is wanted."""
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
        features: `[rows, features]` or `[tokens, features]`, likewise; in train mode after the head's dropout.
        output_layer: of a masked-LM head.
        hidden_states: index -> `[tokens, hidden]`.
        attentions: layer -> `[rows, heads, width, width]`, softmax over the last dimension.
        queries, keys, values: layer -> `[tokens, heads * head_size]`.
        embedding: `[rows, hidden]`; of a teacher with modules after its pooler, what the last of them makes.
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


@dataclass(frozen=True)
class OutputLayer:
    """The linear map from features to a logit for each token of a vocabulary.

    Attributes:
        weight: `[vocabulary, features]`, in the number format that products are computed in.
        bias: `[vocabulary]`, or None.
    """

    weight: Tensor
    bias: Tensor | None = None

    def __len__(self) -> int:
        """How many tokens the vocabulary has."""
        return len(self.weight)

    def rows(self, tokens: Tensor) -> OutputLayer:
        """The part that makes the logits of `tokens` `[k]`."""
        bias = None if self.bias is None else self.bias.index_select(0, tokens)
        return OutputLayer(self.weight.index_select(0, tokens), bias)

    def columns(self, features: Tensor, times: Tensor | None = None) -> Tensor:
        """Logits of some places of a text, a column for each, `[vocabulary, n]`; float32 if not more exact.

        Args:
            features: `[n, features]`, or sums over several places, whose logits are then summed.
            times: `[n]`, how many places each is the sum of; None for one.
        """
        exact = exact_dtype(features)
        logits = (self.weight @ features.to(self.weight.dtype).T).to(exact)
        if self.bias is None:
            return logits
        bias = self.bias.to(exact)[:, None]
        return logits + (bias if times is None else bias * times)


def exact_dtype(tensor: Tensor) -> torch.dtype:
    """float32, if not more exact."""
    return torch.promote_types(tensor.dtype, torch.float32)
