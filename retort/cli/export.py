"""Arguments of `retort export`."""

import argparse

from .form import new_folder

SUMMARY = "Export a trained model to ONNX, compare it with PyTorch, and measure the speed-up."
DESCRIPTION = """  retort export --model runs/tagger --int8

Writes model.onnx and, with --int8, model-int8.onnx to the model's folder, or to --output_dir together with the model's
configuration and tokenizer. Files of these names without retort's mark are not replaced. Differences and speed are
measured on docstrings of Python's standard library."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    model = parser.add_argument_group("model")
    model.add_argument("--model", required=True, metavar="FOLDER|ID", help="a trained model with its tokenizer")
    output = parser.add_argument_group("output")
    output.add_argument(
        "--output_dir",
        type=new_folder,
        metavar="FOLDER",
        help="where to write (default: the model's folder, if it is local)",
    )
    output.add_argument("--int8", action="store_true", help="also write a quantised file")
