"""Contrastive training on pairs, triplets or single texts: SimCSE (Gao, Yao & Chen 2021, arXiv:2104.08821)."""

import datasets

from ..collators import GroupCollator
from .arguments import ContrastiveTrainingArguments
from .objectives import GroupContrastObjective
from .whole_step_trainer import WholeStepTrainer


class ContrastiveTrainer(WholeStepTrainer):
    """Teaches an encoder to know a text's positive among those of the whole step, and hard negatives.

    The second stage of DistilCSE, without a teacher; with one, objectives of `DistillTrainer` may be added. The step
    is that of all micro-batches and all ranks, and has the gradient of one large batch (see `gradient_cache`), at the
    price of embedding every text twice where there is more than one of either.

    Args: see `DistillTrainer`; `args` are `ContrastiveTrainingArguments`, rows are groups (see
    `retort.data.tokenize_groups`).

    Raises:
        ValueError: as `DistillTrainer`; a step without negatives, single texts without dropout, or a teacher cache.
    """

    arguments_class = ContrastiveTrainingArguments
    needed_columns = ("members",)

    def __init__(self, model, teacher=None, args: ContrastiveTrainingArguments | None = None, *arguments, **named):
        if getattr(args, "teacher_cache", None):
            raise ValueError(
                "teacher_cache holds outputs for a text in each row, but the rows here are groups of texts. Leave it "
                "out."
            )
        super().__init__(model, teacher, args, *arguments, **named)
        first = {} if self.train_dataset is None else next(iter(self.train_dataset))
        if self.contrast and len(first.get("members", ())) == 2 and self.args.rows_per_step == 1:
            raise ValueError("A step of a single pair has no negatives. Raise per_device_train_batch_size.")
        if self.args.disable_dropout and _are_single(self.train_dataset):
            raise ValueError(
                "A single text is its own positive by dropout alone, which disable_dropout turns off. Leave it out, or "
                "pass pairs."
            )

    def build_contrast(self, args, student, teacher) -> GroupContrastObjective | None:
        """InfoNCE among the groups of a step."""
        if not args.contrastive_weight:
            return None
        return GroupContrastObjective(args.contrastive_weight, args.pooler, args)

    def trains_with_dropout(self, args, rows) -> bool:
        """As `DistillTrainer`, but single texts have dropout beside a teacher, too: it makes their two embeddings."""
        if args.disable_dropout is None and _are_single(rows):
            return True
        return super().trains_with_dropout(args, rows)

    def build_collator(self, *arguments) -> GroupCollator:
        """That of `DistillTrainer`, for groups."""
        return GroupCollator(super().build_collator(*arguments))

    def measure_outputs(self, ours, theirs, batch) -> None:
        """Log how near anchors are to their positives, and how they spread."""
        if self.contrast is not None:
            groups = self.contrast.embeddings(ours.compared[self.contrast], batch)
            self.measure_spread(groups[:, 0], groups[:, 1])


def _are_single(rows: datasets.Dataset | None) -> bool:
    """Whether each group is one text."""
    return rows is not None and len(next(iter(rows)).get("members", ())) == 1
