"""Students that are made of their teacher: fewer layers, narrower ones, smaller word embeddings."""

from .student import shrink

__all__ = ["shrink"]
