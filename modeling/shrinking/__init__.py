"""Students that are made of their teacher: fewer layers, narrower ones, smaller vocabularies."""

from .bilstm import bilstm_student
from .embeddings import project_embeddings
from .student import shrink
