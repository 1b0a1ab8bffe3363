"""Size of a model in parameters and megabytes."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from ...modeling import StaticModel, parameter_count
from ...modeling.encoding import SentenceEncoder

BYTES_PER_FLOAT32 = 4


@dataclass(frozen=True)
class Footprint:
    """Size of a model.

    Attributes:
        parameters: number of all parameters; shared ones are counted once.
        parameters_without_embeddings: number of parameters outside the embedding tables (words, positions, token
            types).
        megabytes: size in 10^6 bytes: of the float32 tensors, as in `model.safetensors` (whose header adds some kB), or
            of the exported file.
    """

    parameters: int
    parameters_without_embeddings: int
    megabytes: float

    @classmethod
    def of(cls, model: nn.Module | SentenceEncoder) -> Footprint:
        """Measure a model without saving it; a `SentenceEncoder` with the modules after its pooler."""
        if isinstance(model, SentenceEncoder):
            model = nn.ModuleList([model.model, model.modules.head])
        # `PreTrainedModel.num_parameters(exclude_embeddings=True)` goes by names, so it counts word embeddings that are
        # tied to a head (XLM-R with a masked-LM head) as other parameters.
        tables = [module.weight for module in model.modules() if isinstance(module, nn.Embedding)]
        tables += [module.embeddings for module in model.modules() if isinstance(module, StaticModel)]
        embeddings = sum(table.numel() for table in {id(table): table for table in tables}.values())
        parameters = parameter_count(model)
        size = BYTES_PER_FLOAT32 * parameters + _buffer_bytes(model)
        return cls(parameters, parameters - embeddings, size / 1e6)

    @classmethod
    def of_file(cls, path: str | os.PathLike, model: nn.Module) -> Footprint:
        """Measure an exported file of `model`, such as ONNX: the file's size and the model's parameters.

        Raises:
            FileNotFoundError: there is no such file.
        """
        return replace(cls.of(model), megabytes=Path(path).stat().st_size / 1e6)


def _buffer_bytes(model: nn.Module) -> int:
    """Size in bytes of the saved buffers, with floating-point buffers in float32."""
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    buffers = [tensor for name, tensor in model.state_dict().items() if name not in parameters]
    return sum(b.numel() * (BYTES_PER_FLOAT32 if b.is_floating_point() else b.element_size()) for b in buffers)
