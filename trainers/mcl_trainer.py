"""Distillation into other languages by translations (Ding et al. 2022, arXiv:2209.05869)."""

from ..collators import DistillationCollator, GroupCollator
from .arguments import MCLTrainingArguments
from .objectives import Objective, SimilarityAcrossObjective, SourceObjective, TargetObjective
from .whole_step_trainer import WholeStepTrainer

_WEIGHTS = ("mcl_weight", "source_weight", "target_weight")


class MCLTrainer(WholeStepTrainer):
    """Trains a student to embed sentences and their translations as a teacher embeds the sentences.

    The teacher reads the sentences only, so it may be monolingual. The student reads sentences and translations. Its
    embeddings of both are trained towards the teacher's embedding of the sentence (MSE). Its similarities between
    sentences and translations are trained towards the teacher's similarities between sentences. With `mcl_weight=0`
    only the MSE remains, which is the multilingual distillation of Reimers & Gurevych 2020 (arXiv:2004.09813).

    Similarities are computed over the whole step (all micro-batches and all ranks), which has the gradient of one large
    batch (see `gradient_cache`). With `mcl_weight` and several micro-batches or ranks, every text is embedded twice.

    Args: see `DistillTrainer`; `args` are `MCLTrainingArguments`, rows are pairs (see
    `retort.data.read_parallel` and `tokenize_groups`, with the teacher's tokenizer).

    Raises:
        ValueError: see `DistillTrainer`; or an objective compares tokens or rows of the same text, or the rows have no
            tokens for the teacher.
    """

    arguments_class = MCLTrainingArguments
    needed_columns = ("members", "teacher_input_ids")

    def build_objectives(self, args, student, teacher) -> list[Objective]:
        """The objectives on translations."""
        if others := [name for name in args.weights if getattr(args, name) and name not in _WEIGHTS]:
            raise ValueError(
                f"{others[0]} compares outputs of student and teacher for the same text, but here the teacher reads "
                "only the sentences. Leave it out, or distil each language with a DistillTrainer."
            )
        made = super().build_objectives(args, student, teacher)
        for kind, weight in ((SourceObjective, args.source_weight), (TargetObjective, args.target_weight)):
            if weight:
                project = self.embedding_projector(args, student, teacher)
                made.append(kind(weight, *args.poolers, args.embedding_loss, project))
        return made

    def build_contrast(self, args, student, teacher) -> SimilarityAcrossObjective | None:
        """Similarities of sentences and translations."""
        return SimilarityAcrossObjective(args.mcl_weight, *args.poolers) if args.mcl_weight else None

    def build_collator(self, *arguments) -> GroupCollator:
        """The collator of `DistillTrainer`, for pairs. The teacher reads the first text of each pair."""
        made = super().build_collator(*arguments)
        sources = DistillationCollator(made.teacher or made.student)
        return GroupCollator(DistillationCollator(made.student), sources)

    def texts_of_teacher(self, embeddings, batch):
        """The embeddings of the sentences."""
        return embeddings[batch.groups[:, 0]]

    def measure_outputs(self, ours, theirs, batch) -> None:
        """Log the alignment of sentences and translations, and the spread of sentences."""
        sources, targets = ours.encoder.embedding.float()[batch.groups].unbind(1)
        self.measure_spread(sources, targets)
