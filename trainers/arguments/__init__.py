"""The arguments of each trainer."""

from .ckd import CKDTrainingArguments
from .contrastive import ContrastiveTrainingArguments
from .distill import DistillTrainingArguments
from .mcl import MCLTrainingArguments
from .vocab_reduced_mlm import VocabReducedMLMTrainingArguments
