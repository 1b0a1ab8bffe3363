"""What makes up an optimizer step: the order of rows, its means, and losses over all of its rows."""

from .bounds import KeepWithinBounds
from .gradient_cache import shares
from .means import RunningMeans, on_device
from .sampler import LengthGroupedSampler
