"""Training and evaluation steps: samplers, means, losses over all rows of a step, and ranks that share a model."""

from .bounds import KeepWithinBounds
from .evaluating_trainer import EvaluatingTrainer
from .fitting_trainer import FittingTrainer
from .process_group import leave_process_group, meet_before_leaving
from .progress import RunHeader, TrainingBar
from .sampler import LengthGroupedSampler, TokenBudgetSampler, check_longest, row_lengths
from .sharding_trainer import ShardingTrainer
