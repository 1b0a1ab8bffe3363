"""Checks of students without layers."""

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ...modeling import StaticModel
from ...modeling.encoding import SentenceEncoder, SentenceModules, check_static
from ..arguments import DistillTrainingArguments


def check_static_student(
    student: PreTrainedModel,
    encoder: SentenceEncoder | None,
    args: DistillTrainingArguments,
    tokenizer: PreTrainedTokenizerBase | None,
) -> None:
    """Refuse objectives and exports that a static student doesn't support. Does nothing for other students.

    Args:
        encoder: the student's own pooling and modules, if it has any.
        tokenizer: the student's tokenizer.
    """
    if not isinstance(student, StaticModel):
        return
    if asked := [name for name in ("hidden_weight", "attention_weight", "relation_weight") if getattr(args, name)]:
        raise ValueError(
            f"{asked[0]} compares layers, but a static student has none. Compare embeddings: embedding_weight, "
            "similarity_weight, or CKDTrainer."
        )
    if args.keep_projector:
        raise ValueError(
            "keep_projector would add a linear map after a static student's mean, but model2vec's format has none. "
            "Leave it out; token vectors of the teacher's width (no hidden_size) need no projector."
        )
    modules = SentenceModules.plain(args.pooler, 1, normalize=False) if encoder is None else encoder.modules
    if tokenizer is not None:
        check_static(student, tokenizer, modules)
