"""Starts a script under the deepspeed launcher, without the helper that DeepSpeed would compile first."""

import runpy
import sys
from pathlib import Path

import shared_memory

shared_memory.leave_out()
_, local_rank, script, *arguments = sys.argv
sys.argv = [script, local_rank, *arguments]
sys.path[0] = str(Path(script).parent)
runpy.run_path(script, run_name="__main__")
