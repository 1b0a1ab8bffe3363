"""Reads labelled tasks (tagging and classification): rows, splits and labels."""

from .docstrings import code_words, library_parts
from .tags import OUTSIDE, are_spans
from .task import Task, read_task
