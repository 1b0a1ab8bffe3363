"""A student on the drawing board: its class, its configuration and its weights, before there is a model."""

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
from ..modes import gathered
from .probe import first_output, probe_tokens


def skeleton(architecture: type[PreTrainedModel], config: PreTrainedConfig, **settings: Any) -> PreTrainedModel:
    """The model that `config` describes once `settings` are changed, on the `meta` device: shapes without values."""
    with torch.device("meta"):
        return architecture(_changed(config, settings))


def _changed(config: PreTrainedConfig, settings: Mapping[str, Any]) -> PreTrainedConfig:
    config = copy.deepcopy(config)
    for name, value in settings.items():
        setattr(config, name, value)
    return config


@dataclass(frozen=True)
class Draft:
    """What a student will be. Each step of `shrink` makes one draft into the next.

    Attributes:
        architecture: the model's class.
        config: its configuration.
        tensors: its weights by name, a tied one under one name only. They may still be the teacher's own: whoever
            changes one makes a new one.
    """

    architecture: type[PreTrainedModel]
    config: PreTrainedConfig
    tensors: dict[str, Tensor]

    @classmethod
    def of(cls, model: PreTrainedModel) -> Draft:
        """The draft of a copy.

        Raises:
            ValueError: the model's configuration describes another model.
        """
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
        """The student's shapes.

        Raises:
            ValueError: its architecture has something against the configuration.
        """
        try:
            type(self.config).from_dict(self.config.to_dict())  # as it will be read from the student's folder
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
        """See that every weight has a place of its shape in the student.

        Raises:
            ValueError: one hasn't.
        """
        shapes = {name: list(tensor.shape) for name, tensor in self.outline.state_dict().items()}
        for name, tensor in self.tensors.items():
            if list(tensor.shape) != shapes.get(name):
                raise ValueError(
                    f"The student's {name} would be {list(tensor.shape)}, but by its configuration "
                    f"{self.architecture.__name__} has {shapes.get(name, 'nothing of that name')}. Either the "
                    "teacher's configuration doesn't describe its weights (save and load it to see), or the "
                    "architecture drops a part at the sizes asked for, as the projection of factorised embeddings "
                    "where embedding_size equals hidden_size: choose another hidden_size."
                )

    def build(self) -> PreTrainedModel:
        """Make the model, as transformers makes one from a file: in evaluation mode, tied weights tied, those that
        the draft lacks initialised and named in a warning; sharded from the start under ZeRO-3.

        Raises:
            ValueError: the architecture can't run at these sizes.
        """
        # DeepSpeed broadcasts weights as bytes, which those of a transposed layout can't be seen as.
        layout = {"copy": True, "memory_format": torch.contiguous_format}
        tensors = {
            name: tensor.detach().to("cpu", torch.float32 if tensor.is_floating_point() else tensor.dtype, **layout)
            for name, tensor in self.tensors.items()
        }
        student = self.architecture.from_pretrained(None, config=self.config, state_dict=tensors, dtype=torch.float32)
        # transformers would write the path that there isn't into the configuration, as "None".
        student.name_or_path = student.config.name_or_path = ""
        self._try_out(student)
        return student

    def _try_out(self, student: PreTrainedModel) -> None:
        """Run a few tokens: some architectures reject sizes no sooner (rotary positions need heads of even size)."""
        try:
            with gathered(student):
                first_output(student, probe_tokens(student))
        except ValueError as error:
            hint = f"{error.__cause__}. Heads of another size may do: rotary positions, for one, need an even size"
            raise ValueError(self._rejection(hint)) from error.__cause__

    def _rejection(self, reason: Exception | str) -> str:
        return (
            f"{self.architecture.__name__} rejects num_hidden_layers={self.config.num_hidden_layers}, "
            f"hidden_size={self.config.hidden_size}, num_attention_heads={self.config.num_attention_heads}: {reason}"
        )
