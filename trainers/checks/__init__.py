"""What would train in silence on wrong numbers is refused before the run starts."""

from .objectives import check_output_layers, check_sharding
from .rows import RowChecks, named_sets
from .run import check_run, take_student
from .validate import validate
