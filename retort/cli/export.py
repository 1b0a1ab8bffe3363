"""What `retort export` takes."""

import argparse
from typing import Any

from .form import new_command

DESCRIPTION = """  retort export --model runs/tagger --int8

Writes model.onnx and, with --int8, model-int8.onnx beside the model, or into --output_dir with its configuration and
tokenizer. Differences and speed are measured on sentences of the docstrings of Python's standard library."""


def add_to(commands: Any) -> None:
    """Add the command to `retort`."""
    parser = new_command(
        commands,
        "export",
        run,
        summary="Export a finished model to ONNX, check it against PyTorch, and measure what it gains.",
        description=DESCRIPTION,
    )
    model = parser.add_argument_group("model")
    model.add_argument("--model", required=True, metavar="FOLDER|ID", help="a finished model with its tokenizer")
    output = parser.add_argument_group("output")
    output.add_argument(
        "--output_dir", metavar="FOLDER", help="where to write (default: beside the model, if it is a folder)"
    )
    output.add_argument("--int8", action="store_true", help="write a quantised file, too")


def run(options: argparse.Namespace) -> None:
    """Export."""
    from ..commands import export

    export.run(options)
