"""Show where the time of a training step goes, and how close it comes to the speed of its matrix products.

python benchmarks/cost/step_profile.py [--train_files FILE ...] [--layers 0 2 5] [--batch_size 64]

A student of some layers of all-MiniLM-L6-v2 learns its teacher's cached embeddings, in bf16 where the hardware supports
it. Steps are timed in turns with the matrix products of the student's linear layers alone, forward and backward, at the
step's number of tokens. The share of a step is the time that its products would take at that speed, over the time of
the step; products of padding and of attention don't count. Then some steps run under torch's profiler.
"""

import argparse
import statistics
import tempfile
from collections import Counter
from pathlib import Path

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile
from transformers import AutoModel, AutoTokenizer, PrinterCallback, TrainerCallback

from retort import DistillTrainer, DistillTrainingArguments, shrink, tokenize
from retort.data import docstring_corpus, read_texts, write_json
from retort.evaluation import describe_machine
from retort.evaluation.cost import now
from retort.evaluation.report import aligned
from retort.recipes import read_recipe, supports_bf16

# The first kind with a word that occurs in an operation's name.
KINDS = {
    "matrix products": ("addmm", "mm", "linear", "matmul"),
    "attention": ("attention", "softmax", "varlen"),
    "GELU": ("gelu", "Gelu"),
    "LayerNorm": ("layer_norm",),
    "optimizer, gradient clipping": ("adam", "Optimizer", "foreach", "norm"),
    "zeros": ("zero", "fill"),
    "copies and casts": ("copy", "cat", "clone", "index", "gather", "embedding", "contiguous"),
    "sums, products by element": ("add", "mul", "div", "sum", "sub", "mean"),
    "loader": ("DataLoader",),
}


class Meter(TrainerCallback):
    """Times steps, and between them the student's matrix products; profiles the last steps."""

    def __init__(self, student: nn.Module, tokens: float, options: argparse.Namespace):
        self.options, self.steps, self.products = options, [], []
        self.profile = profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if _has_cuda() else [])])
        self.tokens = tokens
        self.linear = [module for module in student.encoder.modules() if isinstance(module, nn.Linear)]
        self.flops = sum(6 * tokens * module.weight.numel() for module in self.linear)

    def on_train_begin(self, args, state, control, **kwargs):
        """Make the operands of the products, now that the student is on its device."""
        dtype = torch.bfloat16 if args.bf16 else torch.float32
        self.operands = [pair for module in self.linear for pair in _operands(module, round(self.tokens), dtype)]

    def on_step_begin(self, args, state, control, **kwargs):
        """Start the clock, or the profiler."""
        if state.global_step == self.options.steps:
            self.profile.start()
        _synchronize()
        self.start = now()

    def on_step_end(self, args, state, control, **kwargs):
        """Stop the clock. Every eighth step, time the products."""
        _synchronize()
        if state.global_step <= self.options.steps:
            self.steps.append(now() - self.start)
            if state.global_step % 8 == 0:
                self.products.append(self._time_products())
        if state.global_step == state.max_steps:
            self.profile.stop()

    def _time_products(self) -> float:
        """Seconds of all products. Each runs once before it is timed, so its operands are in the processor's cache."""
        seconds = 0.0
        for left, right in self.operands:
            torch.mm(left, right)
            _synchronize()
            start = now()
            torch.mm(left, right)
            _synchronize()
            seconds += now() - start
        return seconds


def main() -> None:
    """Train, and print where the time went."""
    options = parse_options()
    teacher = read_recipe("quickstart").teacher.source
    tokenizer = AutoTokenizer.from_pretrained(teacher)
    texts = read_texts(options.train_files) if options.train_files else docstring_corpus().sentences["train"]
    count = (options.steps + options.profiled) * options.batch_size
    rows = texts.select_columns("text").shuffle(seed=0).select(range(min(count, len(texts)))).flatten_indices()
    rows = tokenize(rows, tokenizer, max_length=options.max_length)
    tokens = sum(map(len, rows["input_ids"])) / len(rows) * options.batch_size
    student = shrink(AutoModel.from_pretrained(teacher), layers=options.layers)
    with tempfile.TemporaryDirectory() as folder:
        args = DistillTrainingArguments(
            folder,
            embedding_weight=1.0,
            teacher_cache=f"{folder}/teacher",
            per_device_train_batch_size=options.batch_size,
            max_steps=options.steps + options.profiled,
            bf16=supports_bf16(),
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
        )
        trainer = DistillTrainer(student, teacher, args, train_dataset=rows, processing_class=tokenizer)
        trainer.remove_callback(PrinterCallback)
        meter = Meter(trainer.student, tokens, options)
        trainer.add_callback(meter)
        trainer.train()
    told = report(meter, tokens, options)
    Path(options.output).parent.mkdir(parents=True, exist_ok=True)
    write_json(options.output, told)


def report(meter: Meter, tokens: float, options: argparse.Namespace) -> dict:
    """Print the figures, and return them."""
    warm = options.steps // 4
    step, products = statistics.median(meter.steps[warm:]), statistics.median(meter.products[1:])
    kinds = by_kind(meter.profile)
    total = sum(kinds.values())
    figures = {
        "machine": describe_machine(),
        "threads": torch.get_num_threads(),
        "ms of a step": 1000 * step,
        "tokens of a step": tokens,
        "sentences/s": options.batch_size / step,
        "GFLOP/s of the step": meter.flops / step / 1e9,
        "GFLOP/s of its products alone": meter.flops / products / 1e9,
        "share": products / step,
    }
    for name, value in figures.items():
        print(f"{name}: {value:,.2f}" if isinstance(value, float) else f"{name}: {value}")
    shares = [[kind, f"{100 * spent / total:.1f}"] for kind, spent in kinds.most_common()]
    print("", *aligned([["", "% of a profiled step"], *shares], gap=2), sep="\n")
    return figures | {"kinds": {kind: value / total for kind, value in kinds.items()}}


def by_kind(profiled: profile) -> Counter:
    """Microseconds of each kind of operation, on the GPU if there is one."""
    kinds: Counter = Counter()
    for event in profiled.key_averages():
        spent = event.self_device_time_total if _has_cuda() else event.self_cpu_time_total
        if event.device_type == torch.autograd.DeviceType.CPU:
            kind = next((kind for kind, words in KINDS.items() if any(word in event.key for word in words)), "other")
            kinds[kind] += spent
    return kinds


def _operands(module: nn.Linear, tokens: int, dtype: torch.dtype) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The factors of a linear layer's products: its output, and the gradients of its input and of its weight."""
    weight = module.weight.detach().to(dtype)
    inputs = torch.randn(tokens, module.in_features, device=weight.device, dtype=dtype)
    gradient = torch.randn(tokens, module.out_features, device=weight.device, dtype=dtype)
    return [(inputs, weight.T), (gradient, weight), (gradient.T, inputs)]


def _has_cuda() -> bool:
    return torch.cuda.is_available()


def _synchronize() -> None:
    if _has_cuda():
        torch.cuda.synchronize()


def parse_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train_files", nargs="+", metavar="FILE", help="texts: .txt, or table.tsv:column,column")
    parser.add_argument("--layers", type=int, nargs="+", default=[0, 2, 5], help="to keep, from 0 (default: 0 2 5)")
    parser.add_argument("--batch_size", type=int, default=64, help="texts of a step (default: 64)")
    parser.add_argument("--max_length", type=int, default=128, help="tokens of a text at most (default: 128)")
    parser.add_argument("--steps", type=int, default=96, help="timed steps; the first quarter warms up (default: 96)")
    parser.add_argument("--profiled", type=int, default=16, help="profiled steps (default: 16)")
    parser.add_argument("--output", default="runs/benchmarks/step_profile.json", help="(default: %(default)s)")
    options = parser.parse_args()
    if options.steps < 16:
        parser.error("--steps must be at least 16: products are timed after every eighth step")
    return options


if __name__ == "__main__":
    main()
