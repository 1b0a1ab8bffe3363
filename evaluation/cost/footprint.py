"""What a model costs in parameters and megabytes."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from ...modeling import parameter_count

BYTES_PER_FLOAT32 = 4


@dataclass(frozen=True)
class Footprint:
    """Size of a model.

    Attributes:
        parameters: all, those that modules share counted once.
        parameters_without_embeddings: those outside the embedding tables (words, positions, token types).
        megabytes: 10^6 bytes, of its tensors in float32, as in `model.safetensors` (whose header adds some kB), or of
            the file that it was exported to.
    """

    parameters: int
    parameters_without_embeddings: int
    megabytes: float

    @classmethod
    def of(cls, model: nn.Module) -> Footprint:
        """Measure a model without writing it."""
        # Not `PreTrainedModel.num_parameters(exclude_embeddings=True)`: it goes by name, and counts a word table that
        # is tied to a head under the head's name among the others (XLM-R with a masked-LM head).
        tables = [module.weight for module in model.modules() if isinstance(module, nn.Embedding)]
        embeddings = sum(table.numel() for table in {id(table): table for table in tables}.values())
        parameters = parameter_count(model)
        size = BYTES_PER_FLOAT32 * parameters + _buffer_bytes(model)
        return cls(parameters, parameters - embeddings, size / 1e6)

    @classmethod
    def of_file(cls, path: str | os.PathLike, model: nn.Module) -> Footprint:
        """Measure a file that holds `model` in another format, such as ONNX: its bytes, and the model's parameters.

        Raises:
            FileNotFoundError: there is no such file.
        """
        return replace(cls.of(model), megabytes=Path(path).stat().st_size / 1e6)


def _buffer_bytes(model: nn.Module) -> int:
    """Bytes of the buffers that are saved, floating-point ones in float32."""
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    buffers = [tensor for name, tensor in model.state_dict().items() if name not in parameters]
    return sum(b.numel() * (BYTES_PER_FLOAT32 if b.is_floating_point() else b.element_size()) for b in buffers)
