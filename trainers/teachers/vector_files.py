"""Writes texts and their vectors as Parquet files, which replace a teacher in later runs."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from accelerate import PartialState
from datasets import Dataset
from transformers.utils import logging

from ...data import VECTORS, fingerprint_sentence_encoder, replace_files, sweep, text_digest
from ...modeling import release_memory
from ...modeling.encoding import SentenceEncoder, refuse_block_sparse
from .cache_files import StaleCacheError

logger = logging.get_logger(__name__)

ROWS_PER_PART = 16_384
# Key in the metadata of each part, for a hash of all that the parts depend on.
_SEAL = b"retort"


def write_vectors(
    encoder: SentenceEncoder,
    texts: Dataset | Sequence[str],
    folder: str | Path,
    *,
    prompt_name: str | None = None,
    prompt: str | None = None,
    batch_size: int = 64,
    rows_per_part: int = ROWS_PER_PART,
) -> list[Path]:
    """Write the vectors of texts, or continue an interrupted run. The parts are divided among the ranks.

    Args:
        encoder: computes the vectors, in its own dtype and on its own device.
        texts: dataset with a column `text`, or texts.
        folder: a new folder, or one with parts of the same encoder, prompt and texts.
        prompt_name, prompt: prefix of every text (see `SentenceEncoder.encode`). The texts are written without it.
        batch_size: texts of a forward pass.
        rows_per_part: rows per file, which is also the largest loss by an interruption.

    Returns:
        The files in the order of the texts: `part-00000.parquet` with the columns `text` and `teacher_embedding`
        (float32), for `read_vectors(folder)` or any reader of Parquet.

    Raises:
        StaleCacheError: the folder has other parts.
        ValueError: there is no prompt of this name, or the encoder has block-sparse attention.
    """
    refuse_block_sparse(encoder.model, "a teacher")
    if isinstance(texts, str | Mapping):
        raise TypeError(
            f"texts must be a list of texts, or a Dataset with a column text, but got {type(texts).__name__}."
        )
    if not isinstance(texts, Dataset):
        texts = Dataset.from_dict({"text": list(texts)})
    state = PartialState(cpu=encoder.model.device.type == "cpu")
    folder = Path(folder)
    prompt = encoder.modules.prompt(prompt_name) if prompt is None else prompt
    starts = range(0, len(texts), rows_per_part)
    files = [folder / f"part-{number:05d}.parquet" for number in range(len(starts))]
    seal = _seal_of(encoder, texts, prompt, rows_per_part)
    finished = sorted(folder.glob("*.parquet"))
    for file in finished:
        if file not in files or (pq.read_schema(file).metadata or {}).get(_SEAL) != seal:
            raise StaleCacheError(
                f"{file} has vectors of another encoder, with another prompt or of other texts. Name another folder, "
                "or delete this one."
            )
    if state.is_main_process:
        folder.mkdir(parents=True, exist_ok=True)
        sweep(folder)
    state.wait_for_everyone()
    for number in range(len(files))[state.process_index :: state.num_processes]:
        if files[number] in finished:
            continue
        part = texts[starts[number] : starts[number] + rows_per_part]["text"]
        logger.info("Vectors, part %d of %d: %d texts", number + 1, len(files), len(part))
        made = encoder.encode(part, prompt=prompt, batch_size=batch_size, progress=True).numpy()
        flat = pa.array(made.reshape(-1))
        columns = {"text": pa.array(part, pa.string()), VECTORS: pa.FixedSizeListArray.from_arrays(flat, made.shape[1])}
        with replace_files(folder) as staging:
            table = pa.table(columns).replace_schema_metadata({_SEAL: seal})
            pq.write_table(table, staging / files[number].name, write_page_checksum=True)
        release_memory()
    state.wait_for_everyone()
    return files


def _seal_of(encoder: SentenceEncoder, texts: Dataset, prompt: str, rows_per_part: int) -> bytes:
    """SHA-256 of all that the parts depend on."""
    settings = [fingerprint_sentence_encoder(encoder), prompt, encoder.max_length, rows_per_part, len(texts)]
    digest = hashlib.sha256(json.dumps(settings).encode())
    for batch in texts.select_columns("text").iter(batch_size=10_000):
        digest.update(b"".join(text_digest(text).to_bytes(8, "little") for text in batch["text"]))
    return digest.hexdigest().encode()
