"""What `retort eval` takes."""

import argparse
from typing import Any

from .form import new_command

DESCRIPTION = """  retort eval --model runs/mine --senteval SentEval/data/downstream --task_set full
  retort eval --model runs/mine --sts en=stsb/test.tsv en-de=STS2017-extended/STS.en-de.txt \\
      --probe banking=cls/banking77 --bitext de=tatoeba/eng-deu.tsv

A model is a folder or a hub id: a SentenceTransformer as it is, any other encoder by its --pooler; or raw weights
(--state_dict student.pth --base_model bert-base-uncased). SentEval's tasks are read from the folders that its own
script downloads. Scores are printed times 100: of STS, Spearman's correlation (of STS12 to STS16 over all pairs of a
year); of transfer tasks, accuracy; of translations, how often the nearest neighbour is the right one, both ways."""


def add_to(commands: Any) -> None:
    """Add the command to `retort`."""
    parser = new_command(
        commands,
        "eval",
        run,
        summary="Score sentence embeddings: STS, transfer tasks by linear probes, retrieval of translations.",
        description=DESCRIPTION,
    )
    model = parser.add_argument_group("model (--model, or --state_dict with --base_model, is required)")
    model.add_argument("--model", help="folder or hub id")
    model.add_argument("--state_dict", metavar="FILE", help="raw weights in place of --model; needs --base_model")
    model.add_argument("--base_model", metavar="ID", help="architecture and tokenizer of --state_dict")
    model.add_argument(
        "--pooler",
        metavar="NAME",
        help="how an encoder's tokens become an embedding: avg, cls, cls_before_pooler, avg_top2, avg_first_last "
        "(default: as a SentenceTransformer's files say, else avg)",
    )
    model.add_argument("--max_length", type=int, default=512, metavar="N", help="tokens to which texts are cut")
    senteval = parser.add_argument_group("SentEval")
    senteval.add_argument("--senteval", metavar="FOLDER", help="data/downstream of SentEval")
    senteval.add_argument(
        "--task_set", choices=("sts", "transfer", "full", "na"), default="na", help="which of its tasks"
    )
    senteval.add_argument("--tasks", nargs="+", default=[], metavar="NAME", help="further ones, such as STS12 or MR")
    senteval.add_argument(
        "--mode",
        choices=("test", "dev", "fasttest"),
        default="test",
        help="test (10 folds), fasttest (5 folds), or dev: development sides, never a test side",
    )
    files = parser.add_argument_group("files of your own")
    tables = {"nargs": "+", "default": [], "metavar": "NAME=FILE"}
    files.add_argument(
        "--sts",
        **tables,
        help="pairs: sentence1, sentence2, score, by a header or in this order; of two files with a header that "
        "translate each other (en-de=en.tsv+de.tsv), sentence1 of the first and sentence2 of the second",
    )
    files.add_argument("--bitext", **tables, help="a sentence, a tab, its translation")
    files.add_argument(
        "--probe", nargs="+", default=[], metavar="NAME=FOLDER", help="train.tsv and test.tsv: a text, a tab, its label"
    )
    output = parser.add_argument_group("output")
    output.add_argument("--output", metavar="FILE", help="write all numbers to this JSON file")


def run(options: argparse.Namespace) -> None:
    """Check what goes together, and score."""
    if (options.model is None) == (options.state_dict is None) or (options.state_dict and not options.base_model):
        options.parser.error("name --model, or --state_dict with --base_model")
    if (options.tasks or options.task_set != "na") and not options.senteval:
        options.parser.error("the data of --tasks and --task_set is read from --senteval FOLDER")
    from ..commands import evaluate

    evaluate.run(options)
