"""Evaluation: scores of embeddings and tasks, size and speed of models, and the report."""

from .cost import Footprint, Speed, compare_speed, describe_machine
from .report import (
    ModelRow,
    Quality,
    Report,
    Role,
    bootstrapped,
    dev_history,
    loss_history,
    markdown_table,
    read_report,
    text_table,
    write_report,
)
from .sentences import (
    own_document_ranks,
    pair_features,
    probe,
    probe_by_folds,
    retrieval_scores,
    similarity_agreement,
    sts_scores,
    sts_spearman,
)
from .tasks import (
    ClassificationScores,
    Classifier,
    EntityScore,
    Tagger,
    TagPrediction,
    classification_scores,
    entity_scores,
    entity_spans,
    expected_calibration_error,
    regression_scores,
)
