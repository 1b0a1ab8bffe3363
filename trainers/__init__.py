"""What runs steps: the trainers, their arguments, teachers, caches and exports."""

from .arguments import DistillTrainingArguments
from .cache import cache_teacher
from .distill_trainer import DistillTrainer

__all__ = ["DistillTrainer", "DistillTrainingArguments", "cache_teacher"]
