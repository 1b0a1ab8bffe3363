"""The five trainers, with their arguments, objectives, teachers, stages and saving."""

from .arguments import (
    CKDTrainingArguments,
    ContrastiveTrainingArguments,
    DistillTrainingArguments,
    MCLTrainingArguments,
    VocabReducedMLMTrainingArguments,
)
from .ckd_trainer import CKDTrainer
from .contrastive_trainer import ContrastiveTrainer
from .distill_trainer import DistillTrainer
from .mcl_trainer import MCLTrainer
from .stages import (
    ScoreOnDev,
    Stage,
    StagedRun,
    StageResult,
    best_stage,
    bound_kernel_cache,
    plan_table,
    publish,
    push_student,
)
from .steps import leave_process_group
from .teachers import cache_teacher, load_reranker, score_groups, write_vectors
from .vocab_reduced_mlm_trainer import VocabReducedMLMTrainer
