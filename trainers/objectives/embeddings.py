"""Objectives on embeddings: one vector per row."""

from torch import Tensor, nn

from ...collators import GroupBatch
from ...modeling.encoding import EncoderOutput, OutputRequest, Pooling
from .base import Objective, distance


class PooledObjective(Objective):
    """What reads one vector per row of either side.

    Args:
        weight: in the loss.
        pooler, teacher_pooler: what makes an embedding of the student's hidden states, and of the teacher's.
    """

    row_wise = True

    def __init__(self, weight: float, pooler: str | Pooling, teacher_pooler: str | Pooling):
        super().__init__(weight)
        self.pooler, self.teacher_pooler = pooler, teacher_pooler

    def student_request(self):
        return OutputRequest(pooler=self.pooler)

    def teacher_request(self):
        return OutputRequest(pooler=self.teacher_pooler)

    def forward(self, student: EncoderOutput) -> Tensor:
        """`[rows, features]`, the embeddings."""
        return student.embedding

    def count(self, batch):
        return batch.layout.rows


class EmbeddingObjective(PooledObjective):
    """Distance of pooled embeddings (Reimers & Gurevych 2020, arXiv:2004.09813, for `"mse"`).

    Args:
        weight, pooler, teacher_pooler: see `PooledObjective`.
        loss: the distance, as in the arguments.
        projector: maps the student's embeddings into the teacher's width. All objectives of a run on embeddings share
            one, since it may be exported with the student.
    """

    name = "embedding"
    description = "distance of pooled embeddings"
    citation = "reimers2020multilingual"

    def __init__(self, weight, pooler, teacher_pooler, loss: str, projector: nn.Module):
        super().__init__(weight, pooler, teacher_pooler)
        self.loss, self.projector = loss, projector

    def forward(self, student):
        """`[rows, teacher's features]`."""
        return self.projector(student.embedding)

    def values(self, ours, teacher, batch):
        return distance(self.loss)(ours, teacher.embedding)


class MemberObjective(EmbeddingObjective):
    """Distance of the embedding of one text of each group from the teacher's of the group.

    Attributes:
        member: the text's place in its group.
    """

    member: int

    def count(self, batch: GroupBatch):
        return len(batch.groups)

    def values(self, ours, teacher, batch: GroupBatch):
        return super().values(ours[batch.groups[:, self.member]], teacher, batch)


class SourceObjective(MemberObjective):
    """Distance of the student's embedding of a sentence from the teacher's (Reimers & Gurevych 2020,
    arXiv:2004.09813, eq. 1)."""

    name = "source"
    description = "distance of embeddings of sentences from the teacher's"
    member = 0


class TargetObjective(MemberObjective):
    """Distance of the student's embedding of a translation from the teacher's of the sentence."""

    name = "target"
    description = "distance of embeddings of translations from the teacher's of the sentences"
    member = 1
