"""Compare objectives for sentence embeddings: the same teacher, students, text, steps and batches.

python benchmarks/sentence_objectives.py --train_files corpus.txt pairs.tsv:question,answer \
    --sts STS-B=test.tsv [--sts_dev dev.tsv] [--students 0,2,5 0,5 5] [--objectives cosine ckd] [--seeds 0 1 2]

A student is named by the layers of the teacher that it starts from. Each is trained by

- `none`: not at all: the teacher's layers as they are;
- `simcse`: contrastively without a teacher, each sentence its own positive under another dropout;
- `mse`, `cosine`: distance to the teacher's embedding;
- `similarity`: cosine, and the squared difference of the batch's similarity matrices;
- `ckd`: InfoNCE against the teacher's embeddings of the step and of a queue; `ckd, no queue`: of the step alone;
- `ckd + cosine`: both.

Texts that are judged by are never learnt from. The teacher's embeddings are computed once. Started again, it goes on
after the last run that was finished. Students stay in the folders of their runs, for `retort eval`.
"""

import argparse
import json
import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import transformers
from datasets import Dataset, disable_progress_bars

from retort import CKDTrainer, ContrastiveTrainer, DistillTrainer, shrink, tokenize
from retort.data import read_texts, tokenize_groups, write_json
from retort.data.readers import read_sts
from retort.evaluation import describe_machine
from retort.evaluation.report import aligned
from retort.evaluation.sentences import load_sentence_teacher, sts_of_each
from retort.modeling.encoding import SentenceEncoder
from retort.recipes import read_recipe, supports_bf16
from retort.trainers.stages import release_memory


@dataclass(frozen=True)
class Contender:
    """An objective: the trainer that has it, and its arguments."""

    trainer: type[DistillTrainer]
    arguments: dict[str, Any] = field(default_factory=dict)


CONTENDERS = {
    "none": None,
    "simcse": Contender(ContrastiveTrainer, {"disable_dropout": False}),
    "mse": Contender(DistillTrainer, {"embedding_weight": 1.0, "embedding_loss": "mse"}),
    "cosine": Contender(DistillTrainer, {"embedding_weight": 1.0}),
    "similarity": Contender(DistillTrainer, {"embedding_weight": 1.0, "similarity_weight": 1.0}),
    "ckd": Contender(CKDTrainer),
    "ckd, no queue": Contender(CKDTrainer, {"queue_size": 0}),
    "ckd + cosine": Contender(CKDTrainer, {"embedding_weight": 1.0}),
}


@dataclass(frozen=True)
class Comparison:
    """What all runs share."""

    options: argparse.Namespace
    teacher: SentenceEncoder
    texts: Dataset
    tests: dict[str, Dataset]

    def run(self, objective: str, layers: str, seed: int) -> dict[str, Any]:
        """Train a student and judge it; or read what an earlier run of the same settings found."""
        folder = Path(self.options.output_dir) / f"{objective}-{layers}-{seed}".replace(" ", "")
        note, settings = folder / "scores.json", self._settings(seed)
        asked = {name: vars(self.options)[name] for name in ("teacher", "train_files", "max_length", "sts", "sts_dev")}
        asked |= settings
        if note.exists() and (found := json.loads(note.read_text()))["settings"] == asked:
            return found
        student = shrink(self.teacher.model, layers=[int(layer) for layer in layers.split(",")])
        if contender := CONTENDERS[objective]:
            self._train(contender, student, settings | {"output_dir": str(folder)})
        judged = sts_of_each(self.teacher.with_model(student), self.tests)
        found = {"objective": objective, "layers": layers, "seed": seed, "settings": asked, "scores": judged}
        folder.mkdir(parents=True, exist_ok=True)
        write_json(note, found)
        release_memory()
        print(f"{objective}, layers {layers}, seed {seed}: {judged}", flush=True)
        return found

    def _settings(self, seed: int) -> dict[str, Any]:
        options = self.options
        return {
            "num_train_epochs": options.epochs,
            "per_device_train_batch_size": options.batch_size,
            "learning_rate": options.learning_rate,
            "seed": seed,
            "lr_scheduler_type": "cosine",
            "warmup_steps": 0.05,
            "bf16": supports_bf16(),
            "pooler": str(self.teacher.modules.pooling),
            "save_strategy": "no",
            "disable_tqdm": True,
            "report_to": [],
        }

    def _train(self, contender: Contender, student, settings: dict[str, Any]) -> None:
        is_alone = contender.trainer is ContrastiveTrainer
        settings = {"disable_dropout": True} | settings | contender.arguments
        if not is_alone:
            settings["teacher_cache"] = str(Path(self.options.output_dir) / "teacher")
        trainer = contender.trainer(
            student,
            None if is_alone else self.options.teacher,
            contender.trainer.arguments_class(**settings),
            train_dataset=self._groups() if is_alone else self._rows(),
            processing_class=self.teacher.tokenizer,
        )
        trainer.train()
        trainer.save_model()

    def _rows(self) -> Dataset:
        return tokenize(self.texts, self.teacher.tokenizer, max_length=self.options.max_length)

    def _groups(self) -> Dataset:
        texts = self.texts.select_columns("text").rename_column("text", "anchor")
        return tokenize_groups(texts, self.teacher.tokenizer, max_length=self.options.max_length)


def table(runs: list[dict], teacher: dict[str, float]) -> str:
    """For each student and objective, mean and standard deviation over the seeds, and the share of the teacher's."""
    lines = [["layers", "objective", *teacher]]
    for layers, objective in dict.fromkeys((run["layers"], run["objective"]) for run in runs):
        own = [run["scores"] for run in runs if (run["layers"], run["objective"]) == (layers, objective)]
        cells = []
        for name, reference in teacher.items():
            values = [scores[name] for scores in own]
            mean = statistics.mean(values)
            spread = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
            cells.append(f"{mean:.4f}{spread} ({mean / reference:.1%})")
        lines.append([layers, objective, *cells])
    return "\n".join(aligned([*lines, ["", "teacher", *(f"{score:.4f}" for score in teacher.values())]], gap=2))


def main() -> None:
    """Train all, print the table and write all numbers down."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    disable_progress_bars()
    options = parse_options()
    teacher = load_sentence_teacher(options.teacher, options.max_length)
    tests = {name: read_sts(file) for name, _, file in (given.partition("=") for given in options.sts)}
    held_out = [*tests.values(), *([read_sts(options.sts_dev)] if options.sts_dev else [])]
    judged_by = [text for pairs in held_out for side in ("sentence1", "sentence2") for text in pairs[side]]
    texts = read_texts(options.train_files, exclude=judged_by)
    comparison = Comparison(options, teacher, texts, tests)
    reference = sts_of_each(teacher, tests)
    print(f"{describe_machine()}\n{len(texts):,} texts; teacher: {reference}\n", flush=True)
    runs = [
        comparison.run(objective, layers, seed)
        for layers in options.students
        for seed in options.seeds
        for objective in options.objectives
        if seed == options.seeds[0] or CONTENDERS[objective]
    ]
    output = Path(options.output_dir) / "objectives.json"
    write_json(output, {"machine": describe_machine(), "settings": vars(options), "teacher": reference, "runs": runs})
    print(f"\n{table(runs, reference)}\n\nAll numbers: {output}")


def parse_options() -> argparse.Namespace:
    """The command line; the teacher's place is filled in."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train_files", nargs="+", required=True, metavar="FILE", help="texts, as run_distill.py")
    parser.add_argument("--sts", nargs="+", required=True, metavar="NAME=FILE", help="sentence1, sentence2, score")
    parser.add_argument("--sts_dev", metavar="FILE", help="likewise; only left out of the texts")
    parser.add_argument("--students", nargs="+", default=["0,2,5", "0,5", "5"], help="(default: 0,2,5 0,5 5)")
    parser.add_argument("--objectives", nargs="+", choices=CONTENDERS, default=list(CONTENDERS), help="(default: all)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="(default: 0 1 2)")
    parser.add_argument("--epochs", type=float, default=1, help="of each training (default: 1)")
    parser.add_argument("--batch_size", type=int, default=64, help="texts of a step (default: 64)")
    parser.add_argument("--learning_rate", type=float, default=3e-4, help="at its highest (default: 3e-4)")
    parser.add_argument("--max_length", type=int, default=128, help="tokens of a text at most (default: 128)")
    parser.add_argument("--teacher", help="a SentenceTransformer (default: the quickstart's)")
    parser.add_argument("--output_dir", default="runs/benchmarks/sentence_objectives", help="(default: %(default)s)")
    options = parser.parse_args()
    options.teacher = options.teacher or read_recipe("quickstart").teacher.source
    return options


if __name__ == "__main__":
    main()
