"""Caches teacher outputs on disk, in shards of Arrow columns that are added to the dataset.

A cache folder contains the manifest `cache.json`, which describes what the cache was made from. For each shard it has
an Arrow file, and a small JSON file with the checksums of the shard and of the manifest, which is written when the
shard is complete. An interrupted run continues with the next shard. The shards are divided among the ranks. A cache of
another teacher, other outputs or other text is refused.
"""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import send_to_device
from datasets import Dataset, Features, List, Value, concatenate_datasets
from torch import Tensor
from transformers.utils import logging

from ...collators import Batch
from ...data import fingerprint_rows, replace_files, sha256_of, sweep, write_json
from ...modeling import is_row_wise, release_memory
from ...modeling.encoding import EncoderOutput, OutputRequest, TokenLayout
from ..objectives import Dimensions
from .cache_files import (
    MANIFEST_FILE,
    check_manifest,
    check_shards_without_manifest,
    open_shard,
    read_manifest,
    seal_of,
    shard_files,
)
from .live import LiveTeacher, fingerprint_teacher

logger = logging.get_logger(__name__)

PREFIX = "teacher_"
ROWS_PER_SHARD = 16_384
BATCHES_AT_ONCE = 8  # sorted by length together. With 32, memory was 1.5 times as large, and time was the same
_SINGLE = ("embedding", "logits", "features")
_LAYERED = {
    "hidden_state": "hidden_states",
    "query": "queries",
    "key": "keys",
    "value": "values",
    "attention": "attentions",
}


class CachedTeacher:
    """Reads the outputs that `cache_teacher` wrote from the columns of the batch.

    Args:
        folder: one cache of the run.
        live: teacher for rows without cached outputs, such as a test set. It is kept in CPU memory until it is used.
    """

    WITHOUT_OUTPUTS = (
        "These rows have no cached outputs of the teacher. With teacher_cache=..., pass every dataset to the trainer "
        "when it is created (eval_dataset may be a dict of several), or pass the teacher, too."
    )

    def __init__(self, folder: str | Path, live: LiveTeacher | None = None):
        self.live = live
        for model in live.models if live else ():
            model.to("cpu")
        dimensions = read_manifest(Path(folder))["dimensions"]
        self.dimensions = Dimensions(**dimensions | {"labels": tuple(dimensions["labels"])})

    def check_columns(self, columns: Iterable[str], name: str, *, joined: bool) -> None:
        """Refuse rows with these columns if the teacher's outputs are missing, or perhaps another teacher's.

        Args:
            columns: names of the columns of a dataset.
            name: the dataset's name in messages.
            joined: whether the trainer itself added the columns of the cache.
        """
        kinds = tuple(f"{PREFIX}{kind}" for kind in (*_SINGLE, *_LAYERED))
        cached = sorted(column for column in columns if column.startswith(kinds))
        if not cached and self.live is None:
            raise ValueError(f"The {name} rows: {self.WITHOUT_OUTPUTS}")
        if cached and self.live is not None and not joined:
            raise ValueError(
                f"The {name} rows hold a teacher's outputs ({', '.join(cached)}) that this trainer has not added. "
                "Remove these columns: the teacher computes them. Or pass the rows when the trainer is created."
            )

    def outputs(self, batch: Batch) -> EncoderOutput:
        """The teacher's outputs for one batch: the inverse of `_columns_of`."""
        columns = batch.teacher_outputs
        if not columns and self.live is None:
            raise ValueError(self.WITHOUT_OUTPUTS)
        if not columns:
            for model in self.live.models:
                model.to(batch.layout.lengths.device)
            return self.live.outputs(batch)
        output = EncoderOutput(**{name: columns.get(name) for name in _SINGLE})
        for name, tensor in columns.items():
            kind, _, layer = name.rpartition("_")
            if kind in _LAYERED:
                getattr(output, _LAYERED[kind])[int(layer)] = tensor
        return output


def _columns_of(output: EncoderOutput) -> dict[str, Tensor]:
    """Name of a column of the cache (without the prefix) -> tensor of an output."""
    columns = {name: tensor for name in _SINGLE if (tensor := getattr(output, name)) is not None}
    for column, name in _LAYERED.items():
        columns |= {f"{column}_{layer}": tensor for layer, tensor in getattr(output, name).items()}
    return columns


def cache_teacher(
    teacher: LiveTeacher,
    dataset: Dataset,
    folder: str | Path,
    *,
    collator: Callable[[list[dict]], Batch],
    device: torch.device | str = "cpu",
    dtype: str = "float16",
    batch_size: int = 64,
    rows_per_shard: int = ROWS_PER_SHARD,
) -> Dataset:
    """Write a teacher's outputs for every row of a tokenised dataset, or continue an interrupted cache.

    Args:
        teacher: the teacher, with the request of the outputs.
        dataset: tokenised rows. The outputs are those for `teacher_input_ids`, or for `input_ids` if there are none.
        folder: folder of the cache. Must be new, or have a cache of the same teacher, outputs and text.
        collator: makes the teacher's batches.
        device: device of the teacher.
        dtype: dtype on disk, `"float16"` or `"float32"`.
        batch_size: rows of a forward pass. Rows of similar length are batched together.
        rows_per_shard: rows per file, which is also the largest loss by an interruption.

    Returns:
        The memory-mapped columns, in the order of the rows of `dataset`.

    Raises:
        StaleCacheError: the folder has another cache.
    """
    folder = Path(folder)
    # Without `cpu=True`, ranks on a machine without a GPU don't find each other, and would all write every shard.
    state = PartialState(cpu=torch.device(device).type == "cpu")
    manifest = describe_cache(teacher, dataset, dtype, rows_per_shard)
    files = shard_files(folder, len(dataset), rows_per_shard)
    seal = seal_of(manifest)
    if (folder / MANIFEST_FILE).exists():
        check_manifest(folder, manifest)
    else:
        check_shards_without_manifest(folder, seal)
        state.wait_for_everyone()
        if state.is_main_process:
            folder.mkdir(parents=True, exist_ok=True)
            write_json(folder / MANIFEST_FILE, manifest)
    if state.is_main_process:
        sweep(folder)
    state.wait_for_everyone()

    def outputs(columns: dict[str, list]) -> dict[str, list[np.ndarray]]:
        rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        return _outputs_of_rows(teacher, rows, collator, device, dtype, batch_size)

    for index in range(len(files))[state.process_index :: state.num_processes]:
        if not files[index].with_suffix(".json").exists():
            rows = dataset.select(range(index * rows_per_shard, min((index + 1) * rows_per_shard, len(dataset))))
            part = f"Teacher outputs, part {index + 1} of {len(files)}"
            logger.info(f"{part}: {len(rows)} rows")
            _write_shard(rows, outputs, files[index], dtype, seal, batch_size=BATCHES_AT_ONCE * batch_size, desc=part)
            release_memory()  # otherwise batches of many sizes fragment the heap, and the process keeps growing
    state.wait_for_everyone()
    return open_cache(folder, teacher.request, dataset)


def check_cache(folder: Path, description: dict[str, Any]) -> None:
    """Refuse the cache of something else than what `describe_cache` described, if there is one in the folder.

    Raises:
        StaleCacheError: there is.
    """
    if (folder / MANIFEST_FILE).exists():
        check_manifest(folder, description)


def open_cache(folder: str | Path, request: OutputRequest, dataset: Dataset) -> Dataset:
    """Open a complete cache for a dataset.

    Raises:
        FileNotFoundError: there is no cache, or it is not complete.
        StaleCacheError: the cache is for other rows or other outputs.
        CorruptCacheError: a file is missing or was changed.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    wanted = {"text": fingerprint_rows(dataset), "rows": len(dataset), "outputs": _describe(request)}
    check_manifest(folder, wanted)
    files = shard_files(folder, manifest["rows"], manifest["rows_per_shard"])
    missing = [file for file in files if not file.with_suffix(".json").exists()]
    if missing:
        raise FileNotFoundError(
            f"The teacher cache {folder} is not complete: {len(missing)} of {len(files)} shards are missing, from "
            f"{missing[0].stem}.json on. Run the same command again with the teacher to complete it."
        )
    return concatenate_datasets([open_shard(file) for file in files])


def describe_cache(
    teacher: LiveTeacher, dataset: Dataset, dtype: str, rows_per_shard: int = ROWS_PER_SHARD
) -> dict[str, Any]:
    """All that the files of a cache depend on (see `cache_teacher`), as its manifest has it."""
    return {
        "teacher": [fingerprint_teacher(encoder, pools=bool(teacher.request.pooler)) for encoder in teacher.encoders],
        "weights": teacher.weights,
        "precision": [str(teacher.precision_of(model)) for model in teacher.models],
        "outputs": _describe(teacher.request),
        "text": fingerprint_rows(dataset),
        "rows": len(dataset),
        "rows_per_shard": rows_per_shard,
        "dtype": dtype,
        "dimensions": asdict(teacher.dimensions) | {"labels": list(teacher.dimensions.labels)},
    }


def _describe(request: OutputRequest) -> dict:
    return {name: sorted(value) if isinstance(value, frozenset) else value for name, value in asdict(request).items()}


def _write_shard(rows: Dataset, outputs: Callable, file: Path, dtype: str, seal: str, **map_arguments) -> None:
    """Write the outputs for some rows, and a JSON file with the checksums, which marks the shard as complete."""
    first = outputs(rows[:1])
    with replace_files(file.parent) as staging:
        made = staging / file.name
        rows.map(
            outputs,
            batched=True,
            remove_columns=rows.column_names,
            features=Features({name: _feature(values[0], dtype) for name, values in first.items()}),
            cache_file_name=str(made),
            load_from_cache_file=False,
            # Avoids hashing `outputs`, and with it the teacher.
            new_fingerprint=hashlib.sha256(file.name.encode()).hexdigest()[:16],
            **map_arguments,
        )
        write_json(made.with_suffix(".json"), {"rows": len(rows), "sha256": sha256_of(made), "cache": seal})


def _outputs_of_rows(teacher, features, collator, device, dtype, batch_size) -> dict[str, list[np.ndarray]]:
    """The teacher's outputs for some rows, in their order. They are computed in batches of similar length."""
    read = "teacher_input_ids" if "teacher_input_ids" in features[0] else "input_ids"
    order = sorted(range(len(features)), key=lambda i: len(features[i][read]))
    results: dict[str, list] = {}
    row_wise = {"embedding", "logits", "features"} if is_row_wise(teacher.models[0]) else {"embedding"}
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        batch = send_to_device(collator([features[i] for i in chosen]), device)
        _, layout = batch.of_teacher
        places = chosen if batch.order is None else [chosen[i] for i in batch.order.tolist()]
        for name, tensor in _columns_of(teacher.outputs(batch)).items():
            column = results.setdefault(PREFIX + name, [None] * len(features))
            for place, row in zip(places, _split_rows(tensor, layout, name, row_wise), strict=True):
                column[place] = _stored(row, name, dtype)
    return results


def _stored(row: Tensor, name: str, dtype: str) -> np.ndarray:
    stored = row.to(getattr(torch, dtype)).cpu().numpy()
    if not np.isfinite(stored).all():
        way_out = "Check the teacher and its teacher_dtype."
        if row.isfinite().all():
            way_out = f"They are too large for {dtype}: set teacher_cache_dtype=float32."
        raise ValueError(f"The teacher's outputs ({name}) are not finite in the cache. {way_out}")
    return stored


def _split_rows(tensor: Tensor, layout: TokenLayout, name: str, row_wise: set[str]) -> Iterable[Tensor]:
    if name in row_wise:
        return tensor
    if name.startswith("attention_"):
        return [maps[:, :length, :length] for maps, length in zip(tensor, layout.lengths.tolist(), strict=True)]
    return tensor.split(layout.lengths.tolist())


def _feature(row: np.ndarray, dtype: str) -> List:
    """Type of a column. Vectors have a fixed width, but the number of tokens of a row varies."""
    value: List | Value = List(Value(dtype), length=row.shape[-1] if row.ndim < 3 else -1)
    for _ in range(row.ndim - 1):
        value = List(value)
    return value
