"""Tensors and modules: students, losses, heads, pooling and layer maps. Imports nothing of the other folders."""

from . import bilstm, recurrent_bert  # makes them known to the Auto classes
from .bilstm.student import bilstm_student
from .recurrent_bert.expansion import expand
from .shrinking import shrink

__all__ = ["bilstm", "bilstm_student", "expand", "recurrent_bert", "shrink"]
