"""Metrics for `evaluate`, as classes and as scripts that `evaluate.load(folder)` loads offline."""

from .classification import Classification
from .entity_f1 import EntityF1
from .glue import MEASURES, Glue
