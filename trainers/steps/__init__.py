"""Training and evaluation steps: samplers, means, and losses over all rows of a step."""

from .bounds import KeepWithinBounds
from .evaluating_trainer import EvaluatingTrainer
from .fitting_trainer import FittingTrainer
from .progress import RunHeader, TrainingBar
from .sampler import LengthGroupedSampler, TokenBudgetSampler, check_longest, row_lengths
