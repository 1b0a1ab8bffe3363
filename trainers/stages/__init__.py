"""Runs of several stages."""

from ...modeling import bound_kernel_cache, release_memory
from .plan import PlannedStage, plan_table
from .results import StageResult, best_stage, publish, push_student
from .run import ScoreOnDev, StagedRun
from .stage import Stage
