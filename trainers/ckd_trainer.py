"""Contrastive distillation with a queue: DistilCSE's CKD (Gao et al. 2021, arXiv:2112.05638)."""

import logging
from pathlib import Path

import torch
from datasets import Dataset
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers.trainer_utils import has_length

from ..modeling.losses import KeyQueue
from .arguments import CKDTrainingArguments
from .objectives import TeacherContrastObjective
from .student_trainer import QUEUE_FILE
from .whole_step_trainer import WholeStepTrainer, off_diagonal

logger = logging.getLogger(__name__)

DEFAULT_QUEUE = 65_536
# The student's embeddings have nearly collapsed if the spread of their cosines is below this share of the teacher's.
COLLAPSED = 0.1


class CKDTrainer(WholeStepTrainer):
    """Trains a student by InfoNCE between its embeddings and the teacher's, with a queue of negatives.

    The anchor is the student's embedding of a sentence, projected to the teacher's width if they differ. The positive
    is the teacher's embedding of the same sentence. Negatives are the teacher's embeddings of the other sentences in
    the whole optimizer step (all micro-batches and all ranks), and of the sentences in a queue of past steps. Keys of
    the anchor's own text are not negatives, so repeated sentences, or a corpus shorter than the queue, do no harm.

    The keys have no gradient, so steps of 1 x 64 rows, 4 x 16 rows and 2 ranks x 32 rows have the same gradient. This
    also holds if the student's own embeddings are keys (`both_directions`, `student_negatives`; see `gradient_cache`).

    Args: see `DistillTrainer`; `args` are `CKDTrainingArguments`.

    Raises:
        ValueError: see `DistillTrainer`; or the queue is longer than the corpus, a step has a single sentence and there
            is no queue, or the ranks have different numbers of rows.
    """

    arguments_class = CKDTrainingArguments

    def __init__(self, model, teacher=None, args: CKDTrainingArguments | None = None, *arguments, **named):
        super().__init__(model, teacher, args, *arguments, **named)
        self.queue = self._new_queue()
        if self.contrast and self.queue is None and self.train_dataset is not None and self.args.rows_per_step == 1:
            raise ValueError(
                "A step of a single sentence has no negatives. Raise per_device_train_batch_size, or leave out "
                "queue_size=0."
            )
        self._warned_of_collapse = False

    def build_contrast(self, args, student, teacher) -> TeacherContrastObjective | None:
        """InfoNCE against the teacher."""
        if not args.contrastive_weight:
            return None
        project = self.embedding_projector(args, student, teacher)
        return TeacherContrastObjective(args.contrastive_weight, *args.poolers, args, project, teacher.embedding_size)

    # --- The keys -----------------------------------------------------------------------------------------------------

    def compared_with(self, objective, own, everywhere):
        """As in `StepTrainer`, with the keys of past steps."""
        if objective is not self.contrast or self.queue is None or not len(self.queue):
            return super().compared_with(objective, own, everywhere)
        return objective.compared_with(own, everywhere, (self.queue.keys, self.queue.ids))

    def training_step(self, model, inputs, num_items_in_batch=None) -> Tensor:
        """Forward and backward pass. After the last micro-batch of a step, its keys are added to the queue."""
        loss, step = super().training_step(model, inputs, num_items_in_batch), num_items_in_batch
        if self.queue is not None and inputs is step.batches[-1]:
            self.queue.push(*step.everywhere[self.contrast])
        return loss

    @property
    def learnt(self):
        """As `LoadingTrainer`, and the queue."""
        return super().learnt if self.queue is None else [*super().learnt, self.queue]

    # --- The log ------------------------------------------------------------------------------------------------------

    def measure_outputs(self, ours, theirs, batch) -> None:
        """Log the spread of the student's and the teacher's embeddings."""
        if self.contrast is not None:
            keys, _ = self.contrast.references(theirs, batch)
            self.measure_spread(ours.compared[self.contrast], keys)
            if len(keys) > 2:
                self.measure("teacher_cosine_spread", off_diagonal(keys).std(), 1)

    def log(self, logs, start_time=None) -> None:
        """Log, and warn once if the student's embeddings collapse."""
        super().log(logs, start_time)
        spread, theirs = logs.get("cosine_spread"), logs.get("teacher_cosine_spread")
        if spread is not None and spread < theirs * COLLAPSED and not self._warned_of_collapse:
            self._warned_of_collapse = True
            logger.warning(
                "Step %d: the student's embeddings are collapsing: they are becoming alike for all sentences. The "
                "standard deviation of their cosines is %.4f, and %.4f for the teacher. Usual causes are a too high "
                "learning rate, a too high tau (contrastive_temperature), or a pooler with new weights (pooler='cls' "
                "with a checkpoint that has no pooler).",
                self.state.global_step,
                spread,
                theirs,
            )

    # --- The queue ----------------------------------------------------------------------------------------------------

    def _new_queue(self) -> KeyQueue | None:
        size = self.args.queue_size
        rows = len(self.train_dataset) if has_length(self.train_dataset) else None
        if self.args.fill_queue and self.train_dataset is not None and not isinstance(self.train_dataset, Dataset):
            raise ValueError(
                f"fill_queue samples from all training rows, but train_dataset is a "
                f"{type(self.train_dataset).__name__}. Leave it out (the queue then fills in the first steps), or load "
                "the data without streaming."
            )
        if size is not None and rows is not None and size > rows:
            raise ValueError(
                f"queue_size={size:,}, but there are {rows:,} training rows. A longer queue would only hold copies, "
                "which are no negatives of their own sentence. Leave it out (null in a recipe), or pass more text."
            )
        if size is None:
            size = DEFAULT_QUEUE if rows is None else min(DEFAULT_QUEUE, rows)
        if self.contrast is None or self.train_dataset is None or not size:
            return None
        named = self.args.queue_dtype
        dtype = self.args.compute_dtype if named == "auto" else getattr(torch, named)
        return KeyQueue(size, self.contrast.teacher_size, dtype=dtype, device=self.args.device)

    def train(self, resume_from_checkpoint=None, **arguments):
        """Train. Fills the queue first if `fill_queue` is set."""
        if self.queue is not None and self.args.fill_queue and not resume_from_checkpoint:
            self._fill_queue()
        return super().train(resume_from_checkpoint, **arguments)

    @torch.no_grad()
    def _fill_queue(self) -> None:
        for batch in self.sampled_batches(self.queue.size, "Filling the queue"):
            self.queue.push(*self.contrast.references(self.teacher.outputs(batch), batch))

    def save_run_state(self, folder: Path) -> None:
        """Save the queue, which is the same on every rank."""
        if self.queue is not None and self.args.should_save:
            save_file(self.queue.state_dict(), folder / QUEUE_FILE)

    def load_run_state(self, folder: Path) -> None:
        """Load the queue."""
        if self.queue is None:
            return
        if not (folder / QUEUE_FILE).exists():
            raise FileNotFoundError(
                f"{folder} has no {QUEUE_FILE}: it was written by a run without a queue. Resume with queue_size=0, or "
                "start a new run."
            )
        self.queue.load_state_dict(load_file(folder / QUEUE_FILE))
