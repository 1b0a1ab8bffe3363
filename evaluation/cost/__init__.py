"""What a model costs in memory and in time."""

from .footprint import Footprint
from .onnx_model import OnnxModel
from .speed import Speed, compare_speed, describe_machine, now
