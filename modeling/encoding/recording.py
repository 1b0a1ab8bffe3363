"""Records hidden states, queries, keys and values of a forward pass by hooks.

The hooks compute nothing. Inside a layer with activation checkpointing, an additional operation would save tensors that
the recomputation in the backward pass doesn't save, and torch would raise an error.
"""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..anatomy import attention_projections


class Recording:
    """Records one forward pass of an encoder inside `with recording:`.

    Args:
        model: the encoder, with or without a head.
        layers: the layers that the pass calls, in order: all of them, or the first ones (see `partial_pass`).
        projections: indices of the layers whose queries, keys and values are recorded.
        shape: `(rows, width)` of the batch, or `(1, tokens)`. Every recorded state must have this shape.
    """

    def __init__(self, model: PreTrainedModel, layers: list[nn.Module], projections: frozenset[int], shape: torch.Size):
        self._model, self._layers, self._shape = model, layers, shape
        self._inputs: list[Tensor] = []
        self._projections: dict[int, dict[str, Tensor]] = {index: {} for index in sorted(projections)}
        self._ends: list[Any] = []
        self._hooks = ExitStack()

    def __enter__(self) -> Recording:
        hooks = [layer.register_forward_pre_hook(self._before, with_kwargs=True) for layer in set(self._layers)]
        # The top hidden state is the encoder's output, which in pre-norm encoders has passed the final norm.
        is_whole = len(self._layers) == self._model.config.num_hidden_layers
        last = self._model.base_model if is_whole else self._layers[-1]
        hooks.append(last.register_forward_hook(lambda module, args, result: self._ends.append(result)))
        for index in self._projections:
            for role, module in attention_projections(self._layers[index]).items():
                hooks.append(module.register_forward_hook(partial(self._keep, index, role)))
        for hook in hooks:
            self._hooks.enter_context(hook)
        return self

    def __exit__(self, *error) -> None:
        self._hooks.close()

    def _before(self, module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        self._inputs.append(args[0] if args else kwargs["hidden_states"])

    def _keep(self, index: int, role: str, module: nn.Module, args: tuple, result: Tensor) -> None:
        made = self._projections[index]
        # A recurrent encoder calls each layer several times. DeBERTa applies the same maps to its relative positions
        # after the tokens.
        if len(self._inputs) == index + 1 and role not in made:
            made[role] = result

    @property
    def result(self) -> Any:
        """The encoder's output if all layers run, otherwise the output of the last layer that runs."""
        return self._ends[-1]

    def hidden_state(self, index: int) -> Tensor:
        """Hidden state `index`, padded or packed as in the model: `[rows, width, hidden]` or `[1, tokens, hidden]`."""
        if index == len(self._layers):
            state = self.result if isinstance(self.result, Tensor) else self.result[0]
        else:
            self._check_calls()
            state = self._inputs[index]
        self._check_shape(state, f"hidden state {index}")
        if index:
            require_gradient(state, self._layers[index - 1], f"hidden state {index}")
        return state

    def projections(self, index: int) -> dict[str, Tensor]:
        """Queries, keys and values of layer call `index`, padded or packed as the model is: `[..., heads * size]`."""
        made = self._projections[index]
        if "fused" in made:
            made = dict(zip(("query", "key", "value"), made["fused"].chunk(3, dim=-1), strict=True))
        for role, tensor in made.items():
            self._check_shape(tensor, f"the {role} of layer {index}")
            require_gradient(tensor, self._layers[index], f"the {role} of layer {index}")
        return made

    def _check_calls(self) -> None:
        """Refuse layers whose inputs are not the hidden states."""
        if len(self._inputs) != len(self._layers):
            raise ValueError(
                f"{type(self._model).__name__} called its layers {len(self._inputs)} times, but {len(self._layers)} "
                "calls were expected, so its hidden states can't be identified. Only its top hidden state can be used."
            )

    def _check_shape(self, tensor: Tensor, name: str) -> None:
        """Refuse vectors of another shape than the batch: Longformer pads rows, and transposes its projections."""
        if tensor.shape[:2] != self._shape:
            raise ValueError(
                f"{type(self._model).__name__} computes {list(tensor.shape[:2])} vectors as {name}, but the batch is "
                f"{list(self._shape)}, so they can't be matched with its tokens. Compare embeddings, logits or the top "
                "hidden state instead."
            )


def require_gradient(output: Tensor, layer: nn.Module, name: str) -> None:
    """Refuse an output that gives its layer no gradient."""
    if torch.is_grad_enabled() and not output.requires_grad and any(p.requires_grad for p in layer.parameters()):
        raise ValueError(
            f"Reentrant activation checkpointing keeps no graph inside a layer, so {name} has no gradient. Set "
            "activation_checkpointing_kwargs={'use_reentrant': False}."
        )
