"""The modules around the encoder of a sentence-transformers model: prompts before it, pooling and a head after it."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
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
    """The modules after the pooler as one module: `[rows, pooled] -> [rows, embedding_size]`.

    Args:
        layers: `Dense`, `nn.LayerNorm` and `Normalize` modules; their input is converted to float32.
        truncate_dim: number of dimensions to keep of their output; None keeps all.
    """

    def __init__(self, layers: nn.Sequential, truncate_dim: int | None = None):
        super().__init__()
        self.layers = layers
        self.truncate_dim = truncate_dim

    def forward(self, pooled: Tensor) -> Tensor:
        embeddings = self.layers(pooled.float()) if len(self.layers) else pooled
        return embeddings[:, : self.truncate_dim]


def _sizes(module: nn.Module, size: int) -> tuple[int, int]:
    """Input and output size of a module; `size` if it takes vectors of any size."""
    if isinstance(module, Dense):
        return module.linear.in_features, module.linear.out_features
    if isinstance(module, nn.LayerNorm):
        return module.normalized_shape[0], module.normalized_shape[0]
    return size, size


def takes_projector(modules: Sequence[nn.Module]) -> bool:
    """Whether the last module is linear, so that it takes one more linear map into itself."""
    return len(modules) > 0 and isinstance(modules[-1], Dense) and isinstance(modules[-1].activation, nn.Identity)


def with_projector(head: nn.Sequential, weight: Tensor, bias: Tensor) -> nn.Sequential:
    """A head with one more linear map at its end. A `Dense` without activation there takes it into itself.

    Args:
        head: not changed.
        weight: `[out_features, in_features]`
        bias: `[out_features]`
    """
    modules, weight, bias = list(head), _exact(weight), _exact(bias)
    if takes_projector(modules):
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
    """Everything in a sentence-transformers model but the encoder and the tokenizer.

    Attributes:
        pooling: pooling of the encoder's token vectors.
        max_length: number of tokens to which texts are truncated, prompt and special tokens included.
        head: `Dense`, `nn.LayerNorm` and `Normalize` modules in order, in float32.
        prompts: name -> prompt, a text to put before every text.
        default_prompt_name: name of the prompt that is used if none is named; None for none.
        include_prompt: whether a prompt's tokens are pooled. The encoder always reads them.
        truncate_dim: number of dimensions to keep of an embedding (Matryoshka). Truncation comes after `head`, so
            normalised embeddings no longer have unit length. None keeps all.
        similarity: similarity function for embeddings, one of `SIMILARITIES`. It doesn't change the embeddings.

    Raises:
        ValueError: the default prompt is not among the prompts, `truncate_dim` is below 1, or the similarity is
            unknown.
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
            raise ValueError(f"truncate_dim={self.truncate_dim}, but an embedding has at least 1 dimension.")
        if self.similarity not in SIMILARITIES:
            raise ValueError(
                f"Embeddings are compared by {', '.join(SIMILARITIES)}, but similarity_fn_name is {self.similarity!r}."
            )

    @classmethod
    def plain(cls, pooler: str | Pooling, max_length: int, *, normalize: bool) -> SentenceModules:
        """Modules with a pooler and, if `normalize`, normalisation, but nothing else."""
        return cls(Pooling.of(pooler), max_length, nn.Sequential(*[Normalize()] * normalize))

    def prompt(self, name: str | None = None) -> str:
        """The prompt of a name, or the default prompt; "" if there is no default.

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

    @property
    def query_prompt(self) -> str:
        """The prompt of `SentenceTransformer.encode_query`; "" if there is none, even if there is a default prompt."""
        return self.prompts.get("query", "")

    @property
    def document_prompt(self) -> str:
        """The prompt of `SentenceTransformer.encode_document`; "" if there is none."""
        return self.prompts.get("document", "")

    @property
    def has_dense(self) -> bool:
        """Whether a linear map follows the pooler."""
        return any(isinstance(module, Dense) for module in self.head)

    def with_prompt(self, name: str | None) -> SentenceModules:
        """The same modules with another default prompt; with their own if `name` is None.

        Raises:
            ValueError: there is no prompt of that name.
        """
        return self if name is None else replace(self, default_prompt_name=name)

    def embedding_size(self, hidden_size: int) -> int:
        """Dimension of the embeddings of an encoder whose token vectors have `hidden_size`.

        Raises:
            ValueError: the input size of a module is not the output size of the module before it.
        """
        size = len(self.pooling.modes) * hidden_size
        for module in self.head:
            taken, made = _sizes(module, size)
            if taken != size:
                raise ValueError(
                    f"{type(module).__name__} takes vectors of size {taken}, but its input has size {size}. These "
                    "modules belong to another encoder."
                )
            size = made
        return min(size, self.truncate_dim or size)

    def finish(self, pooled: Tensor) -> Tensor:
        """Pooled vectors `[rows, pooled]` -> embeddings `[rows, embedding_size]`, in float32 if `head` has modules."""
        with torch.inference_mode(False):  # weights that were moved in inference mode could not be trained later
            head = self.head.to(pooled.device)
        return EmbeddingHead(head, self.truncate_dim)(pooled)

    # --- Training -----------------------------------------------------------------------------------------------------

    def trainable_head(self, *, shared: bool = True) -> EmbeddingHead:
        """The modules after the pooler for a student in training, in a mode of their own; frozen ones stay frozen.

        Args:
            shared: whether they share their parameters with `head`, so that it is trained with them; else copies.
        """
        kept = {id(parameter): parameter for parameter in self.head.parameters()} if shared else {}
        return EmbeddingHead(copy.deepcopy(self.head, kept), self.truncate_dim)

    def with_weights(self, state: Mapping[str, Tensor]) -> SentenceModules:
        """The same modules with a copy of the weights of a trained `trainable_head`.

        Args:
            state: the complete `state_dict` of the trained head.

        Raises:
            RuntimeError: the weights don't fit this head.
        """
        learnt = EmbeddingHead(copy.deepcopy(self.head).float())
        learnt.load_state_dict(dict(state))
        return replace(self, head=learnt.layers)
