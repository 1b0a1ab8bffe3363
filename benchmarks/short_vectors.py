"""Compare students that are trained for short vectors with a student whose vectors are only truncated.

python benchmarks/short_vectors.py --sts FOLDER --triplets FOLDER [--rows 16000] [--seeds 0 1 2] [--output_dir FOLDER]

The teacher is the quickstart's encoder, the students are three of its layers. They learn the teacher's embeddings of
sentences from SNLI's triplets and from the docstrings of Python's standard library, in four epochs:

- `whole`: by `embedding_weight` alone;
- `short`: also by `truncate_dims=[384, 128, 64]` and `quantization_aware="binary"`.

Measures Spearman's correlation on STS-B's test set and MRR@10 on docstrings of other modules, for each number of
dimensions and each precision. The ranges of int8 are measured on training texts. If it is started again, it continues
after the last finished run.
"""

import argparse
import json
import random
import statistics
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import transformers
from datasets import Dataset, disable_progress_bars

from retort import DistillTrainer, DistillTrainingArguments, shrink, tokenize
from retort.data import read_groups, write_json
from retort.data.readers import docstring_corpus, read_sts
from retort.evaluation import Quality, describe_machine
from retort.evaluation.report import aligned
from retort.evaluation.sentences import ShortEncoder, retrieval_scores, short_vectors, sts_of_each
from retort.modeling.encoding import SentenceEncoder
from retort.recipes import read_recipe, supports_bf16

TOKENS, EPOCHS, CALIBRATED_ON = 40, 4, 1000
DIMS = [384, 128, 64]
STUDENTS = {"whole": {}, "short": {"truncate_dims": DIMS, "quantization_aware": "binary"}}


@dataclass(frozen=True)
class Comparison:
    """The folder, teacher and data of all runs."""

    options: argparse.Namespace
    teacher: SentenceEncoder

    @cached_property
    def texts(self) -> list[str]:
        """Training texts: half of SNLI, half of docstrings."""
        half, draw = self.options.rows // 2, random.Random(0)
        triplets = read_groups([f"{self.options.triplets}/train.tsv"])
        captions = sorted({text for name in triplets.column_names for text in triplets[name]})
        sentences = sorted(set(docstring_corpus().sentences["train"]["text"]))
        return [text for source in (captions, sentences) for text in draw.sample(source, min(half, len(source)))]

    @cached_property
    def sts(self) -> dict[str, Dataset]:
        """STS-B's test set."""
        return {"STS-B": read_sts(f"{self.options.sts}/test.tsv")}

    def quality(self, model: SentenceEncoder | ShortEncoder) -> Quality:
        """Both measures."""
        pairs = docstring_corpus().pairs["test"]
        found = retrieval_scores(model.encode(pairs["summary"][:]), model.encode(pairs["details"][:]))
        return Quality(sts_of_each(model, self.sts) | {"MRR@10": found["mrr@10"]})

    def measured(self, model: SentenceEncoder) -> list[dict[str, Any]]:
        """The scores at each number of dimensions in each precision."""
        sample = random.Random(1).sample(self.texts, min(CALIBRATED_ON, len(self.texts)))
        rows = short_vectors(model, self.quality, DIMS, None, sample)
        return [{"form": f"{row.dims} {row.precision}", "MB": row.megabytes, **row.quality} for row in rows]

    def judged(self, name: str, seed: int) -> list[dict[str, Any]]:
        """Train a student and return its scores, or read those of an earlier run."""
        folder = Path(self.options.output_dir) / f"{name}-{seed}"
        note = folder / "measured.json"
        settings = {"rows": self.options.rows, "epochs": EPOCHS}
        if note.exists():
            earlier = json.loads(note.read_text())
            if earlier["settings"] != settings:
                raise SystemExit(f"{note} is of {earlier['settings']}, not {settings}. Name another --output_dir.")
            return earlier["scores"]
        self.train(STUDENTS[name], seed, folder)
        found = self.measured(SentenceEncoder.from_pretrained(folder).cut_at(TOKENS))
        write_json(note, {"settings": settings, "scores": found})
        print(f"{name}, seed {seed}: {found}", flush=True)
        return found

    def train(self, settings: dict[str, Any], seed: int, folder: Path) -> None:
        """Train a student and save it."""
        tokenizer = self.teacher.tokenizer
        rows = tokenize(Dataset.from_dict({"text": self.texts}), tokenizer, max_length=TOKENS)
        student = shrink(self.teacher.model, layers=[0, 2, 5])
        student.embeddings.requires_grad_(False)
        args = DistillTrainingArguments(
            output_dir=str(folder),
            seed=seed,
            embedding_weight=1.0,
            teacher_cache=f"{self.options.output_dir}/teacher",
            num_train_epochs=EPOCHS,
            per_device_train_batch_size=64,
            learning_rate=5e-4,
            lr_scheduler_type="cosine",
            warmup_steps=0.05,
            bf16=supports_bf16(),
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            **settings,
        )
        teacher = read_recipe("quickstart").teacher.source
        trainer = DistillTrainer(student, teacher, args, train_dataset=rows, processing_class=tokenizer)
        trainer.train()
        trainer.save_model()


def table(teacher: list[dict[str, Any]], runs: dict[str, list[list[dict[str, Any]]]]) -> str:
    """A line for each form of the vectors, with the mean and standard deviation over the seeds, and the gain."""
    metrics = [name for name in teacher[0] if name not in ("form", "MB")]
    head = ["", "MB per million"]
    for metric in metrics:
        head += [f"{metric}: teacher", *runs, "gain"]
    lines = [head]
    for place, reference in enumerate(teacher):
        cells = [reference["form"], f"{reference['MB']}"]
        for metric in metrics:
            values = {name: [run[place][metric] for run in found] for name, found in runs.items()}
            means = {name: statistics.mean(each) for name, each in values.items()}
            spreads = {name: statistics.stdev(each) if len(each) > 1 else 0.0 for name, each in values.items()}
            cells += [f"{reference[metric]:.4f}", *(f"{means[name]:.4f} ± {spreads[name]:.4f}" for name in runs)]
            cells.append(f"{means['short'] - means['whole']:+.4f}")
        lines.append(cells)
    return "\n".join(aligned(lines, gap=2))


def main() -> None:
    """Train all students, print the table and write all numbers to disk."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    disable_progress_bars()
    options = parse_options()
    teacher = SentenceEncoder.from_pretrained(read_recipe("quickstart").teacher.source).cut_at(TOKENS)
    comparison = Comparison(options, teacher)
    print(describe_machine(), flush=True)
    of_teacher = comparison.measured(teacher)
    runs: dict[str, list[list[dict[str, Any]]]] = {name: [] for name in STUDENTS}
    for seed in options.seeds:
        for name, found in runs.items():
            found.append(comparison.judged(name, seed))
    settings = vars(options)
    write_json(Path(options.output_dir) / "short_vectors.json", {"settings": settings, "teacher": of_teacher} | runs)
    print(f"\nSeeds {options.seeds}\n{table(of_teacher, runs)}")


def parse_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sts", required=True, metavar="FOLDER", help="test.tsv of STS-B")
    parser.add_argument("--triplets", required=True, metavar="FOLDER", help="train.tsv of SNLI's triplets")
    parser.add_argument("--rows", type=int, default=16000, help="training texts (default: 16000)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="(default: 0 1 2)")
    parser.add_argument("--output_dir", default="runs/benchmarks/short_vectors", help="(default: %(default)s)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
