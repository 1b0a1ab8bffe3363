"""Distil a cross-encoder into bi-encoders by its scores, and into a smaller cross-encoder.

python benchmarks/scores.py --sts FOLDER --triplets FOLDER [--texts FILE ...] [--seeds 0 1 2] [--output_dir FOLDER]

The teacher is the quickstart's encoder with one output, fine-tuned on STS-B's training set to score two sentences from
0 to 5. Queries are from pairs of STS-B with a score of at least 4, and from triplets of SNLI. Each gets four hard
negatives, mined by the encoder. The teacher scores them once. Students:

- `margin`, `listwise`: three layers of the encoder, trained by MarginMSE or KL on these scores;
- `embeddings`: the same three layers, trained on the encoder's embeddings of the same texts, for comparison;
- `scores`: two layers of the teacher, trained pointwise on its scores of more pairs: those of STS-B and SNLI's
  triplets, and each of their texts with the five nearest ones and a random one; and each text of `--texts` with the
  nearest one, the 4th and the 31st nearest one and a random one. Its word embeddings stay the teacher's. Then it is
  trained for an epoch on the same pairs and scores, the two texts of each pair in the other order.

Measures Spearman's correlation on STS-B's test set, and how often a triplet's positive scores above its negative.
Evaluation texts are never trained on. If it is started again, it continues after the last finished run.
"""

import argparse
import json
import random
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import transformers
from datasets import Dataset, concatenate_datasets, disable_progress_bars
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel

from retort import (
    ContrastiveTrainer,
    ContrastiveTrainingArguments,
    DistillTrainer,
    DistillTrainingArguments,
    mine_negatives,
    score_groups,
    shrink,
    tokenize,
)
from retort.data import as_rankings, read_groups, read_texts, tokenize_groups, write_json
from retort.data.readers import read_sts
from retort.evaluation import Classifier, describe_machine, regression_scores
from retort.evaluation.report import aligned
from retort.evaluation.sentences import load_sentence_teacher
from retort.modeling.encoding import SentenceEncoder
from retort.recipes import read_recipe, supports_bf16

TEXT_TOKENS, PAIR_TOKENS = 64, 96
# The teacher's scores are in 0..5. Cosines divided by this have the same range.
TAU = 0.2
BI_ENCODERS = {
    "margin": {"margin_weight": 1.0},
    "listwise": {"listwise_weight": 1.0},
    "embeddings": None,
}
CROSS_ENCODER = "scores"
# Computes the similarity of the two texts of each pair, `[pairs]`.
Judge = Callable[[list[str], list[str]], torch.Tensor]


@dataclass(frozen=True)
class Comparison:
    """The folder, encoder and data of all runs."""

    options: argparse.Namespace
    encoder: SentenceEncoder

    @property
    def folder(self) -> Path:
        return Path(self.options.output_dir)

    @cached_property
    def tests(self) -> tuple[Dataset, Dataset]:
        """STS-B's test set, and a thousand triplets."""
        triplets = read_groups([f"{self.options.triplets}/test.tsv"])
        return read_sts(f"{self.options.sts}/test.tsv"), triplets.select(range(min(1000, len(triplets))))

    @cached_property
    def sts(self) -> Dataset:
        """STS-B's training set: `query`, `document` and `score`."""
        pairs = read_sts(f"{self.options.sts}/train.tsv").rename_columns(
            {"sentence1": "query", "sentence2": "document"}
        )
        return pairs.filter(lambda row: not {row["query"], row["document"]} & self._judged_by)

    @cached_property
    def _judged_by(self) -> set[str]:
        held_out = (*self.tests, read_sts(f"{self.options.sts}/dev.tsv"))
        return {text for rows in held_out for name in rows.column_names if name != "score" for text in rows[name]}

    @cached_property
    def groups(self) -> Dataset:
        """Queries, documents, and the teacher's scores."""
        alike = self.sts.filter(lambda row: row["score"] >= 4).select_columns(["query", "document"])
        triplets = read_groups([f"{self.options.triplets}/train.tsv"])
        together = concatenate_datasets([as_rankings(alike), as_rankings(triplets)])
        kept = together.filter(lambda row: not {row["query"], *row["documents"]} & self._judged_by)
        chosen = kept.shuffle(seed=0).select(range(min(self.options.queries, len(kept))))
        mined = mine_negatives(chosen, self.encoder, 4)
        return score_groups(mined, self.folder / "teacher", self.folder / "scores", max_length=PAIR_TOKENS)

    @cached_property
    def pairs(self) -> Dataset:
        """Pairs for the small cross-encoder, each in one of its two orders: training pairs, mined and random ones."""
        triplets = read_groups([f"{self.options.triplets}/train.tsv"])
        sides = [(self.sts["query"], self.sts["document"])]
        sides += [(triplets["anchor"], triplets[name]) for name in ("positive", "negative")]
        given = [pair for first, second in sides for pair in zip(first, second, strict=True)]
        given = [pair for pair in given if not set(pair) & self._judged_by]
        given += [(second, first) for first, second in given]
        firsts, seconds = map(list, zip(*given, strict=True))
        pairs = [*self._with_mined(given, range(5)), *zip(firsts, shuffled(seconds), strict=True)]
        if self.options.texts:
            texts = read_texts(self.options.texts, exclude=self._judged_by)["text"][:]
            pairs += self._with_mined([*zip(texts, shuffled(texts), strict=True)], (0, 3, 30))
        unique = {frozenset(pair): pair for pair in pairs if pair[0] != pair[1]}.values()
        return Dataset.from_list([{"query": query, "document": document} for query, document in unique])

    def _with_mined(self, pairs: list[tuple[str, str]], ranks: Sequence[int]) -> Iterator[tuple[str, str]]:
        """Pairs, and each of their first texts with the second texts of these ranks, 0 the nearest."""
        firsts, seconds = map(list, zip(*pairs, strict=True))
        rows = Dataset.from_dict({"anchor": firsts, "positive": seconds})
        for row in mine_negatives(rows, self.encoder, max(ranks) + 1):
            own, *nearest = row["documents"]
            yield row["query"], own
            yield from ((row["query"], nearest[rank]) for rank in ranks)

    # --- Training -----------------------------------------------------------------------------------------------------

    def train_teacher(self) -> None:
        """Fine-tune the cross-encoder, unless an earlier run did."""
        folder = self.folder / "teacher"
        if (folder / "model.safetensors").exists():
            return
        name = read_recipe("quickstart").teacher.source
        transformers.set_seed(0)  # of its new head
        model = AutoModelForSequenceClassification.from_pretrained(name, num_labels=1, dtype=torch.float32)
        rows = self._tokenised(self.sts, labels="score")
        settings = self._settings(0, folder, learning_rate=1e-4, per_device_train_batch_size=32, num_train_epochs=3)
        self._run(DistillTrainer(model, None, DistillTrainingArguments(label_weight=1.0, **settings), **rows))

    def train(self, name: str, seed: int, folder: Path) -> None:
        """Train a student and save it."""
        if name == CROSS_ENCODER:
            self._train_cross_encoder(seed, folder)
            return
        student = shrink(self.encoder.model, layers=[0, 2, 5])
        tokenizer = self.encoder.tokenizer
        if scored := BI_ENCODERS[name]:
            rows = tokenize_groups(self.groups, tokenizer, max_length=TEXT_TOKENS)
            settings = self._settings(seed, folder, learning_rate=3e-4, per_device_train_batch_size=16)
            settings |= scored | {"contrastive_weight": 0.0, "score_temperature": TAU}
            args = ContrastiveTrainingArguments(**settings)
            self._run(ContrastiveTrainer(student, None, args, train_dataset=rows, processing_class=tokenizer))
            return
        texts = [text for row in self.groups for text in (row["query"], *row["documents"])]
        rows = tokenize(Dataset.from_dict({"text": texts}), tokenizer, max_length=TEXT_TOKENS)
        settings = self._settings(seed, folder, learning_rate=3e-4, per_device_train_batch_size=96)
        settings |= {"embedding_weight": 1.0, "teacher_cache": str(self.folder / "embeddings")}
        teacher = read_recipe("quickstart").teacher.source
        args = DistillTrainingArguments(**settings)
        self._run(DistillTrainer(student, teacher, args, train_dataset=rows, processing_class=tokenizer))

    def _train_cross_encoder(self, seed: int, folder: Path) -> None:
        teacher = AutoModelForSequenceClassification.from_pretrained(self.folder / "teacher", dtype=torch.float32)
        settings = self._settings(seed, folder, learning_rate=6e-4, per_device_train_batch_size=64, num_train_epochs=2)
        settings |= {"logits_weight": 1.0, "features_weight": 1.0, "hidden_loss": "cosine"}
        settings |= {"teacher_cache": str(self.folder / "outputs")}
        args = DistillTrainingArguments(**settings)
        student = shrink(teacher, layers=[0, 5])
        # If they were trained, they would fit the training pairs' words, and other words would be scored worse.
        student.get_input_embeddings().requires_grad_(False)
        trainer = DistillTrainer(student, str(self.folder / "teacher"), args, **self._tokenised(self.pairs))
        trainer.train()
        # A pair means the same in the other order. The scores are those of the first order: to compute others takes as
        # long as the epoch.
        turned = self.pairs.rename_columns({"query": "document", "document": "query"})
        turned = turned.add_column("score", trainer.train_dataset["teacher_logits"][:].reshape(-1))
        settings |= {"learning_rate": 3e-4, "num_train_epochs": 1, "teacher_cache": None, "disable_dropout": True}
        settings |= {"logits_weight": 0.0, "features_weight": 0.0, "label_weight": 1.0}
        args = DistillTrainingArguments(**settings)
        self._run(DistillTrainer(student, None, args, **self._tokenised(turned, labels="score")))

    def _tokenised(self, pairs: Dataset, **columns: str) -> dict[str, Any]:
        tokenizer = self.encoder.tokenizer
        sides = {"text": "query", "text_pair": "document"}
        rows = tokenize(pairs, tokenizer, max_length=PAIR_TOKENS, **sides, **columns)
        return {"train_dataset": rows, "processing_class": tokenizer}

    def _settings(self, seed: int, folder: Path, **settings: Any) -> dict[str, Any]:
        shared = {"lr_scheduler_type": "cosine", "warmup_steps": 0.1, "bf16": supports_bf16(), "num_train_epochs": 1}
        quiet = {"save_strategy": "no", "disable_tqdm": True, "report_to": []}
        return shared | quiet | settings | {"seed": seed, "output_dir": str(folder)}

    def _run(self, trainer: DistillTrainer) -> None:
        trainer.train()
        trainer.save_model()

    # --- Judging ------------------------------------------------------------------------------------------------------

    def scores(self, judge: Judge) -> dict[str, float]:
        """Both measures for a similarity function."""
        pairs, triplets = self.tests
        anchors, *others = (triplets[name][:] for name in ("anchor", "positive", "negative"))
        positive, negative = (judge(anchors, side) for side in others)
        found = judge(pairs["sentence1"][:], pairs["sentence2"][:])
        return {
            "STS-B": regression_scores(pairs["score"][:], found.tolist()).spearman,
            "triplets": (positive > negative).float().mean().item(),
        }

    def cross_judge(self, folder: Path) -> Judge:
        """Similarities by a cross-encoder."""
        model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
        classifier = Classifier(model, AutoTokenizer.from_pretrained(folder), max_length=PAIR_TOKENS)
        return lambda first, second: classifier(first, second)[:, 0]

    def bi_judge(self, model: PreTrainedModel | Path) -> Judge:
        """Similarities by a bi-encoder: cosines."""
        encoder = (
            SentenceEncoder.from_pretrained(model) if isinstance(model, Path) else self.encoder.with_model(model)
        ).cut_at(TEXT_TOKENS)
        return lambda first, second: torch.cosine_similarity(encoder.encode(first), encoder.encode(second))

    def judged(self, name: str, seed: int) -> dict[str, Any]:
        """Train a student and return its scores, or read those of an earlier run."""
        folder = self.folder / f"{name}-{seed}".replace(" ", "-")
        note = folder / "scores.json"
        if note.exists():
            return json.loads(note.read_text())
        self.train(name, seed, folder)
        judge = self.cross_judge(folder) if name == CROSS_ENCODER else self.bi_judge(folder)
        found = {"name": name, "seed": seed, "scores": self.scores(judge)}
        write_json(note, found)
        print(f"{name}, seed {seed}: {found['scores']}", flush=True)
        return found


def shuffled(texts: list[str]) -> list[str]:
    """The same texts in another order."""
    return random.Random(0).sample(texts, len(texts))


def table(references: dict[str, dict[str, float]], runs: list[dict[str, Any]]) -> str:
    """Mean and standard deviation over the seeds, and the mean divided by the teacher's score."""
    teacher = references["cross-encoder, 6 layers (teacher)"]
    lines = [["", *teacher], *([name, *(f"{value:.4f}" for value in own.values())] for name, own in references.items())]
    for name in dict.fromkeys(run["name"] for run in runs):
        cells = []
        for metric, reference in teacher.items():
            values = [run["scores"][metric] for run in runs if run["name"] == name]
            mean, spread = statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0
            cells.append(f"{mean:.4f} ± {spread:.4f} ({mean / reference:.1%})")
        lines.append(["cross-encoder, 2 layers" if name == CROSS_ENCODER else f"bi-encoder, 3 layers: {name}", *cells])
    return "\n".join(aligned(lines, gap=2))


def main() -> None:
    """Train all students, print the table and write all numbers to disk."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    disable_progress_bars()
    options = parse_options()
    encoder = load_sentence_teacher(read_recipe("quickstart").teacher.source, TEXT_TOKENS)
    comparison = Comparison(options, encoder)
    comparison.train_teacher()
    references = {
        "cross-encoder, 6 layers (teacher)": comparison.scores(comparison.cross_judge(comparison.folder / "teacher")),
        "bi-encoder, 6 layers (teacher of embeddings)": comparison.scores(comparison.bi_judge(encoder.model)),
        "bi-encoder, 3 layers: none": comparison.scores(comparison.bi_judge(shrink(encoder.model, layers=[0, 2, 5]))),
    }
    print(f"{describe_machine()}\n{references}", flush=True)
    runs = [comparison.judged(name, seed) for name in options.students for seed in options.seeds]
    write_json(comparison.folder / "scores.json", {"settings": vars(options), "references": references, "runs": runs})
    print(f"\nSeeds {options.seeds}\n{table(references, runs)}")


def parse_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sts", required=True, metavar="FOLDER", help="train.tsv, dev.tsv, test.tsv of STS-B")
    parser.add_argument("--triplets", required=True, metavar="FOLDER", help="train.tsv, test.tsv of SNLI's triplets")
    parser.add_argument("--texts", nargs="+", metavar="FILE", help="more texts for the small cross-encoder")
    parser.add_argument("--queries", type=int, default=1200, help="queries with documents (default: 1200)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="(default: 0 1 2)")
    known = (*BI_ENCODERS, CROSS_ENCODER)
    parser.add_argument("--students", nargs="+", choices=known, default=known, help="(default: all)")
    parser.add_argument("--output_dir", default="runs/benchmarks/scores", help="(default: %(default)s)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
