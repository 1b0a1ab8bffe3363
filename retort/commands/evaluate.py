"""Score sentence embeddings: STS, transfer tasks by linear probes, retrieval of translations.

python examples/run_eval.py --model runs/mine --senteval SentEval/data/downstream --task_set full
python examples/run_eval.py --model runs/mine --sts en=stsb/test.tsv en-de=STS2017-extended/STS.en-de.txt \
    --probe banking=cls/banking77 --bitext de=tatoeba/eng-deu.tsv

A model is a folder or a hub id: a SentenceTransformer as it is, any other encoder by its --pooler; or raw weights
(--state_dict student.pth --base_model bert-base-uncased). SentEval's tasks are read from the folders that its own
script downloads. Scores are printed times 100: of STS, Spearman's correlation (of STS12 to STS16 over all pairs of a
year); of transfer tasks, accuracy; of translations, how often the nearest neighbour is the right one, both ways.
"""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

from ..data import write_json
from ..data.readers import (
    STS_TASKS,
    TRANSFER_TASKS,
    LabelledTexts,
    ScoredPairs,
    read_dataset,
    read_sts,
    read_sts_task,
    read_transfer_task,
)
from ..data.tasks import read_task
from ..evaluation.report import aligned
from ..evaluation.sentences import (
    POOLERS,
    bitext_accuracy,
    load_embedder,
    pair_features,
    probe,
    probe_by_folds,
    sts_scores,
)
from ..modeling.encoding import SentenceEncoder
from .command_line import named_file, plain_parser

TASK_SETS = {"sts": STS_TASKS, "transfer": TRANSFER_TASKS, "full": (*STS_TASKS, *TRANSFER_TASKS), "na": ()}
# Those that have a development side of their own.
WITH_DEV = ("STSBenchmark", "SICKRelatedness")
PAIRS_HELP = (
    "pairs: sentence1, sentence2, score, by a header or in this order; of two files with a header that translate each "
    "other (en-de=en.tsv+de.tsv), sentence1 of the first and sentence2 of the second"
)
FOLDS = {"test": 10, "dev": 5, "fasttest": 5}


def main() -> None:
    """Read all that is to be scored, score it, print tables and write the numbers down."""
    options = parse_options()
    jobs = {"STS": sts_jobs(options), "Transfer": transfer_jobs(options), "Translations": bitext_jobs(options)}
    if not any(jobs.values()):
        raise SystemExit(
            "Nothing to score: name tasks (--senteval with --task_set or --tasks), --sts, --probe or --bitext."
        )
    embedder = load_embedder(
        options.model, options.pooler, options.max_length, state_dict=options.state_dict, base=options.base_model
    )
    name = options.model or Path(options.state_dict).name
    print(f"{name}\n")
    found: dict[str, dict[str, Any]] = {}
    for title, group in jobs.items():
        found[title] = {name: job(embedder) for name, job in group.items()}
        if found[title]:
            print(f"{table(title, found[title])}\n", flush=True)
    if options.output:
        write_json(options.output, {"model": name, "mode": options.mode, "scores": found})
        print(f"All numbers: {options.output}")


def parse_options() -> argparse.Namespace:
    """The command line."""
    parser = plain_parser(__doc__)
    parser.add_argument("--model", help="folder or hub id")
    parser.add_argument("--state_dict", metavar="FILE", help="raw weights in place of --model; needs --base_model")
    parser.add_argument("--base_model", metavar="ID", help="architecture and tokenizer of --state_dict")
    parser.add_argument(
        "--pooler",
        choices=POOLERS,
        help="how an encoder's tokens become an embedding (default: as a SentenceTransformer's files say, else avg)",
    )
    parser.add_argument("--max_length", type=int, default=512, help="tokens to which texts are cut (default: 512)")
    parser.add_argument("--senteval", metavar="FOLDER", help="data/downstream of SentEval")
    parser.add_argument(
        "--task_set", choices=TASK_SETS, default="na", help="of SentEval's tasks: sts, transfer, full (default: na)"
    )
    parser.add_argument("--tasks", nargs="+", choices=TASK_SETS["full"], default=[], help="further ones, by name")
    parser.add_argument(
        "--mode",
        choices=FOLDS,
        default="test",
        help="test (10 folds), fasttest (5 folds), or dev: development sides, never a test side (default: test)",
    )
    tables = {"nargs": "+", "default": [], "metavar": "NAME=FILE"}
    parser.add_argument("--sts", **tables, help=PAIRS_HELP)
    parser.add_argument("--bitext", **tables, help="a sentence, a tab, its translation")
    parser.add_argument(
        "--probe", nargs="+", default=[], metavar="NAME=FOLDER", help="train.tsv and test.tsv: a text, a tab, its label"
    )
    parser.add_argument("--output", metavar="FILE", help="write all numbers to this JSON file")
    options = parser.parse_args()
    if (options.model is None) == (options.state_dict is None) or (options.state_dict and not options.base_model):
        parser.error("name --model, or --state_dict with --base_model")
    options.tasks = [*TASK_SETS[options.task_set], *options.tasks]
    if options.tasks and not options.senteval:
        parser.error(f"{', '.join(options.tasks)}: their data is read from --senteval FOLDER")
    return options


Job = Callable[[SentenceEncoder], dict[str, Any]]


def sts_jobs(options: argparse.Namespace) -> dict[str, Job]:
    """What is scored by correlation; all files are read now."""
    split = "dev" if options.mode == "dev" else "test"
    names = [name for name in options.tasks if name in STS_TASKS and (split == "test" or name in WITH_DEV)]
    tasks = {name: read_sts_task(options.senteval, name, split) for name in names}
    for name, file in map(named_file, options.sts):
        pairs = read_sts(file)
        tasks[name] = {name: ScoredPairs(pairs["sentence1"][:], pairs["sentence2"][:], pairs["score"][:])}
    return {name: partial(sts_job, task) for name, task in tasks.items()}


def sts_job(task: Mapping[str, ScoredPairs], embedder: SentenceEncoder) -> dict[str, Any]:
    """Spearman's correlations of a task."""
    return asdict(sts_scores(partial(embedder.encode, progress=True), task))


def transfer_jobs(options: argparse.Namespace) -> dict[str, Job]:
    """What is scored by a probe; all files are read now."""
    names = [name for name in options.tasks if name in TRANSFER_TASKS]
    tasks = {name: read_transfer_task(options.senteval, name) for name in names}
    for name, folder in map(named_file, options.probe):
        splits = read_task("classification", folders=folder).splits
        tasks[name] = {split: LabelledTexts(rows["text"][:], rows["labels"][:]) for split, rows in splits.items()}
    return {name: partial(transfer_job, splits, options.mode) for name, splits in tasks.items()}


def transfer_job(splits: Mapping[str, LabelledTexts], mode: str, embedder: SentenceEncoder) -> dict[str, Any]:
    """Accuracies of a probe that is trained on embeddings."""
    sides = {}
    for split, rows in splits.items():
        features = embedder.encode(rows.texts, progress=True).numpy()
        if rows.second is not None:
            features = pair_features(features, embedder.encode(rows.second, progress=True).numpy())
        sides[split] = features, np.asarray(rows.labels)
    folds = FOLDS[mode]
    found = probe(**sides, folds=folds) if "test" in sides else probe_by_folds(*sides["train"], folds=folds)
    return {"all": found.dev} if mode == "dev" else {"all": found.test, **asdict(found)}


def bitext_jobs(options: argparse.Namespace) -> dict[str, Job]:
    """What is scored by retrieval; all files are read now."""
    tables = {name: read_dataset(file, columns=["source", "target"]) for name, file in map(named_file, options.bitext)}
    return {name: partial(bitext_job, pairs) for name, pairs in tables.items()}


def bitext_job(pairs: Dataset, embedder: SentenceEncoder) -> dict[str, Any]:
    """How often the nearest neighbour is the translation."""
    there, back = bitext_accuracy(*(embedder.encode(pairs[side], progress=True) for side in ("source", "target")))
    return {"all": (there + back) / 2, "there": there, "back": back}


def table(title: str, scores: Mapping[str, Mapping[str, Any]]) -> str:
    """Scores times 100, and their mean."""
    values = {name: 100 * found["all"] for name, found in scores.items()}
    mean = sum(values.values()) / len(values)
    lines = [[title, *values, "mean"], ["", *(f"{value:.2f}" for value in values.values()), f"{mean:.2f}"]]
    return "\n".join(aligned(lines, gap=2))
