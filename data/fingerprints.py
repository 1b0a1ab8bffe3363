"""Names of texts, files and rows that change when they do."""

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

# Of a model, of adapters for one, and of a SentenceTransformer and its parts: prompts, lengths, routes.
_ROUTER_FILE = "router_config.json"
_CONFIG_FILES = (
    "config.json",
    "adapter_config.json",
    "modules.json",
    "config_sentence_transformers.json",
    "sentence_*_config.json",
    _ROUTER_FILE,
)
# Files of weights, in one piece or in shards, and what else has these endings, in the folder of a Trainer.
_WEIGHTS = ("*.safetensors", "*.bin")
_NO_WEIGHTS = ("training_args.bin", "optimizer.bin", "scheduler.bin", "heads.safetensors", "queue.safetensors")
# The token ids that a teacher reads: where it has a tokenizer of its own, and where it reads the student's, of texts
# or of groups of texts.
_TEACHER_TOKENS = ("teacher_input_ids", "teacher_token_type_ids")
_TOKENS = ("input_ids", "members", "token_type_ids")
# What a configuration says of how it came about, or of how to use outputs, and not of what the model computes.
_PROVENANCE = ("_name_or_path", "transformers_version", "dtype", "__version__", "similarity_fn_name")


def fingerprint_model(model: torch.nn.Module) -> str:
    """SHA-256 of a model's weights, their names, shapes and number format, and of its configuration.

    The same weights compute something else with another configuration: layers that are run more often, for one.
    """
    digest = hashlib.sha256(type(model).__name__.encode())
    if hasattr(model, "config"):
        digest.update(_settings(model.config.to_dict()))
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def fingerprint_sentence_encoder(encoder: SentenceEncoder) -> str:
    """SHA-256 of all that makes an embedding of a row's tokens: the encoder, its pooling and what comes after it."""
    modules, pooling = encoder.modules, encoder.pooling()
    settings = [*pooling.modes, modules.prompt(), pooling.skipped, modules.truncate_dim]
    # Activations have no weights: the head's repr names them.
    parts = [fingerprint_model(encoder.model), *map(str, settings), repr(modules.head), fingerprint_model(modules.head)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def fingerprint_rows(dataset: Dataset, *further: str) -> str:
    """SHA-256 of the token ids that the teacher reads, row by row: it tells both another text and another tokenizer.

    Args:
        dataset: tokenised rows.
        further: other columns that count, where there are such.

    Raises:
        ValueError: there are no token ids, by which rows could be told from others.
    """
    digest = hashlib.sha256()
    present = set(dataset.column_names)
    own = present.intersection(_TEACHER_TOKENS)
    columns = [name for name in (_TEACHER_TOKENS if own else _TOKENS) if name in present]
    if not columns:
        raise ValueError(
            f"The rows have the columns {', '.join(dataset.column_names)}, and no token ids. Call tokenize(), "
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
    """A name of a teacher: of a model, its own; of a folder, that of its weights and settings; of a hub id, its commit.

    The modules, prompts and truncation of a `SentenceEncoder`, a `SentenceTransformer` or the folder of one count.

    Raises:
        FileNotFoundError: a folder holds no weights.
        ValueError: a `SentenceTransformer` with modules that retort doesn't run.
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
    """SHA-256 of the weights and settings in a folder, and of those of a SentenceTransformer's further modules."""
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
    """The folders of a SentenceTransformer's modules, in their order, without its own; of a Router all routes'."""
    listed = folder / "modules.json"
    if not listed.is_file():
        return []
    paths = [folder / module.get("path", "") for module in json.loads(listed.read_text(encoding="utf-8"))]
    routers = [path / _ROUTER_FILE for path in paths if (path / _ROUTER_FILE).is_file()]
    routed = [file.parent / name for file in routers for name in json.loads(file.read_text(encoding="utf-8"))["types"]]
    return [path for path in (*paths, *routed) if path != folder]


def _settings(config: Mapping[str, Any] | list[Any]) -> bytes:
    """A configuration as bytes, without where it comes from."""
    if isinstance(config, list):
        return json.dumps(config, sort_keys=True).encode()
    told = {name: value for name, value in config.items() if name not in _PROVENANCE}
    return json.dumps(told, sort_keys=True, default=str).encode()


def fingerprint(*parts: Any) -> str:
    """The name that datasets' cache keeps a result under: the same in every process, another once anything changes.

    Args:
        parts: what the result is made of: datasets, arrays, and whatever JSON can hold. The code of this folder, by
            which it is made, counts, too.
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
    """Eight bytes that stand for a text: among ten million texts two share theirs with a probability of 3e-6."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
