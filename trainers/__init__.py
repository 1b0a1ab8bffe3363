"""What runs steps: the trainers, their arguments, teachers, caches and exports."""

from .arguments import DistillTrainingArguments
from .cache import cache_teacher
from .callbacks import ScoreOnDev
from .ckd_arguments import CKDTrainingArguments
from .ckd_trainer import CKDTrainer
from .contrastive_arguments import ContrastiveTrainingArguments
from .contrastive_trainer import ContrastiveTrainer
from .distill_trainer import DistillTrainer
from .mcl_arguments import MCLTrainingArguments
from .mcl_trainer import MCLTrainer
from .memory import bound_kernel_cache
from .publish import best_stage, publish, push_student
from .stage_plan import plan_table
from .staged_run import StagedRun, StageResult
from .stages import Stage
from .vocab_reduced_mlm_arguments import VocabReducedMLMTrainingArguments
from .vocab_reduced_mlm_trainer import VocabReducedMLMTrainer

__all__ = [
    "CKDTrainer",
    "CKDTrainingArguments",
    "ContrastiveTrainer",
    "ContrastiveTrainingArguments",
    "DistillTrainer",
    "DistillTrainingArguments",
    "MCLTrainer",
    "MCLTrainingArguments",
    "ScoreOnDev",
    "Stage",
    "StageResult",
    "StagedRun",
    "VocabReducedMLMTrainer",
    "VocabReducedMLMTrainingArguments",
    "best_stage",
    "bound_kernel_cache",
    "cache_teacher",
    "plan_table",
    "publish",
    "push_student",
]
