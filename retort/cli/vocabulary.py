"""Arguments of `retort vocabulary`."""

import argparse
from pathlib import Path

from .form import is_same, new_folder, positive

SUMMARY = "Train or trim a smaller tokenizer for a student, and compare it with the teacher's."
DESCRIPTION = """  retort vocabulary --teacher bert-base-multilingual-cased --train 16000 --text ru.txt --output_dir v1
  retort vocabulary --teacher bert-base-multilingual-cased --trim 16000 ...
  retort vocabulary --teacher bert-base-multilingual-cased --trim --coverage 0.999 ...

Prints, for the teacher's and the new vocabulary, the number of tokens, the tokens per word of the text, and the share
of unknown tokens in it. Also prints how many of the student's tokens the teacher has, and how many it can spell by
several tokens. Pass the folder as student.tokenizer in a recipe, or as --tokenizer to run_vocab_reduced_mlm.py."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    given = parser.add_argument_group("input")
    given.add_argument("--teacher", required=True, help="folder or hub id of a teacher, or of a tokenizer")
    given.add_argument("--text", required=True, nargs="+", metavar="FILE", help="text in all languages of the student")
    how = parser.add_argument_group("method (one of --train and --trim is required)")
    either = how.add_mutually_exclusive_group(required=True)
    either.add_argument(
        "--train", type=positive, metavar="N", help="train a tokenizer of the teacher's kind with N tokens"
    )
    either.add_argument(
        "--trim",
        type=positive,
        nargs="?",
        const=0,
        metavar="N",
        help="keep N of the teacher's tokens; without N, all tokens that the text needs",
    )
    how.add_argument(
        "--coverage",
        type=float,
        default=1.0,
        metavar="X",
        help="with --trim: share of the text's tokens that the kept tokens cover",
    )
    output = parser.add_argument_group("output")
    output.add_argument(
        "--output_dir", type=new_folder, required=True, metavar="FOLDER", help="where to write the tokenizer"
    )


def check(options: argparse.Namespace) -> None:
    """Refuse a coverage for a trained tokenizer, and to overwrite the teacher's."""
    if options.train and options.coverage != 1:
        options.parser.error("--coverage needs --trim")
    if is_same(options.output_dir, options.teacher):
        options.parser.error("--output_dir is the teacher's folder, whose tokenizer would be lost: name another folder")
    if (Path(options.output_dir) / "config.json").exists():
        options.parser.error("--output_dir has a model, whose tokenizer would be lost: name another folder")
