"""What `retort vocabulary` takes."""

import argparse
from typing import Any

from .form import new_command

DESCRIPTION = """  retort vocabulary --teacher bert-base-multilingual-cased --train 16000 --text ru.txt --output_dir v1
  retort vocabulary --teacher bert-base-multilingual-cased --trim 16000 ...
  retort vocabulary --teacher bert-base-multilingual-cased --trim --coverage 0.999 ...

Prints, beside the teacher's, how many tokens the vocabulary has, how many a word of the text takes, and how many of the
text's tokens are unknown; and of the student's tokens, how many the teacher has, and how many it can spell by others.
The folder is what student.tokenizer of a recipe takes, and --tokenizer of run_vocab_reduced_mlm.py."""


def add_to(commands: Any) -> None:
    """Add the command to `retort`."""
    parser = new_command(
        commands,
        "vocabulary",
        run,
        summary="Make a smaller tokenizer for a student, trained on text or trimmed, and see what it costs.",
        description=DESCRIPTION,
    )
    given = parser.add_argument_group("input")
    given.add_argument("--teacher", required=True, help="folder or hub id of a teacher, or of a tokenizer")
    given.add_argument("--text", required=True, nargs="+", metavar="FILE", help="in all of the student's languages")
    how = parser.add_argument_group("how (one of --train and --trim is required)")
    either = how.add_mutually_exclusive_group(required=True)
    either.add_argument("--train", type=int, metavar="N", help="train one of the teacher's kind, with so many tokens")
    either.add_argument(
        "--trim", type=int, nargs="?", const=0, metavar="N", help="keep so many of the teacher's; all that are used"
    )
    how.add_argument(
        "--coverage",
        type=float,
        default=1.0,
        metavar="X",
        help="with --trim: share of the text that tokens kept make up",
    )
    output = parser.add_argument_group("output")
    output.add_argument("--output_dir", required=True, metavar="FOLDER", help="where to write the tokenizer")


def run(options: argparse.Namespace) -> None:
    """Check what goes together, and make it."""
    if options.train and options.coverage != 1:
        options.parser.error("--coverage goes with --trim")
    from ..commands import vocabulary

    vocabulary.run(options)
