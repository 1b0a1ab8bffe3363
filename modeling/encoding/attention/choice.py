"""Which back end a model's attention gets, and why."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from transformers import PreTrainedModel

from ...anatomy import is_row_wise
from .interface import PACKED
from .support import supports_packing
from .varlen import varlen_obstacle

# The names under which configurations keep the dropout of attention weights.
_DROPOUTS = ("attention_probs_dropout_prob", "attention_dropout")


@dataclass(frozen=True)
class AttentionBackend:
    """How a model attends.

    Attributes:
        name: `varlen` (packed batches, one kernel), `runs` (packed batches, a loop) or `padded` (transformers' own).
        reason: why, as the log says it.
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
    """Where and how models run, as far as attention depends on it.

    Attributes:
        device: where.
        dtype: the number format in which a float32 model computes: that of autocast, where there is one.
        backend: `auto`, or the one that the user asks for.
        dropout: whether models in training drop attention weights, where their configuration says so.
        compiled: whether torch.compile compiles the model. The lengths of a packed batch's rows are part of the graph,
            so that nearly every batch would be compiled anew.
    """

    device: torch.device
    dtype: torch.dtype = torch.float32
    backend: Literal["auto", "varlen", "runs", "padded"] = "auto"
    dropout: bool = False
    compiled: bool = False

    def of_teachers(self) -> AttentionSettings:
        """For models that are only run: one that can't have the student's back end may have another one."""
        return replace(self, dropout=False, compiled=False, backend="padded" if self.backend == "padded" else "auto")

    def choose(self, model: PreTrainedModel) -> AttentionBackend:
        """The back end of one model.

        Raises:
            ValueError: the user asks for one that this model can't have here.
        """
        if self.backend == "padded":
            return AttentionBackend("padded", "asked for")
        obstacle = packing_obstacle(model)
        if obstacle is None and self.compiled:
            obstacle = "torch_compile would compile nearly every packed batch anew"
        if obstacle is None and self.backend != "runs":
            dtype = self.dtype if model.dtype == torch.float32 else model.dtype
            obstacle = varlen_obstacle(model.config, self.device, dtype)
            if obstacle is None:
                return AttentionBackend("varlen", f"packed batches on {self.device.type}{self._lost_dropout(model)}")
            if self.backend == "auto" and self.device.type == "cpu":
                return AttentionBackend("runs", "packed batches on cpu")
        elif obstacle is None:
            return AttentionBackend("runs", "asked for")
        if self.backend != "auto":
            raise ValueError(
                f"attention_backend={self.backend!r} can't be had for {type(model).__name__}: {obstacle}. Leave it at "
                "'auto', which says in the log what it takes."
            )
        return AttentionBackend("padded", obstacle)

    def _lost_dropout(self, model: PreTrainedModel) -> str:
        name = next((name for name in _DROPOUTS if getattr(model.config, name, 0)), None)
        if not self.dropout or name is None:
            return ""
        return (
            f"; without the dropout of attention weights, {name}={getattr(model.config, name)}, which "
            "attention_backend='padded' keeps"
        )


def packing_obstacle(model: PreTrainedModel) -> str | None:
    """Why a model takes no packed batches; None if it does."""
    chosen = _chosen_by_user(model)
    if chosen:
        return f"the model was loaded with attn_implementation={chosen!r}"
    if is_row_wise(model):
        return "its head reads whole rows"
    if not supports_packing(model):
        return f"{model.config.model_type} can't be packed: its attention can't be swapped, or tokens mix outside of it"
    return None


def _chosen_by_user(model: PreTrainedModel) -> str | None:
    """The attention implementation that a user chose; None for transformers' default.

    The default is sdpa where the architecture has it, else eager. A model loaded with sdpa can't be told from one that
    was loaded without a word.
    """
    found = model.config._attn_implementation
    default = "sdpa" if getattr(model, "_supports_sdpa", False) else "eager"
    return None if found in (None, default, "sdpa", PACKED) else found
