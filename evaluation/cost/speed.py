"""What a model costs in time, compared with others on a machine that has other things to do."""

import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch


@dataclass(frozen=True)
class Speed:
    """Speed of one model among those compared.

    Attributes:
        sentences_per_second: texts per second in full batches: the first model's, a median over the rounds, times
            `speedup`. A median of this model's own could come from other rounds, and contradict `speedup`.
        milliseconds: time of one text alone, likewise.
        speedup: sentences per second relative to the first model compared, median of the ratios within a round.
        latency_speedup: milliseconds of the first model relative to this one's, likewise.
    """

    sentences_per_second: float
    milliseconds: float
    speedup: float
    latency_speedup: float


def compare_speed(
    encoders: Mapping[str, Callable[[list[str]], object]],
    texts: Sequence[str],
    *,
    batch_size: int = 32,
    batches: int = 4,
    singles: int = 16,
    rounds: int = 7,
) -> dict[str, Speed]:
    """Time several models side by side.

    On a busy machine two runs differ more than two models do. So every round times each model on the same texts, each
    round begins with another model, and models are compared within a round. One untimed round comes first.

    Args:
        encoders: name -> function that embeds a list of texts, from strings to vectors. The first is the reference.
        texts: taken from the beginning, and over again if they are few.
        batch_size: texts per call for `sentences_per_second`.
        batches: such calls per round.
        singles: calls with one text per round, for `milliseconds`.
        rounds: timed rounds.

    Returns:
        name -> speed, in the order of `encoders`.

    Raises:
        ValueError: no encoders, or no texts.
    """
    if not encoders or not len(texts):
        raise ValueError(
            f"Comparing speed takes at least one encoder and one text, but got {len(encoders)} and {len(texts)}."
        )
    full = [[texts[(b * batch_size + i) % len(texts)] for i in range(batch_size)] for b in range(batches)]
    alone = [[texts[i % len(texts)]] for i in range(singles)]
    names = list(encoders)
    # name -> for each round, the seconds of a text in full batches, and those of a text alone.
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for turn in range(rounds + 1):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            in_batches, singly = _seconds(encoders[name], full), _seconds(encoders[name], alone)
            if turn > 0:
                seconds[name].append((in_batches / (batch_size * batches), singly / singles))
    measured = {name: np.array(times) for name, times in seconds.items()}
    reference = measured[names[0]]
    in_batches, singly = np.median(reference, axis=0).tolist()
    speeds = {}
    for name, own in measured.items():
        faster, sooner = np.median(reference / own, axis=0).tolist()
        speeds[name] = Speed(faster / in_batches, 1000 * singly / sooner, faster, sooner)
    return speeds


def describe_machine(device: torch.device | str = "cpu") -> str:
    """What a speed was measured on: the GPU, or the processor and the threads; torch, Python and the system."""
    device = torch.device(device)
    if device.type == "cuda":
        processor = torch.cuda.get_device_name(device)
    elif device.type == "cpu":
        threads = torch.get_num_threads()
        processor = f"{_cpu_name()}, {threads} thread{'' if threads == 1 else 's'}"
    else:
        processor = device.type
    return f"{processor}, torch {torch.__version__}, Python {platform.python_version()}, {platform.system()}"


def now() -> float:
    """Seconds on a clock, once the GPU, if there is one, is done: its kernels outlast the calls that started them."""
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()
    return time.perf_counter()


def _seconds(encoder: Callable[[list[str]], object], calls: list[list[str]]) -> float:
    start = now()
    for texts in calls:
        encoder(texts)
    return now() - start


def _cpu_name() -> str:
    """The processor's marketing name; `platform.processor()` is empty or just the architecture on Linux."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
