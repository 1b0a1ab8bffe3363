"""Arguments of `retort eval`."""

import argparse

from .form import is_same, new_file, positive, replaces_in

SUMMARY = "Score sentence embeddings: STS, transfer tasks by linear probes, retrieval of translations."
DESCRIPTION = """  retort eval --model runs/mine --senteval SentEval/data/downstream --task_set full
  retort eval --model runs/mine --sts en=stsb/test.tsv en-de=STS2017-extended/STS.en-de.txt \\
      --probe banking=cls/banking77 --bitext de=tatoeba/eng-deu.tsv

A model is a folder or a hub id: a SentenceTransformer, or any other encoder with a --pooler. Raw weights need
--state_dict and --base_model (--state_dict student.pth --base_model bert-base-uncased). SentEval's tasks are read from
the folders that its script downloads. Scores are printed times 100: for STS, Spearman's correlation (for STS12 to STS16
over all pairs of a year); for transfer tasks, accuracy; for translations, the share of sentences whose nearest
neighbour is their translation, averaged over both directions."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    model = parser.add_argument_group("model (--model, or --state_dict with --base_model, is required)")
    model.add_argument("--model", help="folder or hub id")
    model.add_argument("--state_dict", metavar="FILE", help="raw weights instead of --model; needs --base_model")
    model.add_argument("--base_model", metavar="ID", help="architecture and tokenizer of --state_dict")
    model.add_argument(
        "--pooler",
        metavar="NAME",
        help="pooling of tokens to an embedding: mean, cls_before_pooler, last_token, max, cls, mean_last_two, "
        "mean_first_last, mean_first (default: the pooling in a SentenceTransformer's files, else mean)",
    )
    model.add_argument("--max_length", type=positive, default=512, metavar="N", help="texts are truncated to N tokens")
    senteval = parser.add_argument_group("SentEval")
    senteval.add_argument("--senteval", metavar="FOLDER", help="data/downstream of SentEval")
    senteval.add_argument(
        "--task_set", choices=("sts", "transfer", "full", "na"), default="na", help="a set of tasks; na: none"
    )
    senteval.add_argument("--tasks", nargs="+", default=[], metavar="NAME", help="more tasks, such as STS12 or MR")
    senteval.add_argument(
        "--mode",
        choices=("test", "dev", "fasttest"),
        default="test",
        help="test (10 folds), fasttest (5 folds), or dev: development sets only",
    )
    files = parser.add_argument_group("your own files")
    tables = {"nargs": "+", "default": [], "metavar": "NAME=FILE"}
    files.add_argument(
        "--sts",
        **tables,
        help="pairs: columns sentence1, sentence2, score, with a header row or in this order. Two files with header "
        "rows that are translations of each other (en-de=en.tsv+de.tsv) give pairs of sentence1 of the first and "
        "sentence2 of the second",
    )
    files.add_argument("--bitext", **tables, help="sentence<TAB>translation in each row")
    files.add_argument(
        "--probe",
        nargs="+",
        default=[],
        metavar="NAME=FOLDER",
        help="train.tsv and test.tsv with text<TAB>label; without dev.tsv, a tenth of train.tsv takes its place",
    )
    output = parser.add_argument_group("output")
    output.add_argument("--output", type=new_file, metavar="FILE", help="write all scores to this JSON file")


def check(options: argparse.Namespace) -> None:
    """Refuse a missing model, tasks without their data, and to overwrite data or a file of the model."""
    if (options.model is None) == (options.state_dict is None) or (options.state_dict and not options.base_model):
        options.parser.error("pass --model, or --state_dict with --base_model")
    if options.base_model and options.model:
        options.parser.error("--base_model is for --state_dict: leave it out")
    if (options.tasks or options.task_set != "na") and not options.senteval:
        options.parser.error("--tasks and --task_set need --senteval FOLDER, which holds their data")
    if options.senteval and not options.tasks and options.task_set == "na":
        options.parser.error("--senteval has the data of tasks: name them with --tasks or --task_set")
    files = [file for given in (*options.sts, *options.bitext) for file in given.rpartition("=")[2].split("+")]
    if options.output and any(is_same(options.output, file) for file in files):
        options.parser.error("--output is a file of --sts or --bitext, which would be lost: name another file")
    if options.output and options.model and replaces_in(options.output, options.model):
        options.parser.error("--output is a file in the model's folder, which would be lost: name another file")
