"""Checks before a run starts. They refuse runs that would train on wrong numbers without an error.

Each raises a ValueError, or a TypeError for an object of the wrong class, with the given value, the expected one, and
a way to fix it.
"""

from .arguments import take_arguments
from .objectives import check_output_layers, check_sharding
from .rows import check_rows, check_their_tokens
from .run import MERGED_LATER, check_apart, check_run, take_student
from .setup import Setup, named_sets
from .validate import validate
