"""What `retort cache` takes."""

import argparse
from typing import Any

from .form import new_command

DESCRIPTION = """  retort cache embedding_weight=1 --teacher sentence-transformers/all-MiniLM-L6-v2 \\
      --train_files corpus.txt --output_dir caches/minilm

Writes what the objectives named as key=value need: embedding_weight=1 the embeddings, hidden_weight=1 layer_map=last
the last layer, and so on. A run with --teacher_cache caches/minilm (in a recipe: arguments.teacher_cache) then reads
them at every step instead of running the teacher. Interrupted and started again, it goes on at the next part; under
torchrun the ranks share the parts.

  retort cache --teacher cross-encoder/ms-marco-MiniLM-L6-v2 --train_files pairs.tsv \\
      --negatives 7 --miner sentence-transformers/all-MiniLM-L6-v2 --output_dir caches/reranker

A reranker (a sequence classifier with one label) scores the documents of each query, with --negatives after they have
been mined, and groups.parquet holds queries, documents and scores for ContrastiveTrainer (margin_weight,
listwise_weight)."""


def add_to(commands: Any) -> None:
    """Add the command to `retort`."""
    parser = new_command(
        commands,
        "cache",
        run,
        summary="Write a teacher's outputs to disk, once, for later runs.",
        description=DESCRIPTION,
    )
    given = parser.add_argument_group("teacher and text")
    given.add_argument("--teacher", required=True, help="hub id or folder")
    given.add_argument(
        "--train_files",
        required=True,
        nargs="+",
        metavar="FILE",
        help="the text of the later runs, in their order: .txt, pairs.tsv:question,answer, ...",
    )
    given.add_argument("--exclude_files", nargs="+", default=[], metavar="FILE", help="texts that those runs leave out")
    given.add_argument(
        "--max_length",
        type=int,
        metavar="N",
        help="tokens to which texts are cut, or a reranker's pairs (default: 128, or 512)",
    )
    mined = parser.add_argument_group("hard negatives (for a reranker)")
    mined.add_argument("--negatives", type=int, default=0, metavar="N", help="how many documents each query is given")
    mined.add_argument("--miner", help="the sentence encoder that finds them, the nearest: hub id or folder")
    what = parser.add_argument_group("outputs (the student's shape decides which layers are compared)")
    what.add_argument(
        "--layers", type=int, nargs="+", metavar="N", help="the student's: how many, or which (default: half)"
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
    """Write them."""
    from ..commands import cache

    cache.run(options)
