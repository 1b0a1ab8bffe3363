"""The student and its heads, as one module that a Trainer prepares."""

from __future__ import annotations

from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from .encoding import EncoderOutput, OutputRequest, encode
from .layout import TokenLayout


class DistillationModel(nn.Module):
    """A student with the heads that its objectives train beside it.

    Heads (projectors into the teacher's widths, for instance) are modules of *this* module and are called inside its
    forward: so the optimizer, DDP, ZeRO, gradient clipping and checkpoints see them; and the student, exported by
    itself, never knew of them.

    Args:
        student: the encoder to be trained.
        heads: name -> module. A head `hidden_state_<i>` is applied to that hidden state, `[tokens, hidden]`; a head
            `embedding` to the pooled embedding, `[rows, hidden]`.
        request: what every forward pass returns.
        dropout: whether the student's dropout is on in train mode. Off, the student stays in eval mode; encoders have
            nothing else that depends on the mode.
    """

    # `Trainer` reads it when it reports missing keys.
    _keys_to_ignore_on_save = None

    def __init__(
        self, student: PreTrainedModel, heads: dict[str, nn.Module], request: OutputRequest, *, dropout: bool = True
    ):
        super().__init__()
        self.student = student
        self.heads = nn.ModuleDict(heads)
        self.request = request
        self.dropout = dropout

    def train(self, mode: bool = True) -> DistillationModel:
        """Switch modes; without dropout the student stays in eval."""
        super().train(mode)
        self.student.train(mode and self.dropout)
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
        output = encode(self.student, inputs, layout, self.request)
        for name, head in self.heads.items():
            source = output.embedding if name == "embedding" else output.hidden_states[_state_index(name)]
            output.projected[name] = head(source.to(next(head.parameters()).dtype))
        return output


def hidden_state_head(index: int) -> str:
    """Name of the head on one hidden state."""
    return f"hidden_state_{index}"


def _state_index(name: str) -> int:
    return int(name.rsplit("_", 1)[1])
