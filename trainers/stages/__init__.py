"""Runs of several stages, and the student that they end with."""

from .callbacks import ScoreOnDev
from .memory import bound_kernel_cache, release_memory
from .plan import PlannedStage, plan_table
from .publish import best_stage, publish, push_student
from .run import StagedRun, StageResult
from .stage import Stage
