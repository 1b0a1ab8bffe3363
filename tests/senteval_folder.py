"""A small folder of SentEval, each task in the form that its download script leaves."""

from __future__ import annotations

import random
from pathlib import Path

import tiny

from retort.data.readers.senteval import BINARY, STS_SUBSETS, TREC_CLASSES


def write_senteval(folder: Path, rows: int = 24) -> Path:
    """Write all of it; returns the folder that stands for data/downstream."""
    draw = random.Random(0)
    texts = iter(tiny.sentences(5000, seed=3))

    def write(name: str, lines: list[str], encoding: str = "utf-8") -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("".join(f"{line}\n" for line in lines), encoding=encoding)

    for name, subsets in STS_SUBSETS.items():
        for subset in subsets:
            write(f"STS/{name}-en-test/STS.input.{subset}.txt", [f"{next(texts)}\t{next(texts)}" for _ in range(rows)])
            scores = ["" if n == 3 else f"{draw.uniform(0, 5):.2f}" for n in range(rows)]
            write(f"STS/{name}-en-test/STS.gs.{subset}.txt", scores)
    for split in ("train", "dev", "test"):
        made = [f"a\tb\tc\t{n}\t{draw.uniform(0, 5):.1f}\t{next(texts)}\t{next(texts)}" for n in range(rows)]
        write(f"STS/STSBenchmark/sts-{split}.csv", made)
        write(f"SST/binary/sentiment-{split}", [f"{next(texts)}\t{n % 2}" for n in range(rows)])
    for split in ("train", "trial", "test_annotated"):
        head = "pair_ID\tsentence_A\tsentence_B\trelatedness_score\tentailment_judgment"
        made = [f"{n}\t{next(texts)}\t{next(texts)}\t{draw.uniform(1, 5):.1f}\tNEUTRAL" for n in range(rows)]
        write(f"SICK/SICK_{split}.txt", [head, *made])
    for files in BINARY.values():
        for file in files:
            write(file, [f"{next(texts)} caf\xe9" for _ in range(rows)], "latin-1")
    for file in ("train_5500.label", "TREC_10.label"):
        made = [f"{TREC_CLASSES[n % 6]}:kind What is {next(texts)} ?" for n in range(3 * rows)]
        write(f"TREC/{file}", made, "latin-1")
    for split in ("train", "test"):
        head = "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String"
        write(
            f"MRPC/msr_paraphrase_{split}.txt",
            [head, *(f"{n % 2}\t1\t2\t{next(texts)}\t{next(texts)}" for n in range(rows))],
        )
    return folder
