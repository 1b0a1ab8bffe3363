"""What a Trainer needs so that a student with heads survives kills, ranks and ZeRO, and leaves as a stock folder."""

from __future__ import annotations

import os
from pathlib import Path

import datasets
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.data import Sampler, SequentialSampler
from transformers import PreTrainedModel, Trainer
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, rotate_checkpoints

from ..modeling.distillation_model import DistillationModel
from .sampler import LengthGroupedSampler
from .storage import checkpoint_in_progress, replace_files, write_text

HEADS_FILE = "heads.safetensors"
ARGUMENTS_FILE = "training_args.json"


class StudentTrainer(Trainer):
    """A Trainer whose `model` is a `DistillationModel` and whose exports are the student alone.

    Checkpoints hold the student as a stock folder, the heads beside it, and appear whole or not at all.
    """

    model: DistillationModel

    @property
    def student(self) -> PreTrainedModel:
        """The model being trained, without its heads."""
        return self.model.student

    def export_extras(self, folder: Path, heads: dict[str, Tensor]) -> None:
        """Add to an exported student what others need to load it. `heads` are the heads' weights by name."""

    # --- Saving -------------------------------------------------------------------------------------------------------

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None) -> None:
        if not self.args.should_save:
            return
        # Under DeepSpeed the whole state comes gathered from the ranks; otherwise the modules have it.
        state = self.model.state_dict() if state_dict is None else state_dict
        with replace_files(output_dir or self.args.output_dir) as folder:
            self.student.save_pretrained(folder, state_dict=_below(state, "student."))
            if self.processing_class is not None:
                self.processing_class.save_pretrained(folder)
            # Trainer pickles the arguments here. JSON tells the same and is safe to publish.
            write_text(folder / ARGUMENTS_FILE, self.args.to_json_string() + "\n")
            self.export_extras(folder, _below(state, "heads."))

    def _save_checkpoint(self, model, trial) -> None:
        run = self._get_output_dir(trial)
        folder = Path(run) / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        # The parent method also uploads and deletes older checkpoints: neither before this one is complete.
        limit, push = self.args.save_total_limit, self.args.push_to_hub
        self.args.save_total_limit, self.args.push_to_hub = None, False
        try:
            with checkpoint_in_progress(
                folder, is_writer=self.args.should_save, wait_for_everyone=self.accelerator.wait_for_everyone
            ):
                super()._save_checkpoint(model, trial)
        finally:
            self.args.save_total_limit, self.args.push_to_hub = limit, push
        if push:
            self._push_from_checkpoint(str(folder))
        if self.args.should_save:
            best = self.state.best_model_checkpoint
            rotate_checkpoints(output_dir=run, save_total_limit=limit, best_model_checkpoint=best, use_mtime=True)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        # A DeepSpeed engine's checkpoint holds the heads already.
        if self.model.heads and self.args.should_save and not self.is_deepspeed_enabled:
            save_file(self.model.heads.state_dict(), os.path.join(output_dir, HEADS_FILE))

    # --- Loading ------------------------------------------------------------------------------------------------------

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model=None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model=self.student)
        if self.model.heads:
            file = os.path.join(resume_from_checkpoint, HEADS_FILE)
            if not os.path.exists(file):
                raise FileNotFoundError(
                    f"{resume_from_checkpoint} holds no {HEADS_FILE}, without which this run's heads "
                    f"({', '.join(self.model.heads)}) would start anew. It was written with save_only_model=True, or "
                    "by a run with other objectives: start without resume_from_checkpoint."
                )
            self.model.heads.load_state_dict(load_file(file))

    def _load_best_model(self) -> None:
        if self.is_deepspeed_enabled:
            super()._load_best_model()
        else:
            super()._load_from_checkpoint(self.state.best_model_checkpoint, model=self.student)

    # --- The order of the rows ----------------------------------------------------------------------------------------

    def _get_train_sampler(self, train_dataset: datasets.Dataset | None = None) -> Sampler | None:
        dataset = self.train_dataset if train_dataset is None else train_dataset
        if self.args.train_sampling_strategy != "group_by_length" or not isinstance(dataset, datasets.Dataset):
            return super()._get_train_sampler(train_dataset)
        # transformers' own LengthGroupedSampler draws from the global generator and has no set_epoch: a run resumed in
        # a later epoch would see the rows in another order.
        lengths = dataset["length"] if "length" in dataset.column_names else map(len, dataset["input_ids"])
        step = self.args.per_device_train_batch_size * self.args.world_size * self.args.gradient_accumulation_steps
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        return LengthGroupedSampler(list(lengths), step, seed=seed)

    def _get_eval_sampler(self, eval_dataset: datasets.Dataset) -> Sampler | None:
        # Predictions come back in the order of the rows, whatever the order of training.
        return SequentialSampler(eval_dataset) if self.args.world_size <= 1 else None


def _below(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
