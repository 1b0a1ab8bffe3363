"""Checks the class of a trainer's arguments."""

from typing import Any

from ..arguments import (
    CKDTrainingArguments,
    ContrastiveTrainingArguments,
    DistillTrainingArguments,
    InfoNCETrainingArguments,
    MCLTrainingArguments,
    VocabReducedMLMTrainingArguments,
)

# Classes with weights that only some trainers read, the narrowest first.
_OF_ONE_TRAINER = (
    CKDTrainingArguments,
    ContrastiveTrainingArguments,
    InfoNCETrainingArguments,
    MCLTrainingArguments,
    VocabReducedMLMTrainingArguments,
)


def take_arguments(args: Any, expected: type[DistillTrainingArguments]) -> DistillTrainingArguments:
    """The arguments of a trainer, or the defaults of its class if there are none.

    Raises:
        TypeError: `args` are of another class, or of one with weights that the trainer doesn't read.
    """
    if args is None:
        return expected()
    if not isinstance(args, expected):
        raise TypeError(
            f"args must be {expected.__name__}, which hold the objectives' weights, but got {type(args).__name__}."
        )
    others = (each for each in _OF_ONE_TRAINER if isinstance(args, each) and not issubclass(expected, each))
    if other := next(others, None):
        raise TypeError(
            f"args are {type(args).__name__}, but this trainer reads {expected.__name__}, and would ignore "
            f"{', '.join(name for name in args.weights if not hasattr(expected, name))}. Use the trainer that takes "
            f"{other.__name__}, or pass {expected.__name__}. In a trainer of your own, set arguments_class."
        )
    return args
