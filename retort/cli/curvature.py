"""Arguments of `retort curvature`."""

import argparse

from .form import positive

SUMMARY = "Estimate how tree-like a model's token vectors are, and the matching hyperbolic curvature."
DESCRIPTION = """  retort curvature --model bert-base-cased --text corpus.txt

Prints Gromov's delta, the diameter, the relative delta (0 for a tree) and c, the curvature for a hyperbolic contrastive
loss (Khrulkov et al. 2020, arXiv:1904.02239), each as mean and standard deviation over random samples of tokens,
special tokens included. The curvature depends on the layer and on the text."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    model = parser.add_argument_group("model and text")
    model.add_argument("--model", required=True, help="folder or hub id of an encoder")
    model.add_argument(
        "--text", required=True, nargs="+", metavar="FILE", help="text of the model's domain; .txt: one text per line"
    )
    model.add_argument(
        "--layer", type=int, default=-1, metavar="N", help="0: the embeddings, i: the i-th layer, -1: the last"
    )
    model.add_argument("--max_length", type=positive, default=128, metavar="N", help="texts are truncated to N tokens")
    samples = parser.add_argument_group("samples")
    samples.add_argument("--samples", type=int, default=1000, metavar="N", help="tokens per sample, at least 4")
    samples.add_argument("--tries", type=int, default=5, metavar="N", help="number of samples")
    samples.add_argument("--seed", type=int, default=0, metavar="N", help="seed for the choice of texts and tokens")


def check(options: argparse.Namespace) -> None:
    """Refuse samples that are too small."""
    for name, least in (("samples", 4), ("tries", 1)):
        if getattr(options, name) < least:
            options.parser.error(f"--{name} is {getattr(options, name)}, but must be at least {least}")
