"""Arguments of `retort predict`."""

import argparse

from .form import is_same, new_file, positive, replaces_in

SUMMARY = "Tag words or classify texts in files of any size with a trained model."
DESCRIPTION = """  retort predict --model runs/tagger --input sentences.txt --output tags.tsv
  zcat pairs.tsv.gz | retort predict --model runs/nli --pairs --format jsonl

The model's architecture decides whether it tags words or classifies texts. The input is UTF-8 with one row per line
and may be compressed (.gz). A tagger reads running text, or words separated by spaces with --is_split_into_words. A
classifier reads a text, or with --pairs two texts with a tab between them. Each line gives one line of output: words,
tags and probabilities; or text, label and probability. An empty line gives an empty line; in jsonl, an object without
words, or with null as the prediction. In jsonl, entities have their offsets in the line. On running text they are those
of transformers.pipeline("token-classification", model, aggregation_strategy="first"). If a line is longer than the
model's limit, a tagger reads it in overlapping windows and takes each word's tag from the window where the word has the
most context. A classifier truncates it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    model = parser.add_argument_group("model")
    model.add_argument("--model", required=True, help="folder or hub id of a model for token or text classification")
    model.add_argument("--max_length", type=positive, default=512, help="maximal number of tokens of a row or window")
    model.add_argument(
        "--stride",
        type=int,
        help="for taggers: tokens that consecutive windows of a long line share, as in transformers' pipelines "
        "(default: a quarter of a window's text tokens)",
    )
    model.add_argument("--batch_size", type=positive, default=32, help="rows per forward pass")
    text = parser.add_argument_group("input")
    text.add_argument("--input", default="-", metavar="FILE", help="default: -, standard input")
    text.add_argument("--pairs", action="store_true", help="classify pairs: text1<TAB>text2")
    text.add_argument("--is_split_into_words", action="store_true", help="the words to tag are separated by spaces")
    output = parser.add_argument_group("output")
    output.add_argument(
        "--output",
        type=new_file,
        default="-",
        metavar="FILE",
        help="written when complete; default: -, standard output",
    )
    output.add_argument("--format", choices=("tsv", "jsonl"), default="tsv", help="format of the output")


def check(options: argparse.Namespace) -> None:
    """Refuse to overwrite the input, or a file of the model."""
    if options.output != "-" and is_same(options.output, options.input):
        options.parser.error("--output is the file of --input, which would be lost: name another file")
    if options.output != "-" and replaces_in(options.output, options.model):
        options.parser.error("--output is a file in the model's folder, which would be lost: name another file")
