"""Size and speed of models."""

from .footprint import Footprint
from .speed import Speed, compare_speed, describe_machine, now
