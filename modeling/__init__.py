"""Tensors and modules: students, losses, heads, pooling and layer maps. Imports nothing of the other folders."""

from .shrink import shrink

__all__ = ["shrink"]
