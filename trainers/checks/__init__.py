"""What would train in silence on wrong numbers is refused before the run starts."""

from .objectives import check_objectives, check_sharding
from .rows import RowChecks, named_sets
from .run import check_heads, check_run, check_streams, take_student
