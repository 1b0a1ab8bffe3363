"""A draft of a student: class, configuration and weights, before the model is built."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from ..anatomy import layers_name
from ..encoding.attention import first_output, probe_tokens
from ..modes import gathered


def skeleton(architecture: type[PreTrainedModel], config: PreTrainedConfig, **settings: Any) -> PreTrainedModel:
    """The model of `config` with changed `settings`, on the `meta` device, where weights have shapes but no values."""
    with torch.device("meta"):
        return architecture(_changed(config, settings))


def _changed(config: PreTrainedConfig, settings: Mapping[str, Any]) -> PreTrainedConfig:
    config = copy.deepcopy(config)
    for name, value in settings.items():
        setattr(config, name, value)
    return config


@dataclass(frozen=True)
class Draft:
    """A planned student. Each step of `shrink` turns one draft into the next.

    Tied weights have one name only. Tensors may be the teacher's own, so they must not be changed in place.
    """

    architecture: type[PreTrainedModel]
    config: PreTrainedConfig
    tensors: dict[str, Tensor]

    @classmethod
    def of(cls, model: PreTrainedModel) -> Draft:
        """The draft of a copy of `model`."""
        weights = model.state_dict(keep_vars=True)
        tied = model.all_tied_weights_keys
        tensors = {name: tensor for name, tensor in weights.items() if tensor is not weights.get(tied.get(name))}
        draft = cls(type(model), copy.deepcopy(model.config), tensors)
        draft.check()
        return draft

    def changed(self, tensors: dict[str, Tensor], **settings: Any) -> Draft:
        """The same student with other weights and other settings in its configuration."""
        return replace(self, config=_changed(self.config, settings), tensors=tensors)

    @cached_property
    def outline(self) -> PreTrainedModel:
        """The student on the `meta` device."""
        try:
            type(self.config).from_dict(self.config.to_dict())  # as when it is loaded from the student's folder
            return skeleton(self.architecture, self.config)
        except Exception as error:
            raise ValueError(self._rejection(error)) from error

    @property
    def layers_name(self) -> str:
        """Dotted name of the list of layers."""
        return layers_name(self.outline)

    @property
    def words_name(self) -> str:
        """Name of the word embeddings, `[vocabulary, embedding]`."""
        words = self.outline.get_input_embeddings().weight
        names = [name for name, tensor in self.outline.state_dict(keep_vars=True).items() if tensor is words]
        return next(name for name in names if name in self.tensors)

    def check(self) -> None:
        """Check that the student has a parameter of the same name and shape for every weight."""
        shapes = {name: list(tensor.shape) for name, tensor in self.outline.state_dict().items()}
        for name, tensor in self.tensors.items():
            if list(tensor.shape) != shapes.get(name):
                raise ValueError(
                    f"The student's {name} would be {list(tensor.shape)}, but with its configuration "
                    f"{self.architecture.__name__} has {shapes.get(name, 'nothing of that name')}. Either the "
                    "teacher's configuration doesn't match its weights (save and load the teacher to check), or the "
                    "architecture drops a module at these sizes. For instance, the projection of factorised embeddings "
                    "is dropped if embedding_size equals hidden_size: choose another hidden_size."
                )

    def build(self) -> PreTrainedModel:
        """Build the model by `from_pretrained`: in evaluation mode, with tied weights, and sharded under ZeRO-3.

        Weights that the draft lacks are initialised and named in a warning.
        """
        # DeepSpeed broadcasts weights as bytes, so they must be contiguous.
        layout = {"copy": True, "memory_format": torch.contiguous_format}
        tensors = {
            name: tensor.detach().to("cpu", torch.float32 if tensor.is_floating_point() else tensor.dtype, **layout)
            for name, tensor in self.tensors.items()
        }
        student = self.architecture.from_pretrained(None, config=self.config, state_dict=tensors, dtype=torch.float32)
        # transformers would write the missing path into the configuration as "None".
        student.name_or_path = student.config.name_or_path = ""
        self._try_out(student)
        return student

    def _try_out(self, student: PreTrainedModel) -> None:
        """Run the student on a few tokens, since some architectures reject sizes only in the forward pass."""
        try:
            with gathered(student):
                first_output(student, probe_tokens(student))
        except ValueError as error:
            hint = f"{error.__cause__}. Try another head size: rotary positions, for instance, need an even one"
            raise ValueError(self._rejection(hint)) from error.__cause__

    def _rejection(self, reason: Exception | str) -> str:
        return (
            f"{self.architecture.__name__} rejects num_hidden_layers={self.config.num_hidden_layers}, "
            f"hidden_size={self.config.hidden_size}, num_attention_heads={self.config.num_attention_heads}: {reason}"
        )
