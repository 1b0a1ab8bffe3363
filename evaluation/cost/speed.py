"""Speed of models relative to each other, robust to other load on the machine."""

import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch


@dataclass(frozen=True)
class Speed:
    """Speed of one of the compared models.

    Attributes:
        sentences_per_second: texts per second in full batches, computed as the first model's median over the rounds
            times `speedup`. This model's own median could come from other rounds and contradict `speedup`.
        milliseconds: time for a single text, computed from the first model's median and `latency_speedup`.
        speedup: sentences per second relative to the first model; the median of the ratios in each round.
        latency_speedup: milliseconds of the first model relative to this model's; the median of the ratios in each
            round.
    """

    sentences_per_second: float
    milliseconds: float
    speedup: float
    latency_speedup: float


def compare_speed(
    encoders: Mapping[str, Callable[[list], object]],
    texts: Sequence,
    *,
    batch_size: int = 32,
    batches: int = 4,
    singles: int = 16,
    rounds: int = 7,
) -> dict[str, Speed]:
    """Compare the speed of several models in interleaved rounds.

    On a busy machine two runs may differ more than two models. So every round times each model on the same texts, and
    models are compared within a round. Each round begins with another model. The first round is not counted.

    Args:
        encoders: name -> function that embeds or classifies a list of texts. The first one is the reference.
        texts: texts, or rows of them, whatever the functions take; repeated if there are too few.
        batch_size: texts per call for `sentences_per_second`.
        batches: number of such calls per round.
        singles: number of calls with one text per round, for `milliseconds`.
        rounds: number of timed rounds.

    Returns:
        name -> speed, in the order of `encoders`.

    Raises:
        ValueError: there are no encoders or no texts.
    """
    if not encoders or not len(texts):
        raise ValueError(
            f"Comparing speed needs at least one encoder and one text, but got {len(encoders)} and {len(texts)}."
        )
    full = [[texts[(b * batch_size + i) % len(texts)] for i in range(batch_size)] for b in range(batches)]
    alone = [[texts[i % len(texts)]] for i in range(singles)]
    names = list(encoders)
    # name -> for each round, the seconds per text in full batches and for a single text.
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
    """Description of the machine: GPU, or CPU and threads; versions of torch and Python; operating system."""
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
    """Seconds on a monotonic clock, after synchronising with the GPU if there is one."""
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()
    return time.perf_counter()


def _seconds(encoder: Callable[[list], object], calls: list[list]) -> float:
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
