"""Names of weights and rows that change when they do."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from datasets import Dataset
from torch import nn
from transformers.utils import cached_file

from ..collators.readers import sha256_of


def fingerprint_model(model: torch.nn.Module) -> str:
    """SHA-256 of a model's weights, their names, shapes and number format."""
    digest = hashlib.sha256(type(model).__name__.encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def fingerprint_rows(dataset: Dataset, *further: str) -> str:
    """SHA-256 of the token ids that the teacher reads, row by row: it tells both another text and another tokenizer.

    Args:
        dataset: tokenised rows.
        further: other columns that count, where there are such.
    """
    digest = hashlib.sha256()
    columns = ["input_ids", "token_type_ids"]
    if "teacher_input_ids" in dataset.column_names:
        columns = ["teacher_input_ids", "teacher_token_type_ids"]
    columns = [name for name in dict.fromkeys([*columns, *further]) if name in dataset.column_names]
    for rows in dataset.select_columns(columns).with_format("arrow").iter(batch_size=10_000):
        for column in columns:
            values = rows[column]
            while pa.types.is_nested(values.type):
                digest.update(pc.list_value_length(values).cast("int64").to_numpy())
                values = pc.list_flatten(values)
            kind = "float64" if pa.types.is_floating(values.type) else "int64"
            digest.update(np.ascontiguousarray(values.cast(kind).to_numpy()))
    return digest.hexdigest()


def fingerprint_source(source: nn.Module | str | os.PathLike | None) -> str | None:
    """A name of a teacher's weights: of a model, its own; of a folder, those of its files; of a hub id, its commit."""
    if source is None:
        return None
    if isinstance(source, nn.Module):
        return fingerprint_model(source)
    if Path(source).is_dir():
        files = sorted(Path(source).glob("*.safetensors"))
        return hashlib.sha256("".join(map(sha256_of, files)).encode()).hexdigest()
    # <cache>/snapshots/<commit>/config.json
    return f"{source}@{Path(cached_file(str(source), 'config.json')).parent.name}"
