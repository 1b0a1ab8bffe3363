"""The student and its heads, as one module that a Trainer prepares."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from .encoding import EncoderOutput, OutputRequest, TokenLayout, encode
from .projected_classifier import fold_projector, projected_classifier


class DistillationModel(nn.Module):
    """A student with the heads that its objectives train beside it.

    Heads (projectors into the teacher's widths, for instance) are modules of *this* module and are called inside its
    forward: so the optimizer, DDP, ZeRO, gradient clipping and checkpoints see them; and the student, exported by
    itself, never knew of them.

    Args:
        student: the encoder to be trained.
        heads: name -> module. A head `hidden_state_<i>` is applied to that hidden state, `[tokens, hidden]`; a head
            `embedding` to the pooled embedding, `[rows, hidden]`; a head `scaled_embedding`, which comes after it, to
            what that has made of it; a head `features` to what the classifier reads; a head `mixed_state` to all
            hidden states, `[tokens, layers + 1, hidden]`; heads `curvature` and `teacher_layers` to any.
        request: what every forward pass returns.
        dropout: whether the student's dropout is on in train mode. Off, the student stays in eval mode; encoders have
            nothing else that depends on the mode. Parts of the student that are frozen stay in eval mode either way:
            what is not trained computes what it will compute when it is used.
        stop_early: leave the student after the deepest layer that anything reads (see `encode`).
    """

    # `Trainer` reads it when it reports missing keys.
    _keys_to_ignore_on_save = None

    def __init__(
        self,
        student: PreTrainedModel,
        heads: dict[str, nn.Module],
        request: OutputRequest,
        *,
        dropout: bool = True,
        stop_early: bool = False,
    ):
        super().__init__()
        self.student = student
        self.heads = nn.ModuleDict(heads)
        self.request = request
        self.dropout = dropout
        self.stop_early = stop_early

    def train(self, mode: bool = True) -> DistillationModel:
        """Switch modes; without dropout the student stays in eval, and so do its frozen parts."""
        self.training = mode
        self.heads.train(mode)
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

    def forward(self, inputs: dict[str, Tensor], layout: TokenLayout) -> EncoderOutput:
        """Run the student on its view of a batch, and the heads on what it gives."""
        output = encode(self.student, inputs, layout, self.request, stop_early=self.stop_early)
        for name, head in self.heads.items():
            output.projected[name] = head(_read_by(name, output).to(next(head.parameters()).dtype))
        return output

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
        """The weights that a stock student lacks: those of the heads, and of a projected classifier in its two parts.

        Args:
            state: this module's `state_dict`, whole.
        """
        found = projected_classifier(self.student)
        return {
            name: tensor
            for name, tensor in state.items()
            if name.startswith("heads.") or (found and name.startswith(f"student.{found[0]}."))
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


def _read_by(head: str, output: EncoderOutput) -> Tensor:
    """The output that a head is applied to; a head without one of its own reads the hidden state in its name."""
    if head == "scaled_embedding":
        return output.projected.get("embedding", output.embedding)
    if head == "mixed_state":
        return torch.stack(list(output.hidden_states.values()), dim=1)
    if head in ("curvature", "teacher_layers"):
        return next(iter(output.hidden_states.values()))
    source = getattr(output, head, None)
    return output.hidden_states[int(head.rsplit("_", 1)[1])] if source is None else source


def hidden_state_head(index: int) -> str:
    """Name of the head on one hidden state."""
    return f"hidden_state_{index}"
