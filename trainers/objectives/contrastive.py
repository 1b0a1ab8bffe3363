"""Contrastive objectives (InfoNCE) over all rows of a step."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from ...collators import GroupBatch, text_ids
from ...modeling import losses
from ...modeling.losses import LearnedScale, queue_log_sum_exp
from ..arguments import CKDTrainingArguments, InfoNCETrainingArguments
from .whole_step import WholeStepObjective


class InfoNCEObjective(WholeStepObjective):
    """InfoNCE: cross-entropy of the positive among positive and negatives.

    Args:
        args: arguments with `contrastive_temperature` and `learn_temperature`.
        projector: maps the student's embeddings to the width in which they are compared.
    """

    name = "contrastive"
    description = "contrast with the teacher's embeddings (InfoNCE)"
    citation = "gao2021distilcse"

    def __init__(self, weight, pooler, teacher_pooler, args: InfoNCETrainingArguments, projector: nn.Module):
        super().__init__(weight, pooler, teacher_pooler)
        self.args, self.projector = args, projector
        self.scale = LearnedScale(1 / args.contrastive_temperature) if args.learn_temperature else None

    def forward(self, student):
        """`[rows, features]`, float32: the student's embeddings, scaled to length 1/tau."""
        embeddings = self.projector(self.embedding_of(student))
        if self.scale is not None:
            return self.scale(embeddings)
        return F.normalize(embeddings.float(), dim=-1) / self.args.contrastive_temperature


@dataclass(frozen=True)
class Candidates:
    """The keys that anchors are compared with. All are unit vectors.

    Attributes:
        positives: `[rows, features]`, the positive of each anchor.
        ids: `[rows]`, id of each anchor's text.
        step: keys of the whole step `[m, features]`, and the ids of their texts `[m]`.
        past: keys and ids of past steps; None if there are none.
    """

    positives: Tensor
    ids: Tensor
    step: tuple[Tensor, Tensor]
    past: tuple[Tensor, Tensor] | None = None


class TeacherContrastObjective(InfoNCEObjective):
    """InfoNCE from the student's embedding to the teacher's (Gao et al. 2021, DistilCSE, arXiv:2112.05638).

    Args: see `InfoNCEObjective`; `teacher_size` is the width of the teacher's embeddings.
    """

    args: CKDTrainingArguments

    def __init__(self, weight, pooler, teacher_pooler, args, projector: nn.Module, teacher_size: int):
        super().__init__(weight, pooler, teacher_pooler, args, projector)
        self.teacher_size = teacher_size
        self.compares_students = args.both_directions or args.student_negatives

    def references(self, teacher, batch) -> tuple[Tensor, Tensor]:
        """The teacher's keys of a batch (unit vectors, `[rows, features]`), and the ids of their texts, `[rows]`."""
        return F.normalize(teacher.embedding.float(), dim=-1), text_ids(batch)

    def compared_with(self, own, everywhere, past: tuple[Tensor, Tensor] | None = None) -> Candidates:
        """The keys of the whole step, and the keys `past` of former steps."""
        return Candidates(*own, everywhere, past)

    def compare(self, embeddings, references: Candidates):
        own_ids, (keys, ids) = references.ids, references.step
        if len(keys) == 1 and references.past is None:
            return embeddings.sum(-1)[:0]
        negatives, same_text = [(keys, own_ids[:, None] == ids)], own_ids[:, None] == own_ids
        if self.args.student_negatives:
            negatives.append((F.normalize(embeddings, dim=-1), same_text))
        past = references.past and queue_log_sum_exp(embeddings, own_ids, *references.past)
        values = losses.info_nce(embeddings, references.positives, negatives, past)
        if not self.args.both_directions:
            return values
        return (values + losses.info_nce(references.positives, embeddings, [(embeddings, same_text)])) / 2


class GroupContrastObjective(InfoNCEObjective):
    """InfoNCE from an anchor to its positive, against the positives and hard negatives of all groups of a step.

    Gao, Yao & Chen 2021, SimCSE, arXiv:2104.08821, eq. 4 and 5. A group is an anchor, a positive and any number of
    hard negatives; its embeddings are `[groups, members, features]`. Copies of the anchor or of its positive, and
    positives of copies of the anchor, are not negatives.
    """

    name = "positives"
    description = "contrast of texts with their positives (InfoNCE)"
    citation = "gao2021simcse"
    reads_teacher = False
    of_groups = True

    def __init__(self, weight, pooler, args: InfoNCETrainingArguments):
        super().__init__(weight, pooler, pooler, args, nn.Identity())

    def references(self, teacher, batch: GroupBatch) -> Tensor:
        """The ids of the texts of each group, `[groups, members]`.

        Raises:
            ValueError: the groups have different sizes.
        """
        if batch.is_ragged:
            raise ValueError(
                "contrastive_weight needs groups of equal size, but those of a batch differ. Set contrastive_weight=0."
            )
        return text_ids(batch)[batch.groups]

    def compare(self, embeddings, references: Tensor):
        if references.shape == (1, 2):
            return embeddings.sum((1, 2))[:0]
        anchors, candidates = embeddings[:, 0], F.normalize(embeddings[:, 1:], dim=-1)
        anchor_ids, ids = references[:, 0], references[:, 1:]
        same_anchor = anchor_ids[:, None] == anchor_ids
        negatives = []
        for member in range(candidates.shape[1]):
            own = (anchor_ids[:, None] == ids[:, member]) | (ids[:, :1] == ids[:, member])
            negatives.append((candidates[:, member], own | same_anchor if member == 0 else own))
        return losses.info_nce(anchors, candidates[:, 0], negatives)
