"""Runs of several stages, and the student that they end with."""

from .plan import PlannedStage, plan_table
from .results import StageResult, best_stage, publish, push_student
from .run import ScoreOnDev, StagedRun, bound_kernel_cache, release_memory
from .stage import Stage
