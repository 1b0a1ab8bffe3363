"""Prediction and evaluation with taggers, classifiers and masked language models."""

from .classification import (
    ClassificationScores,
    RegressionScores,
    binary_f1,
    classification_scores,
    expected_calibration_error,
    regression_scores,
)
from .entities import EntityConfusion, EntityScore, EntityScores, entity_counts, entity_scores
from .masked_lm import MaskedModel
from .prediction import Classifier, EntitySpan, Tagger, TagPrediction, entity_spans
from .words import ScoredWords
