"""What runs steps: the trainers, their arguments, teachers, caches and exports."""

from .arguments import DistillTrainingArguments
from .cache import cache_teacher
from .distill_trainer import DistillTrainer
from .stage_plan import plan_table
from .staged_run import StagedRun, StageResult
from .stages import Stage

__all__ = [
    "DistillTrainer",
    "DistillTrainingArguments",
    "Stage",
    "StageResult",
    "StagedRun",
    "cache_teacher",
    "plan_table",
]
