"""A student and its objectives in one module, which the Trainer prepares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from .anatomy import layers_in_order
from .encoding import EncoderOutput, OutputRequest, Pooling, TokenLayout, encode
from .losses import EmbeddingQuantizer
from .projected_classifier import fold_projector, projected_classifier


@dataclass
class StudentOutput:
    """Outputs of one forward pass.

    Attributes:
        encoder: the student's outputs.
        compared: for each objective, the values that it computes from these outputs and compares with the teacher's.
        embedding: `[rows, features]`, the embeddings of the exported student; None in train mode, or if no embeddings
            are requested.
    """

    encoder: EncoderOutput
    compared: dict[nn.Module, Any]
    embedding: Tensor | None = None


class DistillationModel(nn.Module):
    """A student together with its objectives and their weights.

    Objectives are submodules of this module, not of the student, and are called in its forward pass. So the optimizer,
    DDP, ZeRO, gradient clipping and checkpoints include their weights, and the student can be exported without them.

    Args:
        student: the encoder to train.
        objectives: modules with unique `name`s, called with the student's outputs.
        request: the outputs to compute in every forward pass.
        pooling: pooling of the student's embeddings, in place of the request's pooler. None keeps the request's.
        head: the student's modules after its pooler (`[rows, pooled] -> [rows, features]`), trained with it. None if
            there are none.
        projector: module that is exported after the student's pooler. Objectives may share it. None if there is none.
        quantizer: quantises the embeddings for objectives on quantised vectors. None if there are none.
        dropout: whether the student's dropout is active in train mode. If not, the student stays in eval mode, since
            nothing else in an encoder depends on the mode. Frozen parts of the student stay in eval mode in any case,
            so they compute the same outputs in training as in inference.
        stop_early: skip the layers above the deepest one that is needed (see `encode`).

    Raises:
        ValueError: two objectives have the same name.
    """

    # `Trainer` reads it when it reports missing keys.
    _keys_to_ignore_on_save = None
    # The child in which accelerate looks for a last norm, to shard it separately. Every class with "Norm" in its name
    # is a norm to accelerate, even a RobertaPreLayerNorm. No child has this name, so it finds none.
    base_model_prefix = "none"

    def __init__(
        self,
        student: PreTrainedModel,
        objectives: Sequence[nn.Module],
        request: OutputRequest,
        *,
        pooling: Pooling | None = None,
        head: nn.Module | None = None,
        projector: nn.Module | None = None,
        quantizer: EmbeddingQuantizer | None = None,
        dropout: bool = True,
        stop_early: bool = False,
    ):
        super().__init__()
        self.student = student
        self.pooling = pooling
        self.head = head
        # Registered before the objectives: shared weights are saved under their first name.
        self.projector = projector
        self.quantizer = quantizer
        names = [objective.name for objective in objectives]
        if len(set(names)) < len(names):
            raise ValueError(f"Objectives need different names, but these are named {', '.join(names)}.")
        self.objectives = nn.ModuleDict(zip(names, objectives, strict=True))
        self.request = request
        self.dropout = dropout
        self.stop_early = stop_early

    def train(self, mode: bool = True) -> DistillationModel:
        """Switch modes. Without dropout the whole student stays in eval mode; its frozen parts always do."""
        self.training = mode
        for part in (self.objectives, self.head, self.projector, self.quantizer):
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

    @property
    def _no_split_modules(self) -> list[str]:
        """Names of the classes whose modules accelerate makes FSDP2 shard one by one: the student's layers.

        All else is gathered in `forward` from start to end: tied embeddings, heads, and what objectives call.
        """
        return sorted({type(layer).__name__ for layer in layers_in_order(self.student)})

    def activation_checkpointing_enable(self, **kwargs) -> None:
        """Turn on activation checkpointing in the student."""
        self.student.activation_checkpointing_enable(**kwargs)

    def forward(self, inputs: dict[str, Tensor], layout: TokenLayout) -> StudentOutput:
        """Run the student on its inputs, and the objectives on its outputs."""
        request = self.request
        if self.pooling is not None and request.pooler is not None:
            request = replace(request, pooler=self.pooling)
        output = encode(self.student, inputs, layout, request, stop_early=self.stop_early)
        if self.head is not None and output.embedding is not None:
            output.embedding = self.head(output.embedding)
        if self.quantizer is not None:
            output.quantized = self.quantizer(output.embedding)
        compared = {objective: objective(output) for objective in self.objectives.values()}
        embedding = None if self.training else output.embedding
        if embedding is not None and self.projector is not None:
            embedding = self.projector(embedding)
        return StudentOutput(output, compared, embedding)

    # --- Weights to save ----------------------------------------------------------------------------------------------

    def student_weights(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """The student's weights in the complete `state` of this module, as those of a stock model: with its projector
        folded into its classifier."""
        prefix, found = "student.", projected_classifier(self.student)
        weights = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
        return fold_projector(weights, found[0]) if found else weights

    def side_weights(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """The weights in the complete `state` of this module that a stock student lacks: those of head, projector and
        objectives, and both linear maps of a projected classifier. Shared weights are included once."""
        found = projected_classifier(self.student)
        in_parts = f"student.{found[0]}." if found else None
        known = {name for name, _ in (*self.named_parameters(), *self.named_buffers())}  # each tensor by one name
        return {
            name: tensor
            for name, tensor in state.items()
            if (name in known and not name.startswith("student.")) or (in_parts and name.startswith(in_parts))
        }


def _keep_frozen_parts_in_eval(module: nn.Module) -> bool | None:
    """Put every submodule whose parameters are all frozen into eval mode.

    This runs for every micro-batch, so it visits each module only once.

    Returns:
        Whether any parameter is trainable; None if there are no parameters.
    """
    parts = [_keep_frozen_parts_in_eval(child) for child in module.children()]
    known = [part for part in parts if part is not None]
    known += [parameter.requires_grad for parameter in module.parameters(recurse=False)]
    if known and not any(known):
        module.eval()
    return any(known) if known else None
