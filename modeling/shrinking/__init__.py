"""Builds students from their teacher: with fewer layers, narrower layers or another vocabulary."""

from .bilstm import bilstm_student
from .embeddings import project_embeddings
from .student import shrink
