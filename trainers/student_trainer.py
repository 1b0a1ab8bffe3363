"""A Trainer that saves, resumes and exports a student with heads, with DDP, ZeRO and FSDP, too."""

import logging
from abc import abstractmethod
from collections.abc import Collection, Mapping
from contextlib import nullcontext
from dataclasses import fields
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

from accelerate.utils import gather_object
from huggingface_hub import HfApi
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import EarlyStoppingCallback, PreTrainedModel
from transformers.integrations.deepspeed import unset_hf_deepspeed_config
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, HubStrategy
from transformers.utils import PushInProgress

from ..data import replace_files, write_text
from ..modeling import DistillationModel, gathered, keep_freed_memory, replaced, stock_classifier, unsharded
from ..modeling.encoding import INT8_RANGES_FILE, attending, packing_obstacle
from ..modeling.losses import BoundedNumber
from .saving import (
    MANIFEST_FILE,
    SETTINGS_FILE,
    CardFacts,
    check_checkpoint,
    check_settings,
    checkpoint_in_progress,
    last_complete_checkpoint,
    may_write_card,
    remove_checkpoints,
    remove_incomplete_checkpoints,
    render_card,
    rotate_checkpoints,
    settings_of,
    was_stopped_early,
    weights_alone,
    write_settings,
)
from .steps import ShardingTrainer, meet_before_leaving

logger = logging.getLogger(__name__)

_ENDED = " Early stopping had ended this run. To train on, pass restore_callback_states_from_checkpoint=False."

HEADS_FILE = "heads.safetensors"
QUEUE_FILE = "queue.safetensors"

# Files of a checkpoint that are not part of the student. They are never published; some are pickles.
_OF_DEEPSPEED = ["global_step*", "latest", "zero_to_fp32.py"]
_STATES = [HEADS_FILE, QUEUE_FILE, TRAINER_STATE_NAME, SETTINGS_FILE, MANIFEST_FILE]
PRIVATE_FILES = ["*.pt", "*.pth", "*.bin", *_STATES, *_OF_DEEPSPEED]


class StudentTrainer(ShardingTrainer):
    """A Trainer whose `model` is a `DistillationModel`. It exports only the student.

    Checkpoints contain the student as a stock folder, and the heads in a separate file. They are written atomically.
    """

    model: DistillationModel
    # Facts for the model card that only the caller knows.
    _card_extras: Mapping[str, object] = MappingProxyType({})

    @property
    def student(self) -> PreTrainedModel:
        """The model being trained, without its heads."""
        return self.model.student

    def export_extras(self, folder: Path, side_weights: dict[str, Tensor]) -> None:
        """Add further files to an exported student. `side_weights` are those of the `DistillationModel`."""

    @abstractmethod
    def card_facts(self) -> CardFacts:
        """Facts for the model card, which is written with every export."""

    def train(self, resume_from_checkpoint: str | bool | None = None, **arguments):
        """Train. Incomplete checkpoints of a killed run are removed first.

        Args:
            resume_from_checkpoint: True for the last complete checkpoint in `output_dir`, or the path of a checkpoint.

        Raises:
            ValueError: there is no complete checkpoint, it was changed or lacks files that a resumed run needs (see
                `check_checkpoint`), or it is from a run with other settings or rows.
        """
        if self.args.should_save:
            remove_incomplete_checkpoints(self.args.output_dir)
        self.accelerator.wait_for_everyone()
        if resume_from_checkpoint is True:
            resume_from_checkpoint = last_complete_checkpoint(self.args.output_dir)
            if resume_from_checkpoint is None:
                raise ValueError(f"{self.args.output_dir} holds no complete checkpoint to resume from.")
        vars(self).pop("_settings", None)  # arguments or rows may have changed since an earlier call
        self._was_stopped = False
        if resume_from_checkpoint:
            self._check_checkpoint(resume_from_checkpoint, self._needed_to_resume(), self._settings)
            self._was_stopped = was_stopped_early(resume_from_checkpoint, self._restored_stoppers())
            if self.is_world_process_zero():
                ended = _ENDED if self._was_stopped else ""
                print(f"Resuming from {resume_from_checkpoint}.{ended}", flush=True)
            self.load_run_state(Path(resume_from_checkpoint))
        try:
            # Checkpointed layers of packed batches run again in the backward pass, outside `encode`.
            runs_again = self.args.activation_checkpointing and packing_obstacle(self.student) is None
            with (
                keep_freed_memory() if self.args.device.type == "cpu" else nullcontext(),
                attending(self.student) if runs_again else nullcontext(),
            ):
                return super().train(resume_from_checkpoint=resume_from_checkpoint, **arguments)
        finally:
            # After training under ZeRO-3, a global setting would shard every model that is loaded later, on all ranks
            # that load it.
            unset_hf_deepspeed_config()

    def _restored_stoppers(self) -> list[EarlyStoppingCallback]:
        """The callbacks of early stopping, if they restore their states."""
        callbacks = self.callback_handler.callbacks if self.args.restore_callback_states_from_checkpoint else ()
        return [each for each in callbacks if isinstance(each, EarlyStoppingCallback)]

    def _needed_to_resume(self) -> list[str]:
        """Files of a checkpoint without which the Trainer would resume without a warning, but not exactly."""
        world = self.args.world_size
        random = [f"rng_state_{rank}.pth" for rank in range(world)] if world > 1 else ["rng_state.pth"]
        return [*random, *self.state_files]

    @cached_property
    def _settings(self) -> dict[str, Any]:
        return settings_of(self.args, self.student, self.train_dataset)

    def _check_checkpoint(
        self, checkpoint: str, needed: Collection[str] = (), settings: Mapping[str, Any] | None = None
    ) -> None:
        """Check a checkpoint in the processes that save; if one of them refuses, all ranks raise its error."""
        refused = None
        if self.args.should_save:
            try:
                check_checkpoint(checkpoint, needed)
                if settings is not None:
                    check_settings(Path(checkpoint), settings)
            except ValueError as error:
                refused = error
        for error in filter(None, gather_object([refused])):
            raise error

    def end(self) -> None:
        """Leave the process group; call it last (see `Trainer.end`)."""
        meet_before_leaving()
        super().end()

    # --- Saving -------------------------------------------------------------------------------------------------------

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None) -> None:
        if not self.args.should_save:
            return
        # Under DeepSpeed and FSDP, `state_dict` is the whole state, gathered from all ranks. Otherwise it is None.
        state = self.model.state_dict() if state_dict is None else self._tied(state_dict)
        self.check_weights(state)
        weights = self.model.student_weights(state)
        target = Path(output_dir or self.args.output_dir)
        with replace_files(target, outdated=[INT8_RANGES_FILE]) as folder:
            with stock_classifier(self.student):
                self.student.save_pretrained(folder, state_dict=weights)
            if self.processing_class is not None:
                self.processing_class.save_pretrained(folder)
            # Trainer would pickle the arguments here. The model card lists those that matter.
            self.export_extras(folder, self.model.side_weights(state))
            if may_write_card(target):
                self._write_card(folder)

    def _tied(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """A gathered state in which tied weights are one tensor again, so that they are saved once."""
        first: dict[Tensor, str] = {}
        names = [(name, each) for name, each in self.model.named_parameters(remove_duplicate=False) if name in state]
        return state | {name: state[first.setdefault(parameter, name)] for name, parameter in names}

    def save_heads(self, folder: Path) -> None:
        """Save the weights that further training needs but an exported student lacks: heads and projectors."""
        weights = self.whole_side_weights()
        if weights and self.args.should_save:
            save_file({name: tensor.cpu() for name, tensor in weights.items()}, folder / HEADS_FILE)

    def whole_side_weights(self) -> dict[str, Tensor]:
        """A copy of the `side_weights`, those of all ranks together. All ranks must call it."""
        with gathered(self.model):
            weights = self.model.side_weights(self.model.state_dict())
            return {name: unsharded(tensor).detach().clone() for name, tensor in weights.items()}

    def _save_checkpoint(self, model, trial) -> None:
        run = self._get_output_dir(trial)
        folder = Path(run) / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        # The parent method also uploads, and deletes older checkpoints. Both must wait until this one is complete.
        later = replaced(self.args, save_total_limit=None, push_to_hub=False)
        is_writer, meet = self.args.should_save, self.accelerator.wait_for_everyone
        with later, checkpoint_in_progress(folder, is_writer=is_writer, wait_for_everyone=meet):
            super()._save_checkpoint(model, trial)
            self.save_run_state(folder)
            if is_writer:
                write_settings(folder, self._settings)
            # The states that DeepSpeed and FSDP save contain the heads already.
            if self.args.save_only_model or not (self.is_deepspeed_enabled or self.is_fsdp_enabled):
                self.save_heads(folder)
        # A checkpoint must not be deleted while it is being uploaded. Older ones then stay until the next save.
        pushing = getattr(self, "push_in_progress", None)
        if self.args.should_save and (pushing is None or pushing.is_done()):
            step, best = self.state.global_step, self.state.best_model_checkpoint
            rotate_checkpoints(run, self.args.save_total_limit, best, step=step)
        if self.args.push_to_hub:
            self._push_from_checkpoint(str(folder))

    def _finalize_training(self, trial, *arguments):
        # If only the best checkpoint is kept, the parent method removes the last one file by file. A killed run would
        # leave an incomplete checkpoint, from which a later run would resume.
        with replaced(self.args, save_total_limit=None):
            output = super()._finalize_training(trial, *arguments)
        keeps_one = self.args.should_save and self.args.save_total_limit == 1
        if keeps_one and (best := self.state.best_model_checkpoint):
            remove_checkpoints(self._get_output_dir(trial), keep=best)
        return output

    def save_run_state(self, folder: Path) -> None:
        """Save further state for resuming into a checkpoint."""

    def load_run_state(self, folder: Path) -> None:
        """Load the state that `save_run_state` wrote."""

    # --- Publishing ---------------------------------------------------------------------------------------------------

    def create_model_card(self, model_name: str | None = None, **facts) -> None:
        """Write the model card into `output_dir`, with additional facts from the caller. A README.md there that isn't a
        model card of retort's is kept, with a warning.

        Args:
            model_name: title.
            facts: fields of `CardFacts`, such as `results`, `measured` and `tags`. They are kept for later exports.

        Raises:
            TypeError: a fact is no field of `CardFacts`. No fact is kept then.
        """
        if unknown := facts.keys() - (known := {each.name for each in fields(CardFacts)}):
            raise TypeError(
                f"A model card has no {', '.join(sorted(unknown))}; push_to_hub and create_model_card take "
                f"{', '.join(sorted(known))}."
            )
        if isinstance(facts.get("tags"), str):
            facts["tags"] = (facts["tags"],)
        self._card_extras = {**self._card_extras, **facts, **({"name": model_name} if model_name else {})}
        if self.is_world_process_zero() and may_write_card(self.args.output_dir):
            self._write_card(Path(self.args.output_dir))

    def _write_card(self, folder: Path) -> None:
        """Write the model card. An error is only logged, so that the weights are saved anyway."""
        try:
            card = render_card(self.card_facts())
        except Exception:
            logger.warning("The student is saved, but its model card could not be written:", exc_info=True)
        else:
            write_text(folder / "README.md", card)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        # Trainer copies a fixed list of files, pickled arguments included, into output_dir and uploads it, while the
        # next save may change them. Our checkpoints are complete students, so they are uploaded directly.
        if not self.is_world_process_zero() or self.args.hub_strategy == HubStrategy.END:
            return
        unfinished = [job for job in self.push_in_progress.jobs if not job.done()] if self.push_in_progress else []
        if unfinished and not self.args.hub_always_push:
            return
        # Errors stay in the future, so a failed upload doesn't end the training.
        job = HfApi().upload_folder(
            repo_id=self.hub_model_id,
            folder_path=checkpoint_folder,
            commit_message=f"Training in progress, step {self.state.global_step}",
            token=self.args.hub_token,
            revision=self.args.hub_revision,
            ignore_patterns=PRIVATE_FILES,
            run_as_future=True,
        )
        self.push_in_progress = PushInProgress([*unfinished, job])

    # --- Loading ------------------------------------------------------------------------------------------------------

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model=None) -> None:
        if self.is_fsdp_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint)
            return
        with stock_classifier(self.student):
            super()._load_from_checkpoint(resume_from_checkpoint, model=self.student)
        self.load_heads(Path(resume_from_checkpoint))

    def load_heads(self, folder: Path) -> None:
        """Load the weights that `save_heads` wrote.

        Raises:
            FileNotFoundError: there is no such file, or it has the weights of other heads.
        """
        names = self.model.side_weights(self.model.state_dict()).keys()
        file = folder / HEADS_FILE
        saved = load_file(file) if file.exists() else {}
        if saved.keys() != names:
            raise FileNotFoundError(
                f"{folder} has no {HEADS_FILE} with the weights of this run's heads ({', '.join(sorted(names))}), so "
                "they would be reinitialised. It was written by a run with other objectives: start without "
                "resume_from_checkpoint."
            )
        self.model.load_state_dict(saved, strict=False)

    def _prepare_for_training(self, *arguments):
        # DeepSpeed's engine loads its checkpoint here.
        with weights_alone() if self.is_deepspeed_enabled else nullcontext():
            return super()._prepare_for_training(*arguments)

    def _load_best_model(self) -> None:
        self._check_checkpoint(self.state.best_model_checkpoint)
        if self.is_deepspeed_enabled:
            with weights_alone():
                super()._load_best_model()
        else:
            # With its heads, since a projector may be exported with the student (keep_projector).
            self._load_from_checkpoint(self.state.best_model_checkpoint)

    # --- The optimizer ------------------------------------------------------------------------------------------------

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """As in `Trainer`, but without learnt scales and curvatures, which weight decay would pull towards 1."""
        numbers = {f"{name}.logarithm" for name, module in model.named_modules() if isinstance(module, BoundedNumber)}
        return [name for name in super().get_decay_parameter_names(model) if name not in numbers]

    # --- The end ------------------------------------------------------------------------------------------------------

    def _run_epoch(self, **arguments) -> None:
        # A resumed run may be past its last step, within an epoch: it was killed before it was saved, or early stopping
        # had ended it.
        if self._was_stopped or self.state.global_step >= self.state.max_steps:
            self.control.should_training_stop = True
            return
        super()._run_epoch(**arguments)
