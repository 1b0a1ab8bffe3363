"""What a queue of keys costs a step of contrastive distillation.

python benchmarks/cost/contrastive_queue.py [--queue_size 65536] [--batch_size 128] [--rounds 3] [--live_teacher]

Two trainers with the same teacher, student and rows, one with a full queue and one without, take turns of a few
steps. A round is an epoch of each, and the times of epochs are divided by each other. Each shuffles the rows in its own
way: a processor makes kernels anew for every shape of batch, and whoever came second with the same batches would find
them made. A step is all that one takes: the batch is collated, the teacher's embeddings are made (--live_teacher) or
read from a cache, the student is run forward and backward and updated. Then steps of both on the same batch are
profiled, and what the queue adds is listed by operation: the time, and the memory that is allocated. A copy between
host and device would show there.
"""

import argparse
import statistics
import tempfile
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
import transformers
from datasets import disable_progress_bars
from torch.profiler import profile
from transformers import AutoModel, AutoTokenizer

from retort import CKDTrainer, CKDTrainingArguments, shrink, tokenize
from retort.data import docstring_corpus
from retort.evaluation import describe_machine
from retort.evaluation.cost import now
from retort.evaluation.report import aligned
from retort.modeling.losses import KeyQueue
from retort.recipes import read_recipe, supports_bf16

STEPS_PER_TURN = 4


class Contender:
    """A trainer, taken step by step."""

    def __init__(self, trainer: CKDTrainer):
        self.trainer = trainer
        trainer.create_optimizer()
        self.model = trainer.accelerator.prepare_model(trainer.model)
        trainer.model_wrapped = self.model
        self.batches = self._batches()

    def _batches(self) -> Iterator[dict]:
        while True:
            yield from self.trainer.get_train_dataloader()

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in a pass over all rows."""
        return len(self.trainer.get_train_dataloader())

    def step(self, batches: Iterator[dict] | None = None) -> None:
        """One optimizer step."""
        (batch,), counts = self.trainer.get_batch_samples(batches or self.batches, 1, self.trainer.args.device)
        self.trainer.training_step(self.model, batch, counts)
        self.trainer.optimizer.step()
        self.trainer.optimizer.zero_grad()

    def turn(self) -> float:
        """Seconds of a few steps."""
        start = now()
        for _ in range(STEPS_PER_TURN):
            self.step()
        return now() - start


def race(contenders: Sequence[Contender]) -> list[float]:
    """Seconds of an epoch of each, in turns."""
    turns = [[each.turn() for each in contenders] for _ in range(0, contenders[0].steps_per_epoch, STEPS_PER_TURN)]
    return [sum(seconds) for seconds in zip(*turns, strict=True)]


def contender(options: argparse.Namespace, folder: str, queue_size: int) -> Contender:
    """A trainer with a queue that is full of random keys, or without one."""
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(options.teacher)
    rows = tokenize(docstring_corpus().sentences["train"], tokenizer)
    args = CKDTrainingArguments(
        folder,
        per_device_train_batch_size=options.batch_size,
        queue_size=min(queue_size, len(rows)),
        teacher_cache=None if options.live_teacher else f"{folder}/teacher",
        bf16=supports_bf16(),
        disable_dropout=True,
        data_seed=int(queue_size > 0),
        report_to=[],
    )
    student = shrink(AutoModel.from_pretrained(options.teacher), layers=options.layers)
    trainer = CKDTrainer(student, options.teacher, args, train_dataset=rows, processing_class=tokenizer)
    if queue_size:
        # More keys than the corpus has rows, which the arguments would refuse: the time is the same.
        width = student.config.hidden_size
        trainer.queue = KeyQueue(queue_size, width, dtype=trainer.queue.keys.dtype, device=args.device)
        trainer.queue.push(F.normalize(torch.randn(queue_size, width), dim=-1), torch.arange(queue_size))
    return Contender(trainer)


def operations(contender: Contender, batch: dict) -> dict[str, tuple[float, float]]:
    """Of one step: operation -> milliseconds of its own, and megabytes that it allocates."""
    contender.step(iter([dict(batch)]))  # kernels are made
    with profile(profile_memory=True) as found:
        contender.step(iter([dict(batch)]))
    return {
        event.key: (event.self_cpu_time_total / 1e3, event.self_cpu_memory_usage / 1e6)
        for event in found.key_averages()
    }


def added(with_queue: dict, without: dict) -> str:
    """What the queue adds, by operation, the most expensive first."""
    keys = with_queue.keys() | without.keys()
    rows = [(k, *(a - b for a, b in zip(with_queue.get(k, (0, 0)), without.get(k, (0, 0)), strict=True))) for k in keys]
    rows = sorted(rows, key=lambda row: -row[1])[:8]
    lines = [["operation", "ms more", "MB more"], *([name, f"{ms:.1f}", f"{mb:.1f}"] for name, ms, mb in rows)]
    return "\n".join(aligned(lines, gap=3))


def main() -> None:
    """Take turns, and print the ratio and the profile."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    disable_progress_bars()
    options = parse_options()
    with tempfile.TemporaryDirectory(prefix="retort-benchmark-") as folder:
        contenders = [contender(options, folder, size) for size in (options.queue_size, 0)]
        for each in contenders:
            each.turn()  # kernels are made
        epochs = [race(contenders) for _ in range(options.rounds)]
        batch = next(contenders[0].batches)
        profiles = [operations(each, batch) for each in contenders]
        steps = contenders[0].steps_per_epoch
    ratios = [full / none for full, none in epochs]
    step = statistics.median(none for _, none in epochs) / steps
    print(
        f"{describe_machine()}\nA step of {options.batch_size} rows without a queue: {1000 * step:.0f} ms. With "
        f"{options.queue_size:,} keys: {statistics.median(ratios):.3f} times as long (median of {options.rounds} "
        f"rounds, {min(ratios):.3f} to {max(ratios):.3f}).\n\n{added(*profiles)}"
    )


def parse_options() -> argparse.Namespace:
    """The command line; the teacher's place is filled in."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queue_size", type=int, default=65_536, help="keys (default: 65536)")
    parser.add_argument("--batch_size", type=int, default=128, help="rows of a step (default: 128)")
    parser.add_argument("--layers", type=int, nargs="+", default=[0, 2, 5], help="of the student (default: 0 2 5)")
    parser.add_argument("--rounds", type=int, default=3, help="epochs of each (default: 3)")
    parser.add_argument("--live_teacher", action="store_true", help="run the teacher in every step")
    parser.add_argument("--teacher", help="hub id or folder (default: the quickstart's)")
    options = parser.parse_args()
    options.teacher = options.teacher or read_recipe("quickstart").teacher.source
    return options


if __name__ == "__main__":
    main()
