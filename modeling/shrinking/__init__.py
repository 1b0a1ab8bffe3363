"""Builds students from their teacher: with fewer layers, narrower layers, another vocabulary, or without layers.

A student that can't be built is refused by a ValueError with the reason and the possible values.
"""

from .bilstm import bilstm_student
from .embeddings import project_embeddings
from .static import static_outline, static_student
from .student import shrink
