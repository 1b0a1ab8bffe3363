"""Distil a sentence encoder with retort and with sentence-transformers, side by side on one machine.

python benchmarks/sentence_distillation.py [--rounds 3] [--rows 4096] [--train_files ...] [--sts_test ...]

Both get the same teacher, the same student (some of the teacher's layers, with the dropout that it comes with), rows,
batch size, epochs, learning rate, schedule (linear, no warm-up) and seed; everything else is what each does by default.
One more run of retort has `disable_dropout`, as the quickstart has.
Both minimise the squared distance of unit vectors: sentence-transformers' `SentenceTransformerTrainer` with `MSELoss`
on teacher vectors that its `encode` made beforehand, retort's `DistillTrainer` with its embedding objective, from a
teacher cache or with the teacher running beside the student.

A shared machine changes from minute to minute more than the contenders differ. So they take turns: within a round each
trains once, in a process of its own (none finds memory or compiled kernels that another left behind), but only one
computes at a time, for a few steps, while the others wait. Speeds are divided by each other within a round only.

Timed are the steps, from the fetching of the first batch to the end of the last step, and all that happens in between
(sentence-transformers tokenises there). Preparation is told apart: from strings to a trainer that is ready, that is
loading both models, tokenising and, but for a live teacher, the teacher's vectors. Imports count nowhere.
"""

import argparse
import importlib.metadata
import os
import statistics
import tempfile
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import torch
import transformers
from datasets import Dataset, disable_progress_bars, load_from_disk
from transformers import AutoModel, AutoTokenizer, PreTrainedModel, PrinterCallback, Trainer, TrainerCallback

from retort import DistillTrainer, DistillTrainingArguments, read_dataset, shrink, tokenize
from retort.data import docstring_corpus, read_texts, write_json
from retort.evaluation import describe_machine
from retort.evaluation.cost import now
from retort.evaluation.report import aligned

PACKAGES = ("retort", "sentence-transformers", "transformers", "accelerate", "datasets", "torch")

STEPS_PER_TURN = 16


# --- The contenders ---------------------------------------------------------------------------------------------------


def with_sentence_transformers(options: Namespace, folder: Path, settings: dict) -> tuple[Trainer, PreTrainedModel]:
    """sentence-transformers' trainer and its student; `folder` keeps the teacher's vectors for later rounds."""
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.sentence_transformer.losses import MSELoss

    model = SentenceTransformer(options.teacher)
    model.max_seq_length = options.max_length
    rows = folder / "rows"
    if not rows.exists():
        texts = load_from_disk(folder.parent / "texts")["text"][:]
        Dataset.from_dict({"sentence": texts, "label": model.encode(texts)}).save_to_disk(rows)
    model[0].model = shrink(model[0].model, layers=options.layers)
    args = SentenceTransformerTrainingArguments(**settings)
    trainer = SentenceTransformerTrainer(model, args, train_dataset=load_from_disk(rows), loss=MSELoss(model))
    return trainer, model[0].model


def with_retort(
    options: Namespace, folder: Path, settings: dict, *, live_teacher: bool = False, disable_dropout: bool = False
) -> tuple[Trainer, PreTrainedModel]:
    """retort's trainer and its student; `folder` keeps the teacher cache for later rounds."""
    tokenizer = AutoTokenizer.from_pretrained(options.teacher)
    args = DistillTrainingArguments(
        embedding_weight=1.0,
        teacher_cache=None if live_teacher else str(folder / "teacher"),
        disable_dropout=disable_dropout,
        **settings,
    )
    trainer = DistillTrainer(
        shrink(AutoModel.from_pretrained(options.teacher), layers=options.layers),
        options.teacher,
        args,
        train_dataset=tokenize(load_from_disk(folder.parent / "texts"), tokenizer, max_length=options.max_length),
        processing_class=tokenizer,
    )
    return trainer, trainer.student


@dataclass(frozen=True)
class Contender:
    """A trainer, and whether it computes in bfloat16."""

    name: str
    make: Callable[[Namespace, Path, dict], tuple[Trainer, PreTrainedModel]]
    bf16: bool


CONTENDERS = (
    Contender("sentence-transformers", with_sentence_transformers, bf16=False),
    Contender("sentence-transformers, bf16", with_sentence_transformers, bf16=True),
    Contender("retort", with_retort, bf16=False),
    Contender("retort, bf16", with_retort, bf16=True),
    Contender("retort, bf16, no dropout", partial(with_retort, disable_dropout=True), bf16=True),
    Contender("retort, bf16, live teacher", partial(with_retort, live_teacher=True), bf16=True),
)

REFERENCES = CONTENDERS[:2]


# --- One training, in a process of its own ----------------------------------------------------------------------------


class Turns(TrainerCallback):
    """Times steps, and every few of them stops the clock and lets the others on."""

    def __init__(self, parent: Connection):
        self.parent = parent
        self.seconds = 0.0

    def pass_on(self) -> None:
        """Let the others compute, and wait for the next turn."""
        self.parent.send(None)
        self.parent.recv()

    def on_train_begin(self, args, state, control, **kwargs):
        self.started = now()

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step % STEPS_PER_TURN == 0 or state.global_step == state.max_steps:
            self.seconds += now() - self.started
            self.pass_on()
            self.started = now()


def work(contender: Contender, options: Namespace, folder: Path, seed: int, parent: Connection) -> None:
    """Prepare and train, turn by turn, and send what was measured."""
    disable_progress_bars()
    transformers.logging.disable_progress_bar()
    transformers.logging.set_verbosity_error()
    has_accelerator = torch.accelerator.is_available()
    settings = {
        "output_dir": str(folder / "run"),
        "num_train_epochs": options.epochs,
        "per_device_train_batch_size": options.batch_size,
        "learning_rate": options.learning_rate,
        "bf16": contender.bf16,
        "seed": seed,
        "use_cpu": not has_accelerator,
        "dataloader_pin_memory": has_accelerator,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
    }
    start = now()
    trainer, student = contender.make(options, folder, settings)
    prepare_seconds = now() - start
    turns = Turns(parent)
    turns.pass_on()
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(turns)
    trainer.train()
    result = {
        "seed": seed,
        "prepare_seconds": prepare_seconds,
        "seconds": turns.seconds,
        "steps": trainer.state.global_step,
        "sentences_per_second": len(trainer.train_dataset) * options.epochs / turns.seconds,
    }
    parent.send(result | {"sts_spearman": sts_score(options, student) if options.sts_test else None})


def sts_score(options: Namespace, student: PreTrainedModel) -> float:
    """Spearman correlation of the student's cosines with what people said, in float32 whoever trained it."""
    from retort.data.readers import read_sts
    from retort.evaluation.sentences import load_sentence_teacher, sts_of_each

    teacher = load_sentence_teacher(options.teacher, options.max_length)
    return sts_of_each(teacher.with_model(student), {"STS": read_sts(options.sts_test)})["STS"]


# --- The rounds -------------------------------------------------------------------------------------------------------


def run_round(options: Namespace, folder: Path, turn: int) -> dict[str, dict]:
    """Train every contender once, in turns; another one begins in each round."""
    first = turn % len(CONTENDERS)
    connections = {}
    for contender in CONTENDERS[first:] + CONTENDERS[:first]:
        connections[contender.name], theirs = get_context("spawn").Pipe()
        job = (contender, options, folder / contender.name, options.seed + turn, theirs)
        get_context("spawn").Process(target=work, args=job, daemon=True).start()
        theirs.close()
        answer(connections, contender.name)
    results: dict[str, dict] = {}
    while len(results) < len(CONTENDERS):
        for name in [name for name in connections if name not in results]:
            connections[name].send(None)
            if result := answer(connections, name):
                results[name] = result
                print(f"round {turn + 1}: {name:28}{result['sentences_per_second']:8.1f} sentences/s", flush=True)
    return results


def answer(connections: dict[str, Connection], name: str) -> dict | None:
    """Wait for a process to pass the turn on (None), or to finish."""
    try:
        return connections[name].recv()
    except EOFError:
        raise SystemExit(f"{name} failed; its error is above.") from None


def summarize(rounds: list[dict[str, dict]]) -> dict[str, dict]:
    """Medians over the rounds; ratios are taken within a round, and come as `[median, lowest, highest]`."""
    summary = {}
    for contender in CONTENDERS:
        runs = [results[contender.name] for results in rounds]
        ratios = {}
        for reference in REFERENCES:
            each = [results[reference.name]["seconds"] / results[contender.name]["seconds"] for results in rounds]
            ratios[reference.name] = [statistics.median(each), min(each), max(each)]
        summary[contender.name] = {
            "sentences_per_second": statistics.median(run["sentences_per_second"] for run in runs),
            "speedup_over": ratios,
            # Later rounds find the vectors made.
            "prepare_seconds": runs[0]["prepare_seconds"],
            "sts_spearman": statistics.mean(run["sts_spearman"] for run in runs) if runs[0]["sts_spearman"] else None,
        }
    return summary


def table(summary: dict[str, dict]) -> str:
    """The summary as aligned text."""
    lines = [["", "sentences/s", "x ST (min-max)", "x ST bf16 (min-max)", "prepare s", "STS Spearman"]]
    for name, row in summary.items():
        ratios = [f"{median:.2f} ({low:.2f}-{high:.2f})" for median, low, high in row["speedup_over"].values()]
        score = "-" if row["sts_spearman"] is None else f"{row['sts_spearman']:.4f}"
        lines.append([name, f"{row['sentences_per_second']:.0f}", *ratios, f"{row['prepare_seconds']:.1f}", score])
    return "\n".join(aligned(lines, gap=2))


# --- The command line -------------------------------------------------------------------------------------------------


def main() -> None:
    """Run the rounds, print the table and write all numbers down."""
    options = parse_options()
    os.environ["TQDM_DISABLE"] = "1"  # sentence-transformers' own bars; the processes inherit it
    disable_progress_bars()
    texts = choose_texts(options)
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    print(f"{describe_machine()}\n{', '.join(map(' '.join, versions.items()))}")
    print(
        f"{len(texts):,} texts, {options.epochs} epoch(s), layers {options.layers} of {options.teacher}\n", flush=True
    )
    with tempfile.TemporaryDirectory(prefix="retort-benchmark-") as folder:
        texts.save_to_disk(Path(folder) / "texts")
        rounds = [run_round(options, Path(folder), turn) for turn in range(options.rounds)]
    summary = summarize(rounds)
    print(f"\n{table(summary)}\n\nAll numbers: {options.output}")
    Path(options.output).parent.mkdir(parents=True, exist_ok=True)
    measured = {"machine": describe_machine(), "threads": torch.get_num_threads(), "versions": versions}
    measured |= {"settings": vars(options) | {"rows": len(texts)}, "summary": summary, "rounds": rounds}
    write_json(options.output, measured)


def parse_options() -> Namespace:
    """The command line; the teacher's place is filled in."""
    from retort.recipes import read_recipe

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="how often each contender trains (default: 3)")
    parser.add_argument("--rows", type=int, default=4096, help="texts, drawn at random; 0 for all (default: 4096)")
    parser.add_argument("--train_files", nargs="+", metavar="FILE", help="texts: .txt, or table.tsv:column,column")
    parser.add_argument("--sts_test", metavar="FILE", help="table with sentence1, sentence2, score, to judge students")
    parser.add_argument("--teacher", help="a SentenceTransformer (default: all-MiniLM-L6-v2 from its PyPI package)")
    parser.add_argument("--layers", type=int, nargs="+", default=[0, 2, 5], help="to keep, from 0 (default: 0 2 5)")
    parser.add_argument("--epochs", type=int, default=1, help="of each training (default: 1)")
    parser.add_argument("--batch_size", type=int, default=64, help="texts of a step (default: 64)")
    parser.add_argument("--learning_rate", type=float, default=3e-4, help="at the start (default: 3e-4)")
    parser.add_argument("--max_length", type=int, default=128, help="tokens of a text at most (default: 128)")
    parser.add_argument("--seed", type=int, default=42, help="of the first round; the next has the next (default: 42)")
    parser.add_argument("--output", default="runs/benchmarks/sentence_distillation.json", help="(default: %(default)s)")
    options = parser.parse_args()
    options.teacher = options.teacher or read_recipe("quickstart").teacher.source
    return options


def choose_texts(options: Namespace) -> Dataset:
    """The texts to learn from: the user's, without those of the test, or docstrings of Python's standard library."""
    if options.train_files:
        pairs = read_dataset(options.sts_test) if options.sts_test else {"sentence1": [], "sentence2": []}
        texts = read_texts(options.train_files, exclude=[*pairs["sentence1"], *pairs["sentence2"]])
    else:
        texts = docstring_corpus().sentences["train"]
    rows = min(options.rows, len(texts)) or len(texts)
    return texts.select_columns("text").shuffle(seed=options.seed).select(range(rows)).flatten_indices()


if __name__ == "__main__":
    main()
