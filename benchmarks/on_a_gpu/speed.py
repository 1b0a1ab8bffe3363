"""The parts that are about time."""

from dataclasses import replace
from itertools import product

from report import Report
from runs import with_retort, with_sentence_transformers
from workload import CUDA, HIDDEN, LENGTHS

from retort import CKDTrainer

# Of the target, on an H100: sentences a second, and as many times sentence-transformers' on rows of a kind.
ASKED, TIMES = 2600, {"mixed": 2.5, "short": 1.5}
# A loop over runs of equal length takes a second a step on a GPU: few steps say so.
FEW = {"warm": 2, "timed": 4}


def target(report: Report) -> None:
    """The figure that the project is held to."""
    found = report.measure("target", with_retort)
    more = report.measure("target, no workers", with_retort, dataloader_num_workers=0)
    best = max(run.get("sentences/s", 0) for run in (found, more))
    if CUDA:
        report.judge(f"{best:,.0f} sentences/s, {ASKED:,} are asked", best >= ASKED)
        report.judge(f"{found.get('waits', -1):.1f} waits a step, none is asked", found.get("waits") == 0)
        report.judge(
            f"a batch is made in {found.get('loader ms', 0):.1f} ms, 2 are asked", found.get("loader ms", 9) <= 2
        )


def peers(report: Report) -> None:
    """Against sentence-transformers, in turns: its vectors made beforehand, retort's teacher cached or live."""
    for kind, asked in TIMES.items():
        ratios = []
        for turn in (1, 2):
            theirs = report.measure(f"{kind}, sentence-transformers {turn}", with_sentence_transformers, kind=kind)
            ours = report.measure(f"{kind}, retort {turn}", with_retort, kind=kind, brief=True)
            live = report.measure(f"{kind}, retort, live teacher {turn}", with_retort, kind=kind, brief=True, live=True)
            ratios.append([theirs.get("ms", 0) / run.get("ms", 1e9) for run in (ours, live)])  # 0 if one failed
        cached, live = (sum(each) / len(each) for each in zip(*ratios, strict=True))
        told = f"{kind}: {cached:.2f} times sentence-transformers ({live:.2f} with a live teacher)"
        if CUDA:
            report.judge(f"{told}, {asked} are asked", cached >= asked)
        else:
            print(told, flush=True)


def shapes(report: Report) -> None:
    """Back ends, lengths and widths."""
    ways = {"auto": {}, "padded": {"attention_backend": "padded"}, "compiled": {"torch_compile": True}}
    for kind, size in product(LENGTHS, HIDDEN):
        for name, more in ways.items():
            report.measure(f"{size}, {kind}, {name}", with_retort, size=size, kind=kind, brief=True, **more)
        settings = {"size": size, "kind": kind, "brief": True, "attention_backend": "runs"}
        report.measure(f"{size}, {kind}, runs", with_retort, sizes=replace(report.sizes, **FEW), **settings)


def ckd(report: Report) -> None:
    """A queue's price."""
    for kind in ("short", "mixed"):
        report.measure(f"{kind}, live teacher, embeddings", with_retort, kind=kind, live=True)
        report.measure(f"{kind}, live teacher, CKD", with_retort, kind=kind, kind_of=CKDTrainer, live=True)


def compiled(report: Report) -> None:
    """As `target`, compiled."""
    report.measure("target, compiled", with_retort, torch_compile=True)
