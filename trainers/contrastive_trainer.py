"""Training on groups of texts, by contrast (SimCSE, Gao, Yao & Chen 2021, arXiv:2104.08821) or by a reranker's scores
of a query's documents."""

from dataclasses import replace

import datasets
from torch import Tensor

from ..collators import GroupCollator
from ..modeling.encoding import SentenceModules
from .arguments import ContrastiveTrainingArguments
from .objectives import GroupContrastObjective, ListwiseObjective, MarginObjective, Objective, ScoreObjective
from .whole_step_trainer import WholeStepTrainer


class ContrastiveTrainer(WholeStepTrainer):
    """Trains an encoder by InfoNCE on pairs, triplets or single texts, or on a reranker's scores of documents.

    Negatives are the texts of all other groups of the whole step (all micro-batches and all ranks), and hard negatives.
    The step has the gradient of one large batch (see `gradient_cache`). With several micro-batches or ranks, every text
    is embedded twice. No teacher is needed, as in the second stage of DistilCSE. With a teacher, objectives of
    `DistillTrainer` may be added.

    Scores of a query's documents by a reranker are learnt by MarginMSE (`margin_weight`) or listwise KL
    (`listwise_weight`), with or without InfoNCE (`contrastive_weight=0`).

    Args: see `DistillTrainer`; `args` are `ContrastiveTrainingArguments`, rows are groups (see
    `retort.data.tokenize_groups`).

    Raises:
        ValueError: see `DistillTrainer`; or a step has no negatives, single texts have no dropout, or scores are
            invalid or ambiguous (see `check_groups`).
    """

    arguments_class = ContrastiveTrainingArguments
    needed_columns = ("members",)

    def __init__(self, model, teacher=None, args: ContrastiveTrainingArguments | None = None, *arguments, **named):
        super().__init__(model, teacher, args, *arguments, **named)
        first = {} if self.train_dataset is None else next(iter(self.train_dataset), {})
        if self.contrast and len(first.get("members", ())) == 2 and self.args.rows_per_step == 1:
            raise ValueError("A step of a single pair has no negatives. Raise per_device_train_batch_size.")
        if self.contrast and self.args.disable_dropout and _are_single(self.train_dataset):
            raise ValueError(
                "The positive of a single text is the same text under another dropout, which disable_dropout turns "
                "off. Leave it out, or pass pairs."
            )

    def build_objectives(self, args, student, teacher) -> list[Objective]:
        """The objectives of `WholeStepTrainer`, and those on scores."""
        made = super().build_objectives(args, student, teacher)
        by_weight = ((MarginObjective, args.margin_weight), (ListwiseObjective, args.listwise_weight))
        return made + [kind(weight, args) for kind, weight in by_weight if weight]

    def build_contrast(self, args, student, teacher) -> GroupContrastObjective | None:
        """InfoNCE among the groups of a step."""
        if not args.contrastive_weight:
            return None
        return GroupContrastObjective(args.contrastive_weight, args.pooler, args)

    def trains_with_dropout(self, args, rows) -> bool:
        """As in `DistillTrainer`, but single texts always have dropout by default, since it makes their two embeddings.
        Objectives on scores count as objectives that read a teacher.
        """
        if args.disable_dropout is None and args.contrastive_weight and _are_single(rows):
            return True
        if args.disable_dropout is None and self._learns_scores and not args.activation_checkpointing:
            return False
        return super().trains_with_dropout(args, rows)

    def build_collator(self, *arguments) -> GroupCollator:
        """The collator of `DistillTrainer`, for groups."""
        return GroupCollator(super().build_collator(*arguments))

    def measure_outputs(self, ours, theirs, batch) -> None:
        """Log the alignment of anchors and positives, and the spread of anchors."""
        if self.contrast is not None:
            groups = self.contrast.embeddings(ours.compared[self.contrast], batch)
            self.measure_spread(groups[:, 0], groups[:, 1])

    @property
    def _learns_scores(self) -> bool:
        return any(isinstance(objective, ScoreObjective) for objective in self.objectives)

    def _compares_by_dot(self, args: ContrastiveTrainingArguments) -> bool:
        """Whether scores are dot products, so that embeddings must not be normalised."""
        return self._learns_scores and args.score_similarity == "dot"

    def normalizes_export(self, args) -> bool:
        """As in `DistillTrainer`, but vectors that are compared by dot products are exported as they are."""
        return super().normalizes_export(args) and not self._compares_by_dot(args)

    def exported_modules(self, side_weights: dict[str, Tensor]) -> SentenceModules:
        made = super().exported_modules(side_weights)
        return replace(made, similarity="dot") if self._compares_by_dot(self.args) else made


def _are_single(rows: datasets.Dataset | None) -> bool:
    """Whether each group is one text, such as a row of `tokenize`."""
    first = {} if rows is None else next(iter(rows), {})
    return len(first["members"]) == 1 if "members" in first else "input_ids" in first
