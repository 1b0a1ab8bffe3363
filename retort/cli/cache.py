"""Arguments of `retort cache`."""

import argparse
from typing import Any

from .form import new_command

DESCRIPTION = """  retort cache embedding_weight=1 --teacher sentence-transformers/all-MiniLM-L6-v2 \\
      --train_files corpus.txt --output_dir caches/minilm

Writes the teacher's outputs for the objectives that are set as key=value: embedding_weight=1 needs the embeddings,
hidden_weight=1 layer_map=last the last layer, and so on. A run with --teacher_cache caches/minilm (in a recipe:
arguments.teacher_cache) then reads them instead of running the teacher. If the command is interrupted, start it again:
it continues with the next part. Under torchrun the ranks share the parts."""


def add_to(commands: Any) -> None:
    """Add the command to `retort`."""
    parser = new_command(
        commands,
        "cache",
        run,
        summary="Write a teacher's outputs to disk for later runs.",
        description=DESCRIPTION,
    )
    given = parser.add_argument_group("teacher and text")
    given.add_argument("--teacher", required=True, help="hub id or folder")
    given.add_argument(
        "--train_files",
        required=True,
        nargs="+",
        metavar="FILE",
        help="the text files of the later runs, in the same order: .txt, pairs.tsv:question,answer, ...",
    )
    given.add_argument("--exclude_files", nargs="+", default=[], metavar="FILE", help="texts that those runs leave out")
    given.add_argument("--max_length", type=int, default=128, metavar="N", help="texts are truncated to N tokens")
    what = parser.add_argument_group("outputs (the layers to compare depend on the student's shape)")
    what.add_argument(
        "--layers",
        type=int,
        nargs="+",
        metavar="N",
        help="the teacher's layers that the student keeps: their number, or their indices (default: half)",
    )
    what.add_argument("--hidden_size", type=int, metavar="N", help="the student's width (default: the teacher's)")
    what.add_argument(
        "changes",
        nargs="*",
        metavar="key=value",
        help="arguments of DistillTrainer: the objectives' weights, teacher_cache_dtype, pooler, ...",
    )
    output = parser.add_argument_group("output")
    output.add_argument("--output_dir", required=True, metavar="FOLDER", help="where to write the outputs")


def run(options: argparse.Namespace) -> None:
    """Write the outputs."""
    from ..commands import cache

    cache.run(options)
