"""What a forward pass makes on its way, recorded by hooks: hidden states, queries, keys and values.

Nothing is computed in a hook. Within a layer whose activations are checkpointed, an operation of ours would save
tensors that the layer's second run, in the backward pass, doesn't save again, and torch would refuse to go on.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..anatomy import attention_projections, backbone


class Recording:
    """Records one pass through an encoder, from `with recording:` on.

    Args:
        model: the encoder, with or without a head.
        layers: those that the pass calls, in order: all of them, or the first ones (see `partial_pass`).
        projections: of which of them queries, keys and values are wanted.
        shape: `(rows, width)` of the batch, or `(1, tokens)`, which every state must have.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        layers: list[nn.Module],
        projections: frozenset[int],
        shape: torch.Size,
    ):
        self._model, self._layers, self._shape = model, layers, shape
        self._inputs: list[Tensor] = []
        self._projections: dict[int, dict[str, Tensor]] = {index: {} for index in sorted(projections)}
        self._ends: list[Any] = []
        self._hooks = ExitStack()

    def __enter__(self) -> Recording:
        distinct = dict.fromkeys(self._layers)
        hooks = [layer.register_forward_pre_hook(self._before, with_kwargs=True) for layer in distinct]
        # The top hidden state is what the encoder returns, after the final norm of pre-norm encoders.
        is_whole = len(self._layers) == self._model.config.num_hidden_layers
        last = backbone(self._model) if is_whole else self._layers[-1]
        hooks.append(last.register_forward_hook(lambda module, args, result: self._ends.append(result)))
        for index in self._projections:
            for role, module in attention_projections(self._layers[index]).items():
                hooks.append(module.register_forward_hook(self._keep(index, role)))
        for hook in hooks:
            self._hooks.callback(hook.remove)
        return self

    def __exit__(self, *error) -> None:
        self._hooks.close()

    def _before(self, module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        self._inputs.append(args[0] if args else kwargs["hidden_states"])

    def _keep(self, index: int, role: str):
        def hook(module, args, result):
            made = self._projections[index]
            # A layer may be called in several passes of a recurrent encoder. DeBERTa's relative positions go through
            # the same maps after the tokens.
            if len(self._inputs) == index + 1 and role not in made:
                made[role] = result

        return hook

    @property
    def result(self) -> Any:
        """What the encoder returned, if all layers ran; otherwise what the last one returned."""
        return self._ends[-1]

    def hidden_state(self, index: int) -> Tensor:
        """Hidden state `index` as the model has it, `[rows, width, hidden]` or `[1, tokens, hidden]`.

        Raises:
            ValueError: the layers don't hand one state from one to the next; the state is of other rows than the batch;
                or it has no gradient (see `require_gradient`).
        """
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
        """Queries, keys and values of pass `index`, as the model has them: `[..., heads * head_size]` each.

        Raises:
            ValueError: they are of other rows than the batch, or have no gradient (see `require_gradient`).
        """
        made = self._projections[index]
        if "fused" in made:
            made = dict(zip(("query", "key", "value"), made["fused"].chunk(3, dim=-1), strict=True))
        for role, tensor in made.items():
            self._check_shape(tensor, f"the {role} of layer {index}")
            require_gradient(tensor, self._layers[index], f"the {role} of layer {index}")
        return made

    def _check_calls(self) -> None:
        """Refuse layers whose inputs are not the hidden states."""
        name = type(self._model).__name__
        if hasattr(self._layers[0], "backward_pass"):
            raise ValueError(f"{name} has reversible layers, which hand on two states. Only its top one can be used.")
        if len(self._inputs) != len(self._layers):
            raise ValueError(
                f"{name} called its layers {len(self._inputs)} times where {len(self._layers)} calls were expected, so "
                "which hidden state is which can't be told. Only its top one can be used."
            )

    def _check_shape(self, tensor: Tensor, name: str) -> None:
        """Refuse vectors of other places than the batch's: Longformer pads rows, and turns them for its projections."""
        if tensor.shape[:2] != self._shape:
            raise ValueError(
                f"{type(self._model).__name__} makes {list(tensor.shape[:2])} vectors as {name}, where the batch is "
                f"{list(self._shape)}: which token is which can't be told. Compare embeddings, logits or the top "
                "hidden state instead."
            )


def require_gradient(output: Tensor, layer: nn.Module, name: str) -> None:
    """Refuse an output that would teach its layer nothing.

    Raises:
        ValueError: the output has no graph, though the layer's weights learn.
    """
    if torch.is_grad_enabled() and not output.requires_grad and any(p.requires_grad for p in layer.parameters()):
        raise ValueError(
            f"Reentrant activation checkpointing keeps no graph within a layer, so {name} has no gradient. Set "
            "activation_checkpointing_kwargs={'use_reentrant': False}."
        )
