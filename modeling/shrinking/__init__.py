"""Builds students from their teacher: with fewer layers, narrower layers, another vocabulary, or without layers."""

from .bilstm import bilstm_student
from .embeddings import project_embeddings
from .static import static_outline, static_student
from .student import shrink
