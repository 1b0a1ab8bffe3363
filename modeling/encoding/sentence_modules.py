"""What surrounds an encoder in a sentence-transformers model: prompts before it, and what makes one vector after it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import skip_init

from .pooling import Pooling

SIMILARITIES = ("cosine", "dot", "euclidean", "manhattan")


class Dense(nn.Module):
    """A linear map and an activation: `[rows, in_features] -> [rows, out_features]`."""

    def __init__(self, linear: nn.Linear, activation: nn.Module):
        super().__init__()
        self.linear = linear
        self.activation = activation

    def forward(self, embeddings: Tensor) -> Tensor:
        return self.activation(self.linear(embeddings))


class Normalize(nn.Module):
    """Scales vectors to unit length."""

    def forward(self, embeddings: Tensor) -> Tensor:
        return F.normalize(embeddings, dim=-1)


class EmbeddingHead(nn.Module):
    """All that comes after the pooler, as one module: `[rows, pooled] -> [rows, embedding_size]`.

    Args:
        layers: `Dense`, `nn.LayerNorm` and `Normalize`; they are given float32.
        truncate_dim: how many numbers of their output are kept; None keeps all.
    """

    def __init__(self, layers: nn.Sequential, truncate_dim: int | None = None):
        super().__init__()
        self.layers = layers
        self.truncate_dim = truncate_dim

    def forward(self, pooled: Tensor) -> Tensor:
        embeddings = self.layers(pooled.float()) if len(self.layers) else pooled
        return embeddings[:, : self.truncate_dim]


def _sizes(module: nn.Module, size: int) -> tuple[int, int]:
    """How many numbers a module takes and gives, where its input has `size`."""
    if isinstance(module, Dense):
        return module.linear.in_features, module.linear.out_features
    if isinstance(module, nn.LayerNorm):
        return module.normalized_shape[0], module.normalized_shape[0]
    return size, size


def with_projector(head: nn.Sequential, weight: Tensor, bias: Tensor) -> nn.Sequential:
    """A head with one more linear map at its end. A `Dense` without activation there takes it into itself.

    Args:
        head: not changed.
        weight: `[out_features, in_features]`
        bias: `[out_features]`
    """
    modules, weight, bias = list(head), _exact(weight), _exact(bias)
    if modules and isinstance(modules[-1], Dense) and isinstance(modules[-1].activation, nn.Identity):
        last = modules.pop().linear
        bias = bias if last.bias is None else bias + weight @ _exact(last.bias)
        weight = weight @ _exact(last.weight)
    # Left uninitialised: drawing first weights would advance the random state of a training that goes on.
    linear = skip_init(nn.Linear, weight.shape[1], weight.shape[0])
    linear.load_state_dict({"weight": weight.float(), "bias": bias.float()})
    return nn.Sequential(*modules, Dense(linear, nn.Identity()))


def _exact(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().double()


@dataclass(frozen=True)
class SentenceModules:
    """From texts to an encoder's tokens, and from its outputs to embeddings.

    Attributes:
        pooling: of the encoder's token vectors.
        max_length: tokens to which texts are cut, prompt and special tokens included.
        head: `Dense`, `nn.LayerNorm` and `Normalize` in the order in which they run, in float32; frozen if they
            come from files (see `trainable_head`).
        prompts: texts that can be put before every text, by name.
        default_prompt_name: of the prompt that is used where none is named; None for none.
        include_prompt: whether a prompt's tokens are pooled. They are always read by the encoder.
        truncate_dim: how many numbers of an embedding are kept (Matryoshka); cut off after `head`, so embeddings that
            were normalised are no longer of unit length. None keeps all.
        similarity: by which embeddings are to be compared, one of `SIMILARITIES`. It changes no embedding.

    Raises:
        ValueError: the default prompt is not among the prompts, `truncate_dim` is not above 0, or there is no such
            similarity.
    """

    pooling: Pooling
    max_length: int
    head: nn.Sequential = field(default_factory=nn.Sequential)
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt_name: str | None = None
    include_prompt: bool = True
    truncate_dim: int | None = None
    similarity: str = "cosine"

    def __post_init__(self):
        if self.default_prompt_name is not None:
            self.prompt(self.default_prompt_name)
        if self.truncate_dim is not None and self.truncate_dim < 1:
            raise ValueError(f"truncate_dim={self.truncate_dim}: an embedding keeps at least one number.")
        if self.similarity not in SIMILARITIES:
            raise ValueError(
                f"Embeddings are compared by {', '.join(SIMILARITIES)}, but similarity_fn_name is {self.similarity!r}."
            )

    @classmethod
    def plain(cls, pooler: str | Pooling, max_length: int, *, normalize: bool) -> SentenceModules:
        """A pooler, and perhaps normalisation."""
        return cls(Pooling.of(pooler), max_length, nn.Sequential(*[Normalize()] * normalize))

    def prompt(self, name: str | None = None) -> str:
        """The prompt of a name, or the default one; "" for none.

        Raises:
            ValueError: there is no prompt of that name.
        """
        name = self.default_prompt_name if name is None else name
        if name is None:
            return ""
        if name not in self.prompts:
            raise ValueError(f"There is no prompt {name!r}, only: {', '.join(self.prompts) or 'none'}.")
        return self.prompts[name]

    @property
    def normalizes(self) -> bool:
        """Whether the last module scales embeddings to unit length."""
        return len(self.head) > 0 and isinstance(self.head[-1], Normalize)

    def embedding_size(self, hidden_size: int) -> int:
        """How many numbers an embedding of an encoder has whose token vectors have `hidden_size`.

        Raises:
            ValueError: a module takes vectors of another size than those that it is given.
        """
        size = len(self.pooling.modes) * hidden_size
        for module in self.head:
            taken, made = _sizes(module, size)
            if taken != size:
                raise ValueError(
                    f"{type(module).__name__} takes vectors of {taken} numbers, but is given vectors of {size}. These "
                    "modules belong to another encoder."
                )
            size = made
        return min(size, self.truncate_dim or size)

    def finish(self, pooled: Tensor) -> Tensor:
        """Pooled vectors `[rows, pooled]` -> embeddings `[rows, embedding_size]`, in float32 where modules run."""
        return EmbeddingHead(self.head.to(pooled.device), self.truncate_dim)(pooled)

    # --- Training -----------------------------------------------------------------------------------------------------

    def trainable_head(self) -> EmbeddingHead:
        """A copy of what comes after the pooler, whose weights learn: it makes a student's embeddings in training."""
        return EmbeddingHead(copy.deepcopy(self.head), self.truncate_dim).requires_grad_(True)

    def with_weights(self, state: Mapping[str, Tensor]) -> SentenceModules:
        """The same, with the weights that a `trainable_head` has learnt. They are copied.

        Args:
            state: its `state_dict`, whole.

        Raises:
            RuntimeError: weights of another head.
        """
        learnt = EmbeddingHead(copy.deepcopy(self.head))
        learnt.load_state_dict(dict(state))
        return replace(self, head=learnt.layers)
