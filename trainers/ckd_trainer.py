"""Contrastive distillation with a queue: DistilCSE's CKD (Gao et al. 2021, arXiv:2112.05638)."""

import logging
from collections.abc import Sized
from pathlib import Path

import torch
from datasets import Dataset
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm.auto import tqdm

from ..collators import as_batch
from ..modeling.losses import KeyQueue
from .arguments import CKDTrainingArguments
from .objectives import TeacherContrastObjective
from .student_trainer import QUEUE_FILE
from .whole_step_trainer import WholeStepTrainer, off_diagonal

logger = logging.getLogger(__name__)

DEFAULT_QUEUE = 65_536
# A student's cosines that spread less than this share of its teacher's have all but collapsed.
COLLAPSED = 0.1


class CKDTrainer(WholeStepTrainer):
    """Teaches a student to know each sentence's teacher embedding among those of many others.

    The anchor is the student's embedding (projected where the widths differ), its positive the teacher's of the same
    sentence. Negatives are the teacher's embeddings of the other sentences in the whole optimizer step, all
    micro-batches and all ranks, and of those in a queue of past steps. None of them has a gradient, so that a step of
    1 x 64 rows, of 4 x 16 and of 2 ranks x 32 has the same one. So it has where the student's own embeddings are keys
    (`both_directions`, `student_negatives`), by `gradient_cache`. Keys of the anchor's own text are no negatives, so
    that a corpus shorter than the queue, or with repetitions, doesn't punish a student for being right.

    Args: see `DistillTrainer`; `args` are `CKDTrainingArguments`.

    Raises:
        ValueError: as `DistillTrainer`; a queue longer than the corpus, a step of a single sentence without a queue,
            or ranks that would not share the rows of a step evenly.
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
        """As `StepTrainer`; keys are also compared with those of past steps."""
        if objective is not self.contrast or self.queue is None or not len(self.queue):
            return super().compared_with(objective, own, everywhere)
        return objective.compared_with(own, everywhere, (self.queue.keys, self.queue.ids))

    def training_step(self, model, inputs, num_items_in_batch=None) -> Tensor:
        """Forward and backward; after the last micro-batch of a step, its keys go into the queue."""
        loss, step = super().training_step(model, inputs, num_items_in_batch), num_items_in_batch
        if self.queue is not None and inputs is step.batches[-1]:
            self.queue.push(*step.meeting.everywhere[self.contrast])
        return loss

    @property
    def learnt(self):
        """As `LoadingTrainer`, and the queue."""
        return super().learnt if self.queue is None else [*super().learnt, self.queue]

    # --- The log ------------------------------------------------------------------------------------------------------

    def measure_outputs(self, ours, theirs, batch) -> None:
        """Log how the student's embeddings spread, and the teacher's."""
        if self.contrast is not None:
            keys, _ = self.contrast.references(theirs, batch)
            self.measure_spread(ours.compared[self.contrast], keys)
            if len(keys) > 2:
                self.measure("teacher_cosine_spread", off_diagonal(keys).std(), 1)

    def log(self, logs, start_time=None) -> None:
        """Log, and warn of a student to which all sentences are becoming alike."""
        super().log(logs, start_time)
        spread, theirs = logs.get("cosine_spread"), logs.get("teacher_cosine_spread")
        if spread is not None and spread < theirs * COLLAPSED and not self._warned_of_collapse:
            self._warned_of_collapse = True
            logger.warning(
                "Step %d: all sentences are becoming alike to the student. The standard deviation of its cosines is "
                "%.4f, of the teacher's %.4f. Usual causes: too high a learning rate, too high a tau "
                "(contrastive_temperature), or a pooler whose weights are new (pooler='cls' with a checkpoint that has "
                "no pooler).",
                self.state.global_step,
                spread,
                theirs,
            )

    # --- The queue ----------------------------------------------------------------------------------------------------

    def _new_queue(self) -> KeyQueue | None:
        size, rows = self.args.queue_size, None
        if isinstance(self.train_dataset, Sized):
            rows = len(self.train_dataset)
        if self.args.fill_queue and self.train_dataset is not None and not isinstance(self.train_dataset, Dataset):
            raise ValueError(
                f"fill_queue draws from all training rows, but train_dataset is a {type(self.train_dataset).__name__}. "
                "Leave it out (the queue then fills in the first steps), or load the data without streaming."
            )
        if size is not None and rows is not None and size > rows:
            raise ValueError(
                f"queue_size={size:,}, but there are {rows:,} training rows. A longer queue would hold nothing but "
                "copies, which are no negatives of their own sentence. Leave it out, or pass more text."
            )
        size = min(DEFAULT_QUEUE, DEFAULT_QUEUE if rows is None else rows) if size is None else size
        if self.contrast is None or self.train_dataset is None or not size:
            return None
        named = self.args.queue_dtype
        dtype = self.args.compute_dtype if named == "auto" else getattr(torch, named)
        return KeyQueue(size, self.contrast.teacher_size, dtype=dtype, device=self.args.device)

    def train(self, resume_from_checkpoint=None, **arguments):
        """Train; a queue that is to start full is filled first."""
        if self.queue is not None and self.args.fill_queue and not resume_from_checkpoint:
            self._fill_queue()
        return super().train(resume_from_checkpoint, **arguments)

    @torch.no_grad()
    def _fill_queue(self) -> None:
        rows = self._remove_unused_columns(self.train_dataset, description="queue")
        generator = torch.Generator().manual_seed(self.args.seed)
        chosen = torch.randperm(len(rows), generator=generator)[: self.queue.size]
        batches = chosen.split(self.args.per_device_eval_batch_size)
        for indices in tqdm(batches, "Filling the queue", unit="batch", disable=self.args.disable_tqdm):
            batch = as_batch(self.data_collator(rows.__getitems__(indices.tolist()))).to(self.args.device)
            self.queue.push(*self.contrast.references(self.teacher.outputs(batch), batch))

    def save_state(self, folder: Path) -> None:
        """Write the queue, which is the same on every rank."""
        if self.queue is not None and self.args.should_save:
            save_file(self.queue.state_dict(), folder / QUEUE_FILE)

    def load_state(self, folder: Path) -> None:
        """Read the queue."""
        if self.queue is None:
            return
        if not (folder / QUEUE_FILE).exists():
            raise FileNotFoundError(
                f"{folder} holds no {QUEUE_FILE}: it was written by a run without a queue. Resume with queue_size=0, "
                "or start anew."
            )
        self.queue.load_state_dict(load_file(folder / QUEUE_FILE))
