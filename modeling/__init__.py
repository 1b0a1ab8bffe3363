"""Tensors and modules: students, losses, heads, pooling and layer maps. Imports nothing of the other folders."""

from . import bilstm  # makes it known to the Auto classes
from .bilstm.student import bilstm_student
from .shrinking import shrink

__all__ = ["bilstm", "bilstm_student", "shrink"]
