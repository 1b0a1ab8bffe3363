"""Scores sentence embeddings: STS, transfer tasks by linear probes, retrieval of translations."""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import AutoConfig

from ..data import write_json
from ..data.readers import (
    STS_TASKS,
    TRANSFER_TASKS,
    LabelledTexts,
    read_pairs,
    read_sts,
    read_sts_task,
    read_transfer_task,
)
from ..data.tasks import read_task
from ..evaluation.report import aligned
from ..evaluation.sentences import bitext_hits, load_embedder, pair_features, probe, probe_by_folds, sts_scores
from ..modeling import head_of, require_model
from ..modeling.encoding import POOLERS, SentenceEncoder, read_sentence_modules
from ..recipes import absent_files
from .command_line import named_files

TASK_SETS = {"sts": STS_TASKS, "transfer": TRANSFER_TASKS, "full": (*STS_TASKS, *TRANSFER_TASKS), "na": ()}
# STS tasks with a development set.
WITH_DEV = ("STSBenchmark", "SICKRelatedness")
FOLDS = {"test": 10, "dev": 5, "fasttest": 5}


def run(options: argparse.Namespace) -> None:
    """Read all data, score the model, and print and save the scores."""
    for flag, given, known in (("tasks", options.tasks, TASK_SETS["full"]), ("pooler", [options.pooler], POOLERS)):
        if unknown := [name for name in given if name not in (None, *known)]:
            raise SystemExit(f"--{flag} {' '.join(unknown)}: unknown. Choose from {', '.join(known)}.")
    options.tasks = [*TASK_SETS[options.task_set], *options.tasks]
    for flag in ("sts", "bitext", "probe"):
        files = named_files(f"--{flag}", getattr(options, flag))
        if twice := files.keys() & set(options.tasks):
            raise SystemExit(f"--{flag}: {min(twice)} is the name of a task of SentEval. Pass another NAME=FILE.")
        for name, entry in files.items():
            if absent := absent_files(entry):
                raise SystemExit(f"--{flag} {name}: there is no {' and no '.join(absent)} (in {Path.cwd()}).")
    jobs = {"STS": sts_jobs(options), "Transfer": transfer_jobs(options), "Translations": bitext_jobs(options)}
    if not any(jobs.values()):
        raise SystemExit("Nothing to score. Pass --senteval with --task_set or --tasks, or --sts, --probe or --bitext.")
    for flag in ("model", "base_model"):
        if (source := getattr(options, flag)) is not None:
            require_model(f"--{flag}", source)
    if options.state_dict and not Path(options.state_dict).is_file():
        raise SystemExit(f"--state_dict: there is no {options.state_dict} (in {Path.cwd()}).")
    embedder = load_embedder(
        options.model, options.pooler, options.max_length, state_dict=options.state_dict, base=options.base_model
    )
    name = options.model or Path(options.state_dict).name
    print(f"{name}\n")
    if note := pooling_note(options):
        print(f"{note}\n")
    found: dict[str, dict[str, Any]] = {}
    for title, group in jobs.items():
        found[title] = {name: job(embedder) for name, job in group.items()}
        if found[title]:
            print(f"{table(title, found[title])}\n", flush=True)
    if options.output:
        write_json(options.output, {"model": name, "mode": options.mode, "scores": found})
        print(f"All scores: {options.output}")


def pooling_note(options: argparse.Namespace) -> str | None:
    """What the embeddings of a model are whose files and flags don't say it; None if they do."""
    source = options.model or options.base_model
    if options.pooler or (options.model and read_sentence_modules(source) is not None):
        return None
    note = "Its files define no embeddings: the means of its last hidden states are scored. --pooler takes others."
    head = head_of(next(iter(AutoConfig.from_pretrained(source).architectures or ()), ""))
    return f"{note} Its head ({head}) is not used." if options.model and head else note


Job = Callable[[SentenceEncoder], dict[str, Any]]


def sts_jobs(options: argparse.Namespace) -> dict[str, Job]:
    """The STS tasks. Their files are read immediately."""
    split = "dev" if options.mode == "dev" else "test"
    names = [name for name in options.tasks if name in STS_TASKS and (split == "test" or name in WITH_DEV)]
    tasks = {name: read_sts_task(options.senteval, name, split) for name in names}
    tasks |= {name: {name: read_sts(file)} for name, file in named_files("--sts", options.sts).items()}
    return {name: partial(sts_job, task) for name, task in tasks.items()}


def sts_job(task: Mapping[str, Dataset], embedder: SentenceEncoder) -> dict[str, Any]:
    """Spearman's correlations on a task."""
    return asdict(sts_scores(embedder, task))


def transfer_jobs(options: argparse.Namespace) -> dict[str, Job]:
    """The transfer tasks. Their files are read immediately."""
    names = [name for name in options.tasks if name in TRANSFER_TASKS]
    tasks = {name: read_transfer_task(options.senteval, name) for name in names}
    for name, folder in named_files("--probe", options.probe).items():
        task = read_task("classification", folders=folder)
        if not task.labels:
            raise SystemExit(f"--probe {name}: the labels in {folder} are numbers, but a probe is for classes.")
        tasks[name] = {split: LabelledTexts(rows["text"][:], rows["labels"][:]) for split, rows in task.splits.items()}
    return {name: partial(transfer_job, splits, options.mode) for name, splits in tasks.items()}


def transfer_job(splits: Mapping[str, LabelledTexts], mode: str, embedder: SentenceEncoder) -> dict[str, Any]:
    """Accuracies of a linear probe on embeddings."""
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
    """The translation retrieval tasks. Their files are read immediately."""
    files = named_files("--bitext", options.bitext)
    tables = {name: read_pairs(file) for name, file in files.items()}
    return {name: partial(bitext_job, pairs) for name, pairs in tables.items()}


def bitext_job(pairs: Dataset, embedder: SentenceEncoder) -> dict[str, Any]:
    """Share of sentences whose nearest neighbour is their translation."""
    sides = pairs["source"][:], pairs["target"][:]
    hits = bitext_hits(*(embedder.encode(side, progress=True) for side in sides), sides)
    there, back = (float(found.double().mean()) for found in hits)
    return {"all": (there + back) / 2, "there": there, "back": back}


def table(title: str, scores: Mapping[str, Mapping[str, Any]]) -> str:
    """A table of scores times 100 and their mean."""
    values = {name: 100 * found["all"] for name, found in scores.items()}
    mean = sum(values.values()) / len(values)
    lines = [[title, *values, "mean"], ["", *(f"{value:.2f}" for value in values.values()), f"{mean:.2f}"]]
    return "\n".join(aligned(lines, gap=2))
