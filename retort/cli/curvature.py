"""What `retort curvature` takes."""

import argparse
from typing import Any

from .form import new_command

DESCRIPTION = """  retort curvature --model bert-base-cased --text corpus.txt

Prints Gromov's delta, the diameter, the relative delta (0: a tree) and c, the curvature for a hyperbolic contrastive
loss (Khrulkov et al. 2020, arXiv:1904.02239): the mean over some random samples of tokens, and the standard deviation.
Special tokens count as others do. Another layer or another text has another curvature."""


def add_to(commands: Any) -> None:
    """Add the command to `retort`."""
    parser = new_command(
        commands,
        "curvature",
        run,
        summary="Estimate how tree-like a model's token vectors are, and the curvature that would suit them.",
        description=DESCRIPTION,
    )
    model = parser.add_argument_group("model and text")
    model.add_argument("--model", required=True, help="folder or hub id of an encoder")
    model.add_argument(
        "--text", required=True, nargs="+", metavar="FILE", help="text such as the model will read; .txt: one per line"
    )
    model.add_argument(
        "--layer", type=int, default=-1, metavar="N", help="0: the embeddings, i: the i-th layer, -1: the last"
    )
    model.add_argument("--max_length", type=int, default=128, metavar="N", help="tokens to which texts are cut")
    samples = parser.add_argument_group("samples")
    samples.add_argument("--samples", type=int, default=1000, metavar="N", help="tokens of a sample, at least 4")
    samples.add_argument("--tries", type=int, default=5, metavar="N", help="how many samples")
    samples.add_argument("--seed", type=int, default=0, metavar="N", help="decides on texts and tokens")


def run(options: argparse.Namespace) -> None:
    """Check the sizes, and estimate."""
    for name, least in (("samples", 4), ("tries", 1)):
        if getattr(options, name) < least:
            options.parser.error(f"--{name} is {getattr(options, name)}, but must be at least {least}")
    from ..commands import curvature

    curvature.run(options)
