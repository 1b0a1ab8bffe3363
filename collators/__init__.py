"""From files to tensors: readers of text formats, tokenisation and alignment, and batches."""

from .collator import DistillationCollator, View

__all__ = ["DistillationCollator", "View"]
