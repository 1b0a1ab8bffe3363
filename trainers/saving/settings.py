"""The settings of a run in its checkpoints. A run with other settings doesn't resume from them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import datasets
from transformers import PreTrainedModel

from ...data import ROW_COLUMNS, fingerprint_rows, write_json
from ...modeling import parameter_count
from ..arguments import DistillTrainingArguments, that_change_weights

SETTINGS_FILE = "settings.json"
# A run may be made longer, and its steps may be divided into other micro-batches.
_FREE = {
    *("num_train_epochs", "max_steps", "ignore_data_skip"),
    *("per_device_train_batch_size", "gradient_accumulation_steps", "tokens_per_batch"),
}
_MOST_NAMED = 5


def settings_of(args: DistillTrainingArguments, student: PreTrainedModel, rows: Any) -> dict[str, Any]:
    """What a run's training depends on, except for its length and its teacher, as JSON has it."""
    # A resumed run may load another checkpoint at its end, such as the best one.
    arguments = that_change_weights(args.to_dict() | {"load_best_model_at_end": False})
    settings = {name: value for name, value in arguments.items() if name not in _FREE}
    if args.tokens_per_batch:
        settings["tokens_per_step"] = args.tokens_per_batch * args.gradient_accumulation_steps * args.world_size
    else:
        settings["rows_per_step"] = args.rows_per_step
    settings["student"] = f"{type(student).__name__} with {parameter_count(student)} weights"
    if isinstance(rows, datasets.Dataset):
        settings["train_dataset"] = f"{len(rows)} rows ({fingerprint_rows(rows, *ROW_COLUMNS)[:8]})"
    return json.loads(json.dumps(settings, default=str))


def write_settings(folder: Path, settings: Mapping[str, Any]) -> None:
    """Write a run's settings into its checkpoint."""
    write_json(folder / SETTINGS_FILE, settings)


def check_settings(checkpoint: Path, settings: Mapping[str, Any]) -> None:
    """Refuse to resume from the checkpoint of a run with other settings.

    Raises:
        ValueError: with the settings that differ.
    """
    written = json.loads((checkpoint / SETTINGS_FILE).read_text(encoding="utf-8"))
    names = [name for name in {**settings, **written} if settings.get(name) != written.get(name)]
    if names:
        differing = [f"{name}={settings.get(name)} (was {written.get(name)})" for name in names[:_MOST_NAMED]]
        more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
        raise ValueError(
            f"{checkpoint} is from a run with other settings: {', '.join(differing)}{more}. Resume with the same "
            f"settings. For a new run, name another output_dir, or remove the checkpoints in {checkpoint.parent}."
        )
