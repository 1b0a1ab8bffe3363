"""What `retort predict` takes."""

import argparse
from typing import Any

from .form import new_command

DESCRIPTION = """  retort predict --model runs/tagger --input sentences.txt --output tags.tsv
  zcat pairs.tsv.gz | retort predict --model runs/nli --pairs --format jsonl

The model's architecture says whether it tags or classifies. The input is UTF-8, one row per line (.gz is read, too):
running text to tag, or with --is_split_into_words words that spaces separate, as data sets have them; a text, or two
with a tab between them and --pairs, to classify. Each line gives one line of output: words, tags and probabilities, or
text, label and probability; an empty line, an empty one (in jsonl, an object without words, or with null for what was
predicted). In jsonl, entities come with their places in the line, and on running text are those that
transformers.pipeline("token-classification", model, aggregation_strategy="first") finds. A line that is longer than the
model reads is tagged in windows that overlap, each word where its context is widest; a text to classify is cut."""


def add_to(commands: Any) -> None:
    """Add the command to `retort`."""
    parser = new_command(
        commands,
        "predict",
        run,
        summary="Tag words or classify texts with a finished model, file by file, however large.",
        description=DESCRIPTION,
    )
    model = parser.add_argument_group("model")
    model.add_argument("--model", required=True, help="folder or hub id of a model for token or text classification")
    model.add_argument("--max_length", type=int, default=512, help="tokens that the model reads at once")
    model.add_argument(
        "--stride",
        type=int,
        help="tokens that the windows of a long line to tag share, as pipelines count them (default: a quarter of the "
        "tokens of text in a window)",
    )
    model.add_argument("--batch_size", type=int, default=32, help="rows per forward pass")
    text = parser.add_argument_group("input")
    text.add_argument("--input", default="-", metavar="FILE", help="default: -, standard input")
    text.add_argument("--pairs", action="store_true", help="classify pairs: text1<TAB>text2")
    text.add_argument("--is_split_into_words", action="store_true", help="tag what spaces separate, nothing less")
    output = parser.add_argument_group("output")
    output.add_argument(
        "--output", default="-", metavar="FILE", help="appears whole, at the end; default: -, standard output"
    )
    output.add_argument("--format", choices=("tsv", "jsonl"), default="tsv", help="of the output")


def run(options: argparse.Namespace) -> None:
    """Predict."""
    from ..commands import predict

    predict.run(options)
