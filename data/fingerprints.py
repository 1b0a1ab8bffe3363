"""Fingerprints of models, texts, files and rows."""

import hashlib
import json
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from datasets import Dataset
from torch import nn
from transformers.utils import cached_file

from ..modeling.encoding import SentenceEncoder, as_sentence_encoder

# Columns of tokenized rows that a run reads, besides the teacher's tokens and outputs.
ROW_COLUMNS = tuple("input_ids members token_type_ids labels scores student_positions spans teacher_spans".split())
# Configuration files of a model, of adapters, and of a SentenceTransformer and its modules.
_ROUTER_FILE = "router_config.json"
_CONFIG_FILES = (
    "config.json",
    "adapter_config.json",
    "modules.json",
    "config_sentence_transformers.json",
    "sentence_*_config.json",
    _ROUTER_FILE,
)
# Files of weights, sharded or not, and files with the same suffixes in the folder of a Trainer that hold no weights.
_WEIGHTS = ("*.safetensors", "*.bin")
_NO_WEIGHTS = ("training_args.bin", "optimizer.bin", "scheduler.bin", "heads.safetensors", "queue.safetensors")
# Columns of the token ids that a teacher reads: with its own tokenizer, or with the student's, for texts or for groups
# of texts.
_TEACHER_TOKENS = ("teacher_input_ids", "teacher_token_type_ids")
_TOKENS = ("input_ids", "members", "token_type_ids")
# Configuration entries that don't affect a model's outputs.
_PROVENANCE = ("_name_or_path", "transformers_version", "dtype", "__version__", "similarity_fn_name")


def fingerprint_model(model: torch.nn.Module) -> str:
    """SHA-256 of a model's weights, with their names, shapes and dtypes, and of its configuration.

    The configuration is included since the outputs also depend on it, for instance on how often layers run.
    """
    digest = hashlib.sha256(type(model).__name__.encode())
    if hasattr(model, "config"):
        digest.update(_settings(model.config.to_dict()))
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def fingerprint_sentence_encoder(encoder: SentenceEncoder) -> str:
    """SHA-256 of everything that an embedding of a row's tokens depends on: encoder, pooling and further modules."""
    modules, pooling = encoder.modules, encoder.pooling()
    settings = [*pooling.modes, modules.prompt(), pooling.skipped, modules.truncate_dim]
    # Activations have no weights: the head's repr names them.
    parts = [fingerprint_model(encoder.model), *map(str, settings), repr(modules.head), fingerprint_model(modules.head)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def fingerprint_rows(dataset: Dataset, *further: str) -> str:
    """SHA-256 of the token ids that the teacher reads, row by row. It changes with the texts and with the tokenizer.

    Args:
        dataset: tokenized rows.
        further: other columns to include, if they exist.

    Raises:
        ValueError: the rows have no token ids.
    """
    digest = hashlib.sha256()
    present = set(dataset.column_names)
    own = present.intersection(_TEACHER_TOKENS)
    columns = [name for name in (_TEACHER_TOKENS if own else _TOKENS) if name in present]
    if not columns:
        raise ValueError(
            f"The rows have the columns {', '.join(dataset.column_names)}, but no token ids. Call tokenize(), "
            "tokenize_groups() or tokenize_spans() first."
        )
    columns = list(dict.fromkeys([*columns, *(name for name in further if name in present)]))
    for rows in dataset.select_columns(columns).with_format("arrow").iter(batch_size=10_000):
        for column in columns:
            values = rows[column]
            while pa.types.is_nested(values.type):
                digest.update(pc.list_value_length(values).cast("int64").to_numpy())
                values = pc.list_flatten(values)
            kind = "float64" if pa.types.is_floating(values.type) else "int64"
            digest.update(np.ascontiguousarray(values.cast(kind).to_numpy()))
    return digest.hexdigest()


def fingerprint_source(source: nn.Module | SentenceEncoder | str | os.PathLike | None) -> str | None:
    """Fingerprint of a teacher: of a model or folder, the hash of its weights and settings; of a hub id, its commit.

    The modules, prompts and truncation of sentence-transformers models are included.

    Raises:
        FileNotFoundError: a folder holds no weights.
        ValueError: a `SentenceTransformer` has modules that retort doesn't support.
    """
    if source is None:
        return None
    source = as_sentence_encoder(source)
    if isinstance(source, SentenceEncoder):
        return fingerprint_sentence_encoder(source)
    if isinstance(source, nn.Module):
        return fingerprint_model(source)
    if Path(source).is_dir():
        return _fingerprint_folder(Path(source))
    # <cache>/snapshots/<commit>/config.json
    return f"{source}@{Path(cached_file(str(source), 'config.json')).parent.name}"


def _fingerprint_folder(folder: Path) -> str:
    """SHA-256 of the weights and settings in a folder, including a SentenceTransformer's other modules."""
    digest, found = hashlib.sha256(), False
    for part in [folder, *_modules(folder)]:
        files = sorted({file for pattern in _WEIGHTS for file in part.glob(pattern) if file.name not in _NO_WEIGHTS})
        found = found or bool(files)
        digest.update("".join(map(sha256_of, files)).encode())
        for config in (file for name in _CONFIG_FILES for file in sorted(part.glob(name))):
            digest.update(_settings(json.loads(config.read_text(encoding="utf-8"))))
    if not found:
        raise FileNotFoundError(f"{folder} holds no weights (no file *.safetensors or *.bin).")
    return digest.hexdigest()


def _modules(folder: Path) -> list[Path]:
    """The subfolders of a SentenceTransformer's modules in order; for a Router, those of all routes."""
    listed = folder / "modules.json"
    if not listed.is_file():
        return []
    paths = [folder / module.get("path", "") for module in json.loads(listed.read_text(encoding="utf-8"))]
    routers = [path / _ROUTER_FILE for path in paths if (path / _ROUTER_FILE).is_file()]
    routed = [file.parent / name for file in routers for name in json.loads(file.read_text(encoding="utf-8"))["types"]]
    return [path for path in (*paths, *routed) if path != folder]


def _settings(config: Mapping[str, Any] | list[Any]) -> bytes:
    """A configuration as bytes, without the entries in `_PROVENANCE`."""
    if isinstance(config, Mapping):
        config = {name: value for name, value in config.items() if name not in _PROVENANCE}
    return json.dumps(config, sort_keys=True, default=str).encode()


def fingerprint(*parts: Any) -> str:
    """The fingerprint of a result in datasets' cache. It is the same in every process and changes with any input.

    Args:
        parts: the inputs of the result: datasets, arrays and JSON values. The code of this folder is included.
    """

    def described(part: Any) -> Any:
        return part._fingerprint if isinstance(part, Dataset) else hashlib.sha256(part.tobytes()).hexdigest()

    text = json.dumps([parts, _code()], default=described)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@cache
def _code() -> list[str]:
    folder = Path(__file__).parent
    return [sha256_of(file) for file in sorted(folder.rglob("*.py"))]


def sha256_of(file: Path) -> str:
    """SHA-256 of a file's bytes."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def text_digest(text: str) -> int:
    """A hash of a text of eight bytes. Ten million texts have a collision with a probability of 3e-6."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
