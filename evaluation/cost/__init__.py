"""What a model costs in memory and in time."""

from .footprint import Footprint
from .speed import Speed, compare_speed, describe_machine, now
