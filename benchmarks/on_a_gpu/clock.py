"""Measures the time of steps, and what they wait for."""

import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile
from transformers import TrainerCallback
from workload import CUDA, Sizes


class Clock(TrainerCallback):
    """Times some steps of a run, profiles others, and counts synchronisations in others."""

    def __init__(self, sizes: Sizes, *, brief: bool = False):
        self.sizes, self.brief, self.waits = sizes, brief, Counter()
        self.seconds, self.memory, self.profile = 0.0, 0, None

    def on_step_end(self, args, state, control, **named):
        """Start and stop the measurements."""
        sizes, done = self.sizes, state.global_step
        timed = sizes.warm + sizes.timed
        if done == sizes.warm:
            self._synchronize()
            self.seconds = -time.perf_counter()
        if done == timed:
            self._synchronize()
            self.seconds += time.perf_counter()
            self.memory = torch.cuda.max_memory_allocated() if CUDA else 0
            control.should_training_stop = self.brief
            if not self.brief:
                self.profile = profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if CUDA else [])])
                self.profile.start()
        if done == timed + sizes.profiled:
            self._synchronize()
            self.profile.stop()
            self._watch(True)
        if done == sizes.steps - 1:
            self._watch(False)

    def _synchronize(self) -> None:
        if CUDA:
            torch.cuda.synchronize()

    def _watch(self, on: bool) -> None:
        if CUDA:
            warnings.simplefilter("always" if on else "default")
            self._told, warnings.showwarning = (warnings.showwarning, self._notice) if on else (None, self._told)
            torch.cuda.set_sync_debug_mode("warn" if on else "default")

    def _notice(self, message, *arguments, **named) -> None:
        if "synchroniz" in str(message):
            stack = [f for f in traceback.extract_stack() if "warnings.py" not in f.filename]
            places = [f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in stack[:-1]]
            self.waits[" < ".join(reversed(places[-5:]))] += 1

    def run(self, trainer) -> dict:
        """Train, and return measurements per step."""
        trainer.add_callback(self)
        trainer.train()
        sizes, found = self.sizes, {"ms": 1000 * self.seconds / self.sizes.timed}
        found |= {"sentences/s": sizes.rows * sizes.timed / self.seconds, "GiB": self.memory / 2**30}
        if self.profile is None:
            return found
        events, steps = self.profile.key_averages(), sizes.profiled
        kernels = [e for e in events if "LaunchKernel" in e.key or e.key == "cudaGraphLaunch"]
        found["kernels"] = sum(e.count for e in kernels) / steps
        found["GPU ms"] = sum(e.self_device_time_total for e in events) / 1000 / steps
        if CUDA:
            found["waits"] = sum(self.waits.values()) / sizes.watched
            found["where"] = dict(self.waits.most_common(12))
        for name, of in (("longest", "self_device_time_total"), ("longest on the host", "self_cpu_time_total")):
            longest = sorted(events, key=lambda event, of=of: -getattr(event, of))[:14]
            found[name] = {e.key[:90]: f"{getattr(e, of) / 1000 / steps:.3f} ms, {e.count / steps:g}" for e in longest}
        return found


class Killed(Exception):
    """A `Kill` ended a run."""


class Kill(TrainerCallback):
    """Ends a run before a given step."""

    def __init__(self, step: int):
        self.step = step

    def on_step_begin(self, args, state, control, **named):
        """Raise `Killed` at the given step."""
        if state.global_step == self.step:
            raise Killed
