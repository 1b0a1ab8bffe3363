"""The student and its heads, as one module that a Trainer prepares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from .encoding import EncoderOutput, OutputRequest, Pooling, TokenLayout, encode
from .projected_classifier import fold_projector, projected_classifier


@dataclass
class StudentOutput:
    """What one forward pass gives.

    Attributes:
        encoder: the student's outputs.
        compared: of each objective, what it compares of them.
        embedding: `[rows, features]`, what the exported student gives; only in eval mode, and if embeddings are made.
    """

    encoder: EncoderOutput
    compared: dict[nn.Module, Any]
    embedding: Tensor | None = None


class DistillationModel(nn.Module):
    """A student with the objectives that it is trained by, and so with the weights that they train beside it.

    Objectives are modules of *this* module and are called inside its forward: so the optimizer, DDP, ZeRO, gradient
    clipping and checkpoints see their weights; and the student, exported by itself, never knew of them.

    Args:
        student: the encoder to be trained.
        objectives: modules with a `name` of their own, called with the student's outputs.
        request: what every forward pass makes.
        pooling: makes the student's embeddings, whatever pooler the request names; None if it is to be the request's.
        head: modules of the student's own behind its pooler (`[rows, pooled] -> [rows, features]`), trained with it;
            None if there are none.
        projector: what is exported behind the student's pooler; it may belong to objectives, too. None if nothing is.
        dropout: whether the student's dropout is on in train mode. Off, the student stays in eval mode; encoders have
            nothing else that depends on the mode. Parts of the student that are frozen stay in eval mode either way:
            what is not trained computes what it will compute when it is used.
        stop_early: leave the student after the deepest layer that anything reads (see `encode`).

    Raises:
        ValueError: two objectives of one name.
    """

    # `Trainer` reads it when it reports missing keys.
    _keys_to_ignore_on_save = None

    def __init__(
        self,
        student: PreTrainedModel,
        objectives: Sequence[nn.Module],
        request: OutputRequest,
        *,
        pooling: Pooling | None = None,
        head: nn.Module | None = None,
        projector: nn.Module | None = None,
        dropout: bool = True,
        stop_early: bool = False,
    ):
        super().__init__()
        self.student = student
        self.pooling = pooling
        self.head = head
        # Before the objectives: weights that both hold are known by the first of their names.
        self.projector = projector
        names = [objective.name for objective in objectives]
        if len(set(names)) < len(names):
            raise ValueError(f"Objectives are told apart by their names, but these are {', '.join(names)}.")
        self.objectives = nn.ModuleDict(zip(names, objectives, strict=True))
        self.request = request
        self.dropout = dropout
        self.stop_early = stop_early

    def train(self, mode: bool = True) -> DistillationModel:
        """Switch modes; without dropout the student stays in eval, and so do its frozen parts."""
        self.training = mode
        for part in (self.objectives, self.head, self.projector):
            if part is not None:
                part.train(mode)
        self.student.train(mode and self.dropout)
        if self.student.training:
            _keep_frozen_parts_in_eval(self.student)
        return self

    @property
    def config(self) -> PreTrainedConfig:
        """The student's configuration; DeepSpeed's `auto` values are read from it."""
        return self.student.config

    def activation_checkpointing_enable(self, **kwargs) -> None:
        """Turn on activation checkpointing in the student."""
        self.student.activation_checkpointing_enable(**kwargs)

    def forward(self, inputs: dict[str, Tensor], layout: TokenLayout) -> StudentOutput:
        """Run the student on its part of a batch, and the objectives on what it gives."""
        request = self.request
        if self.pooling is not None and request.pooler is not None:
            request = replace(request, pooler=self.pooling)
        output = encode(self.student, inputs, layout, request, stop_early=self.stop_early)
        if self.head is not None and output.embedding is not None:
            output.embedding = self.head(output.embedding)
        compared = {objective: objective(output) for objective in self.objectives.values()}
        embedding = None if self.training else output.embedding
        if embedding is not None and self.projector is not None:
            embedding = self.projector(embedding)
        return StudentOutput(output, compared, embedding)

    # --- What is kept of it -------------------------------------------------------------------------------------------

    def student_weights(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """The weights of the student as a stock model, its projector folded into its classifier.

        Args:
            state: this module's `state_dict`, whole.
        """
        prefix, found = "student.", projected_classifier(self.student)
        weights = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
        return fold_projector(weights, found[0]) if found else weights

    def side_weights(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """The weights that a stock student lacks: those of its head, the projector and the objectives, and of a
        projected classifier in its two parts. What several share is there once.

        Args:
            state: this module's `state_dict`, whole.
        """
        found = projected_classifier(self.student)
        in_parts = f"student.{found[0]}." if found else None
        known = {name for name, _ in (*self.named_parameters(), *self.named_buffers())}  # each tensor by one name
        return {
            name: tensor
            for name, tensor in state.items()
            if (name in known and not name.startswith("student.")) or (in_parts and name.startswith(in_parts))
        }


def _keep_frozen_parts_in_eval(module: nn.Module) -> bool | None:
    """Put each part none of whose parameters learn into eval mode.

    Every micro-batch begins with it, so each module is looked at once.

    Returns:
        Whether any parameter learns; None if there is none.
    """
    parts = [_keep_frozen_parts_in_eval(child) for child in module.children()]
    known = [part for part in parts if part is not None]
    known += [parameter.requires_grad for parameter in module.parameters(recurse=False)]
    if known and not any(known):
        module.eval()
    return any(known) if known else None
