"""What makes up an optimizer step or an evaluation: the order of rows, means, and losses over all rows."""

from .bounds import KeepWithinBounds
from .evaluating_trainer import EVALUATION_BLOCK, EvaluatingTrainer
from .means import RunningMeans, on_device
from .progress import RunHeader, TrainingBar
from .sampler import LengthGroupedSampler, TokenBudgetSampler, check_longest, row_lengths
from .step import Step
