"""Models side by side: as data, as a table, as a picture."""

from .build import build_report, require_drawing, write_report
from .report import ModelRow, Report, Role, loss_history
from .table import aligned, markdown_table, text_table
