"""Reports that compare models: data, tables and figures."""

from .build import build_report, read_report, require_drawing, write_report
from .quality import Quality, Rows, bootstrapped
from .report import PRECISIONS, ModelRow, Report, Role, VectorRow, dev_history, loss_history
from .table import aligned, markdown_table, text_table
