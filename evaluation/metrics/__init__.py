"""Metrics for `evaluate`: classes here, and scripts that `evaluate.load(folder)` loads without a network."""

from .classification import Classification
from .entity_f1 import EntityF1
from .glue import MEASURES, Glue
