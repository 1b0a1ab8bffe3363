"""What a student is worth: embeddings, retrieval, similarity, size and speed, and the report of all that."""

from .embedding import embed
from .footprint import Footprint
from .report import ModelRow, Report, Role, loss_history
from .report_figure import draw
from .report_files import write_report
from .report_table import markdown_table, text_table
from .retrieval import own_document_ranks, retrieval_scores
from .similarity import mean_pairwise_cosine, similarity_agreement
from .speed import Speed, compare_speed, describe_machine
from .sts import sts_spearman

__all__ = [
    "Footprint",
    "ModelRow",
    "Report",
    "Role",
    "Speed",
    "compare_speed",
    "describe_machine",
    "draw",
    "embed",
    "loss_history",
    "markdown_table",
    "mean_pairwise_cosine",
    "own_document_ranks",
    "retrieval_scores",
    "similarity_agreement",
    "sts_spearman",
    "text_table",
    "write_report",
]
