"""Fresh processes that need not import torch and transformers anew: a forkserver that has them loaded forks them.

Most scripts and ranks that tests start have done their work in less time than these imports take.
"""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

# The forkserver of Python 3.11 looks for the modules to preload on its own path, not on this process's.
os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(["warm"])
