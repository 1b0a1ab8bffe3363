"""Distillation into other languages by translations (Ding et al. 2022, arXiv:2209.05869)."""

from ..collators import DistillationCollator, GroupCollator
from .arguments import MCLTrainingArguments
from .objectives import Objective, SimilarityAcrossObjective, SourceObjective, TargetObjective
from .whole_step_trainer import WholeStepTrainer

_WEIGHTS = ("mcl_weight", "source_weight", "target_weight")


class MCLTrainer(WholeStepTrainer):
    """Teaches a student a teacher's embeddings of sentences, for the sentences and for their translations.

    The teacher, which may know one language only, reads the sentences; the student reads both. Its embeddings of
    either come near to the teacher's of the sentence, and its similarities of sentences and translations near to those
    of the sentences as the teacher sees them. With `mcl_weight=0` the last is left out, which makes it the
    multilingual distillation of Reimers & Gurevych 2020 (arXiv:2004.09813).

    The step is that of all micro-batches and all ranks, and has the gradient of one large batch (see
    `gradient_cache`); with `mcl_weight` and more than one of either, every text is embedded twice.

    Args: see `DistillTrainer`; `args` are `MCLTrainingArguments`, rows are pairs (see
    `retort.data.read_parallel` and `tokenize_groups`, with the teacher's tokenizer).

    Raises:
        ValueError: as `DistillTrainer`; an objective that compares token with token or row with row, or rows without
            tokens for the teacher.
    """

    arguments_class = MCLTrainingArguments
    needed_columns = ("members", "teacher_input_ids")

    def build_objectives(self, args, student, teacher) -> list[Objective]:
        """The objectives on translations."""
        if others := [name for name in args.weights if getattr(args, name) and name not in _WEIGHTS]:
            raise ValueError(
                f"{others[0]} compares what student and teacher make of the same text, but here the teacher reads the "
                "sentences alone. Leave it out, or distil each language by a DistillTrainer."
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
        """That of `DistillTrainer`, for pairs of which the teacher reads the first."""
        made = super().build_collator(*arguments)
        sources = DistillationCollator(made.teacher or made.student)
        return GroupCollator(DistillationCollator(made.student), sources)

    def measure_outputs(self, ours, theirs, batch) -> None:
        """Log how near sentences are to their translations, and how they spread."""
        sources, targets = ours.encoder.embedding.float()[batch.groups].unbind(1)
        self.measure_spread(sources, targets)
