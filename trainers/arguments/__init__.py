"""The arguments of each trainer."""

from .choices import check_choices
from .distill import DistillTrainingArguments
from .keys import that_change_weights
from .vocab_reduced_mlm import VocabReducedMLMTrainingArguments
from .whole_step import (
    CKDTrainingArguments,
    ContrastiveTrainingArguments,
    InfoNCETrainingArguments,
    MCLTrainingArguments,
)
