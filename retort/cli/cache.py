"""Arguments of `retort cache`."""

import argparse

from .form import is_same, new_folder, positive

SUMMARY = "Write a teacher's vectors, other outputs or scores to disk, for later runs."
INTERRUPTED = "interrupted. Start it again to continue."
DESCRIPTION = """  retort cache --teacher intfloat/multilingual-e5-small --prompt "query: " --train_files corpus.txt \\
      --output_dir vectors/e5
  retort cache embedding_weight=1 --teacher sentence-transformers/all-MiniLM-L6-v2 --train_files corpus.txt \\
      --output_dir caches/minilm

Writes texts and their vectors as Parquet. Students of any width and tokenizer can learn from them without the teacher
(in a recipe: teacher: {vectors: vectors/e5, name: ...}). With objectives as key=value, it writes the teacher's outputs
that these objectives need for one kind of student, e.g. the last layer for hidden_weight=1 layer_map=last. Runs with
--teacher_cache caches/minilm (in a recipe: arguments.teacher_cache) then read these outputs. An interrupted command can
be started again and continues with the next part. Under torchrun, the parts are divided among the ranks.

  retort cache --teacher cross-encoder/ms-marco-MiniLM-L6-v2 --train_files pairs.tsv \\
      --negatives 7 --miner sentence-transformers/all-MiniLM-L6-v2 --output_dir caches/reranker

A reranker (a sequence classifier with one label) scores the documents of each query. With --negatives, hard negatives
are mined first. groups.parquet then has queries, documents and scores for ContrastiveTrainer (margin_weight,
listwise_weight)."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    given = parser.add_argument_group("teacher and text")
    given.add_argument("--teacher", required=True, help="hub id or folder")
    given.add_argument(
        "--train_files",
        required=True,
        nargs="+",
        metavar="FILE",
        help="the text files of the later runs, in the same order: .txt, pairs.tsv:question,answer, ...",
    )
    given.add_argument("--exclude_files", nargs="+", default=[], metavar="FILE", help="texts that these runs leave out")
    given.add_argument(
        "--max_length",
        type=positive,
        metavar="N",
        help="texts are truncated to this many tokens (default: 128; for a reranker's pairs: 512)",
    )
    vectors = parser.add_argument_group("vectors (without key=value)")
    vectors.add_argument(
        "--pooler", metavar="NAME", help="for an encoder that is no sentence-transformers model: mean, cls, ..."
    )
    vectors = vectors.add_mutually_exclusive_group()
    vectors.add_argument("--prompt", metavar="TEXT", help="put before every text (default: the teacher's own)")
    vectors.add_argument("--prompt_name", metavar="NAME", help="of the teacher's prompts, the one to use")
    mined = parser.add_argument_group("hard negatives (for a reranker)")
    mined.add_argument("--negatives", type=int, default=0, metavar="N", help="documents to add to each query")
    mined.add_argument("--miner", help="hub id or folder of a sentence encoder, which finds the nearest documents")
    what = parser.add_argument_group("outputs (with key=value; the student's shape decides which layers are compared)")
    what.add_argument(
        "--layers",
        type=int,
        nargs="+",
        metavar="N",
        help="the teacher's layers that the student keeps: a number, or indices (default: half of the layers)",
    )
    what.add_argument("--hidden_size", type=int, metavar="N", help="the student's width (default: the teacher's)")
    what.add_argument(
        "changes",
        nargs="*",
        metavar="key=value",
        help="arguments of DistillTrainer: the objectives' weights, teacher_cache_dtype, pooler, ...",
    )
    output = parser.add_argument_group("output")
    output.add_argument(
        "--output_dir", type=new_folder, required=True, metavar="FOLDER", help="where to write the outputs"
    )


def check(options: argparse.Namespace) -> None:
    """Refuse flags for other outputs than those that are asked for."""
    if is_same(options.teacher, options.output_dir):
        options.parser.error("--output_dir is the teacher's folder. Name another")
    for change in options.changes:
        if change.partition("=")[0] in ("teacher_cache", "output_dir"):
            options.parser.error(f"{change}: --output_dir names the folder: leave it out")
    of_student = [f"--{name}" for name in ("layers", "hidden_size") if getattr(options, name) is not None]
    if of_student and not options.changes:
        options.parser.error(f"{of_student[0]} is for outputs: name objectives as key=value, e.g. hidden_weight=1")
    of_vectors = [f"--{name}" for name in ("pooler", "prompt", "prompt_name") if getattr(options, name) is not None]
    if of_vectors and options.changes:
        options.parser.error(f"{of_vectors[0]} is for vectors: leave out {options.changes[0]}")
