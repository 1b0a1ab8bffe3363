"""Chooses the attention back end of a model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from transformers import PreTrainedModel

from ...anatomy import is_row_wise
from .interface import PACKED
from .support import supports_packing
from .varlen import varlen_obstacle

# Names of the dropout of attention weights in configurations.
_DROPOUTS = ("attention_probs_dropout_prob", "attention_dropout")


@dataclass(frozen=True)
class AttentionBackend:
    """The attention back end of a model.

    Attributes:
        name: `varlen` (packed batches, one kernel), `runs` (packed batches, a loop) or `padded` (transformers' own).
        reason: why it was chosen, for the log.
    """

    name: Literal["varlen", "runs", "padded"]
    reason: str

    @property
    def is_packed(self) -> bool:
        """Whether it takes packed batches."""
        return self.name != "padded"

    def __str__(self) -> str:
        return f"{self.name} ({self.reason})"


@dataclass(frozen=True)
class AttentionSettings:
    """The settings of a run that the choice of an attention back end depends on.

    Attributes:
        device: device of the models.
        dtype: dtype in which a float32 model computes, which is that of autocast if it is on.
        backend: the back end that the user chose, or `auto`.
        dropout: whether dropout is active in training.
        compiled: whether the model is compiled by torch.compile. The row lengths of a packed batch are part of the
            graph, so nearly every packed batch would be compiled again.
    """

    device: torch.device
    dtype: torch.dtype = torch.float32
    backend: Literal["auto", "varlen", "runs", "padded"] = "auto"
    dropout: bool = False
    compiled: bool = False

    def of_teachers(self) -> AttentionSettings:
        """The settings for teachers, which may use another back end if they don't support the student's."""
        return replace(self, dropout=False, compiled=False, backend="padded" if self.backend == "padded" else "auto")

    def choose(self, model: PreTrainedModel) -> AttentionBackend:
        """Choose the back end of one model.

        Raises:
            ValueError: the model can't use the back end that the user chose.
        """
        if self.backend == "padded":
            return AttentionBackend("padded", "asked for")
        obstacle = packing_obstacle(model)
        if obstacle is None and self.compiled:
            obstacle = "torch_compile would compile nearly every packed batch anew"
        if obstacle is None and self.backend == "runs":
            return AttentionBackend("runs", "asked for")
        if obstacle is None:
            dtype = self.dtype if model.dtype == torch.float32 else model.dtype
            obstacle = varlen_obstacle(model.config, self.device, dtype)
            if obstacle is None:
                return AttentionBackend("varlen", f"packed batches on {self.device.type}{self._lost_dropout(model)}")
            if self.backend == "auto" and self.device.type == "cpu":
                return AttentionBackend("runs", "packed batches on cpu")
        if self.backend != "auto":
            raise ValueError(
                f"{type(model).__name__} can't use attention_backend={self.backend!r}: {obstacle}. Leave it at 'auto', "
                "which logs the back end that it chooses."
            )
        return AttentionBackend("padded", obstacle)

    def _lost_dropout(self, model: PreTrainedModel) -> str:
        name = next((name for name in _DROPOUTS if getattr(model.config, name, 0)), None)
        if not self.dropout or name is None:
            return ""
        return (
            f"; without dropout of attention weights ({name}={getattr(model.config, name)}), which "
            "attention_backend='padded' keeps"
        )


def packing_obstacle(model: PreTrainedModel) -> str | None:
    """Why a model can't take packed batches; None if it can."""
    chosen = _chosen_by_user(model)
    if chosen:
        return f"the model was loaded with attn_implementation={chosen!r}"
    if is_row_wise(model):
        return "its head reads whole rows"
    if not supports_packing(model):
        return (
            f"{model.config.model_type} can't be packed: its attention can't be swapped, is not the usual formula, or "
            "isn't all that mixes tokens"
        )
    return None


def _chosen_by_user(model: PreTrainedModel) -> str | None:
    """The attention implementation that the user chose; None for transformers' default.

    The default is sdpa if the architecture supports it, else eager. An explicit choice of sdpa looks the same as the
    default.
    """
    found = model.config._attn_implementation
    default = "sdpa" if getattr(model, "_supports_sdpa", False) else "eager"
    return None if found in (None, default, "sdpa", PACKED) else found
