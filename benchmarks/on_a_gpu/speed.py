"""The parts that measure speed."""

from dataclasses import replace
from itertools import product

from report import Report
from runs import with_retort, with_sentence_transformers
from workload import CUDA, HIDDEN, LENGTHS

from retort import CKDTrainer

# Requirements on an H100: sentences/s of the target, and its ratio to sentence-transformers for each kind of rows.
ASKED, TIMES = 2600, {"mixed": 2.5, "short": 1.5}
# A loop over runs of equal length takes a second per step on a GPU, so few steps are enough.
FEW = {"warm": 2, "timed": 4}


def target(report: Report) -> None:
    """The project's target for training speed."""
    found = report.measure("target", with_retort)
    more = report.measure("target, no workers", with_retort, dataloader_num_workers=0)
    best = max(run.get("sentences/s", 0) for run in (found, more))
    if CUDA:
        report.judge(f"{best:,.0f} sentences/s, at least {ASKED:,} required", best >= ASKED)
        report.judge(f"{found.get('waits', -1):.1f} waits per step, 0 required", found.get("waits") == 0)
        report.judge(
            f"a batch is made in {found.get('loader ms', 0):.1f} ms, at most 2 required", found.get("loader ms", 9) <= 2
        )


def peers(report: Report) -> None:
    """Time sentence-transformers, with precomputed vectors, and retort, with a cached and a live teacher, in turns."""
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
            report.judge(f"{told}, at least {asked} required", cached >= asked)
        else:
            print(told, flush=True)


def shapes(report: Report) -> None:
    """Time all attention back ends, lengths of rows and widths."""
    ways = {"auto": {}, "padded": {"attention_backend": "padded"}, "compiled": {"torch_compile": True}}
    for kind, size in product(LENGTHS, HIDDEN):
        for name, more in ways.items():
            report.measure(f"{size}, {kind}, {name}", with_retort, size=size, kind=kind, brief=True, **more)
        settings = {"size": size, "kind": kind, "brief": True, "attention_backend": "runs"}
        report.measure(f"{size}, {kind}, runs", with_retort, sizes=replace(report.sizes, **FEW), **settings)


def ckd(report: Report) -> None:
    """Time steps with and without a queue."""
    for kind in ("short", "mixed"):
        report.measure(f"{kind}, live teacher, embeddings", with_retort, kind=kind, live=True)
        report.measure(f"{kind}, live teacher, CKD", with_retort, kind=kind, kind_of=CKDTrainer, live=True)


def compiled(report: Report) -> None:
    """Time `target` with torch.compile."""
    report.measure("target, compiled", with_retort, torch_compile=True)
