"""Metrics for `evaluate`: classes here, and scripts that `evaluate.load(folder)` loads without a network."""

from .classification.classification import Classification
from .entity_f1.entity_f1 import EntityF1
from .glue.glue import Glue

__all__ = ["Classification", "EntityF1", "Glue"]
