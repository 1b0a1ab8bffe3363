"""Taggers and classifiers, at work and judged."""

from .calibration import Calibration, CalibrationBin, expected_calibration_error
from .classification import ClassificationScores, RegressionScores, binary_f1, classification_scores, regression_scores
from .entities import EntityConfusion, EntityScore, EntityScores, entity_scores
from .masked_lm import MaskedModel
from .prediction import Classifier, EntitySpan, Tagger, TagPrediction, entity_spans
