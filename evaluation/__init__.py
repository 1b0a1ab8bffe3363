"""What a student is worth: embeddings, retrieval, similarity, size and speed, and the report of all that."""

from .calibration import Calibration, CalibrationBin, expected_calibration_error
from .classification import ClassificationScores, RegressionScores, classification_scores, regression_scores
from .embedding import embed
from .entities import EntityConfusion, EntityScore, EntityScores, entity_scores
from .entity_spans import EntitySpan, entity_spans
from .footprint import Footprint
from .prediction import Classifier, Tagger, TagPrediction
from .report import ModelRow, Report, Role, loss_history
from .report_figure import draw
from .report_files import write_report
from .report_table import markdown_table, text_table
from .retrieval import own_document_ranks, retrieval_scores
from .similarity import mean_pairwise_cosine, similarity_agreement
from .speed import Speed, compare_speed, describe_machine
from .sts import sts_spearman

__all__ = [
    "Calibration",
    "CalibrationBin",
    "ClassificationScores",
    "Classifier",
    "EntityConfusion",
    "EntityScore",
    "EntityScores",
    "EntitySpan",
    "Footprint",
    "ModelRow",
    "RegressionScores",
    "Report",
    "Role",
    "Speed",
    "TagPrediction",
    "Tagger",
    "classification_scores",
    "compare_speed",
    "describe_machine",
    "draw",
    "embed",
    "entity_scores",
    "entity_spans",
    "expected_calibration_error",
    "loss_history",
    "markdown_table",
    "mean_pairwise_cosine",
    "own_document_ranks",
    "regression_scores",
    "retrieval_scores",
    "similarity_agreement",
    "sts_spearman",
    "text_table",
    "write_report",
]
