"""What a student is worth: embeddings, retrieval, similarity, size and speed, and the report of all that."""

from .calibration import Calibration, CalibrationBin, expected_calibration_error
from .classification import ClassificationScores, RegressionScores, classification_scores, regression_scores
from .embedding import embed
from .entities import EntityConfusion, EntityScore, EntityScores, entity_scores
from .entity_spans import EntitySpan, entity_spans
from .footprint import Footprint
from .prediction import Classifier, Tagger, TagPrediction
from .probes import ProbeScores, pair_features, probe, probe_by_folds
from .report import ModelRow, Report, Role, loss_history
from .report_figure import draw
from .report_files import write_report
from .report_table import markdown_table, text_table
from .retrieval import bitext_accuracy, own_document_ranks, retrieval_scores
from .senteval import (
    STS_TASKS,
    TRANSFER_TASKS,
    LabelledTexts,
    ScoredPairs,
    read_scored_pairs,
    read_sts_task,
    read_transfer_task,
)
from .similarity import mean_pairwise_cosine, similarity_agreement
from .speed import Speed, compare_speed, describe_machine
from .sts import StsScores, sts_scores, sts_spearman

__all__ = [
    "STS_TASKS",
    "TRANSFER_TASKS",
    "Calibration",
    "CalibrationBin",
    "ClassificationScores",
    "Classifier",
    "EntityConfusion",
    "EntityScore",
    "EntityScores",
    "EntitySpan",
    "Footprint",
    "LabelledTexts",
    "ModelRow",
    "ProbeScores",
    "RegressionScores",
    "Report",
    "Role",
    "ScoredPairs",
    "Speed",
    "StsScores",
    "TagPrediction",
    "Tagger",
    "bitext_accuracy",
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
    "pair_features",
    "probe",
    "probe_by_folds",
    "read_scored_pairs",
    "read_sts_task",
    "read_transfer_task",
    "regression_scores",
    "retrieval_scores",
    "similarity_agreement",
    "sts_scores",
    "sts_spearman",
    "text_table",
    "write_report",
]
