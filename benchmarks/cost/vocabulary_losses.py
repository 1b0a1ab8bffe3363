"""What a loss over two vocabularies costs, beside the published formula as it is written.

python benchmarks/cost/vocabulary_losses.py [--teacher_vocabulary 120000] [--student_vocabulary 30000] [--rows 4]
    [--length 128] [--rounds 3] [--joints sum logsumexp]

T² KL(teacher ‖ student) over the teacher's tokens, the logit of each made of those of the student's pieces that spell
it: their sum, or their logsumexp (Kolesnikova et al. 2022, arXiv:2205.02340, "reduce-map"). As it is published, a
padded table of pieces gathers all logits at once, `[tokens of text, teacher's vocabulary, most pieces of a token]`.
Both ways begin at random features, and each gives the loss and its gradient in the features, the output layer's weight
and its bias, which must agree. Tokens have 1 to 8 pieces, 2.3 on average; some pieces are in many tokens, most in
few; one token of a hundred can't be spelled.

Both take turns, and times are compared within a round. Peak memory is that of a step in a process of its own, beyond
what it held before (Linux only).
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from retort.evaluation import describe_machine
from retort.evaluation.cost import now
from retort.evaluation.report import aligned
from retort.modeling.encoding import OutputLayer
from retort.modeling.losses import vocabulary_divergence
from retort.modeling.vocabularies import Spelling, VocabularyMap

MOST_PIECES = 8

TEMPERATURE = 2.0

JOINTS = ("sum", "logsumexp")


@dataclass(frozen=True)
class Task:
    """What both ways begin with: features, output layers, and how the teacher's tokens are spelled."""

    student: Tensor
    teacher: Tensor
    ours: OutputLayer
    theirs: OutputLayer
    spelling: Spelling

    @classmethod
    def of(cls, options: argparse.Namespace, tokens: int) -> Task:
        """A random one."""
        torch.manual_seed(0)
        sizes = (options.student_vocabulary, options.student_width), (options.teacher_vocabulary, options.teacher_width)
        features = [torch.randn(tokens, width) for _, width in sizes]
        layers = [OutputLayer(torch.randn(v, w).div_(w**0.5), torch.randn(v)) for v, w in sizes]
        for leaf in (features[0], layers[0].weight, layers[0].bias):
            leaf.requires_grad_()
        counts = torch.empty(options.teacher_vocabulary).geometric_(0.42).clamp_(max=MOST_PIECES).long()
        counts[::100] = 0
        pieces = (torch.rand(int(counts.sum())) ** 3 * options.student_vocabulary).long()
        return cls(*features, *layers, Spelling(pieces, counts))

    def step(self, loss: Callable[[], Tensor]) -> tuple[Tensor, ...]:
        """The loss and its gradients."""
        value = loss().sum()
        return value.detach(), *torch.autograd.grad(value, (self.student, self.ours.weight, self.ours.bias))


def published(task: Task, joint: str) -> Callable[[], Tensor]:
    """The formula, with tables that are made once."""
    tokens = task.spelling.counts.nonzero().flatten()
    counts = task.spelling.counts[tokens]
    table = torch.full((len(tokens), MOST_PIECES), len(task.ours))
    table[torch.arange(MOST_PIECES) < counts[:, None]] = task.spelling.pieces
    nothing = 0.0 if joint == "sum" else torch.finfo(torch.float32).min

    def loss() -> Tensor:
        logits = F.pad(F.linear(task.student, task.ours.weight, task.ours.bias), (0, 1), value=nothing)
        # Faster than logits[:, table], forward and backward.
        gathered = logits.index_select(1, table.flatten()).unflatten(1, table.shape)
        student = F.log_softmax(getattr(gathered, joint)(-1) / TEMPERATURE, -1)
        theirs = F.linear(task.teacher, task.theirs.weight, task.theirs.bias)[:, tokens]
        teacher = F.log_softmax(theirs / TEMPERATURE, -1)
        return TEMPERATURE**2 * (teacher.exp() * (teacher - student)).sum(-1)

    return loss


def chunked(task: Task, joint: str) -> Callable[[], Tensor]:
    """retort's way, likewise."""
    vocabulary = VocabularyMap.of(task.spelling, len(task.ours), joint)
    return lambda: vocabulary_divergence(task.student, task.teacher, (task.ours, task.theirs), vocabulary, TEMPERATURE)


WAYS = {"published": published, "retort": chunked}


def seconds(task: Task, joint: str, rounds: int) -> list[list[float]]:
    """Of a step of each, round by round; the first step of each must give the same."""
    losses = [way(task, joint) for way in WAYS.values()]
    for one, other in zip(*(task.step(loss) for loss in losses), strict=True):
        # Gradients of many rows are tiny: what is allowed is in proportion to the largest.
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-5 * one.abs().max().item())
    return [[timed(task, loss) for loss in losses] for _ in range(rounds)]


def timed(task: Task, loss: Callable[[], Tensor]) -> float:
    """Seconds of a step."""
    start = now()
    task.step(loss)
    return now() - start


def peak(options: argparse.Namespace, name: str, joint: str) -> float:
    """Megabytes of a step, in this process."""
    torch.set_num_threads(options.threads)
    few, task = Task.of(options, tokens=1), Task.of(options, options.rows * options.length)
    loss = WAYS[name](task, joint)
    few.step(WAYS["retort"](few, joint))  # kernels are loaded
    del few
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
    before = resident("VmRSS")
    task.step(loss)
    return resident("VmHWM") - before


def resident(field: str) -> float:
    """Megabytes of this process: `VmRSS`, now, or `VmHWM`, at most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024 / 1e6


def apart(function: Callable[..., float], *args) -> float:
    """What a function returns in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as process:
        return process.apply(function, args)


def main() -> None:
    """Take turns, measure memory, and print the table."""
    options = parse_options()
    torch.set_num_threads(options.threads)
    lines = [["joint", *(f"{name}, {unit}" for unit in ("s", "MB") for name in WAYS), "faster", "less memory"]]
    for joint in options.joints:
        megabytes = [apart(peak, options, name, joint) for name in WAYS]
        rounds = seconds(Task.of(options, options.rows * options.length), joint, options.rounds)
        ratios = [plain / ours for plain, ours in rounds]
        lines.append(
            [
                joint,
                *(f"{statistics.median(each):.2f}" for each in zip(*rounds, strict=True)),
                *(f"{each:.0f}" for each in megabytes),
                f"{statistics.median(ratios):.2f}x ({min(ratios):.2f} to {max(ratios):.2f})",
                f"{megabytes[0] / megabytes[1]:.1f}x",
            ]
        )
    print(
        f"{describe_machine()}\n{options.rows} x {options.length} tokens, forward and backward; median of "
        f"{options.rounds} rounds. Losses and gradients agree.\n\n" + "\n".join(aligned(lines, gap=3))
    )


def parse_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher_vocabulary", type=int, default=120_000, help="tokens (default: 120000)")
    parser.add_argument("--student_vocabulary", type=int, default=30_000, help="tokens (default: 30000)")
    parser.add_argument("--teacher_width", type=int, default=768, help="features (default: 768)")
    parser.add_argument("--student_width", type=int, default=264, help="features (default: 264)")
    parser.add_argument("--rows", type=int, default=4, help="texts of a step (default: 4)")
    parser.add_argument("--length", type=int, default=128, help="tokens of a text (default: 128)")
    parser.add_argument("--joints", nargs="+", choices=JOINTS, default=JOINTS, help="default: both")
    parser.add_argument("--rounds", type=int, default=3, help="steps of each (default: 3)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="default: PyTorch's choice")
    return parser.parse_args()


if __name__ == "__main__":
    main()
