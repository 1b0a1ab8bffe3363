"""The parser of all commands: help with required flags and defaults, and one-line errors."""

import argparse
import sys
from collections.abc import Callable
from typing import Any, NoReturn


class Parser(argparse.ArgumentParser):
    """A parser with one-line errors, whose help keeps the line breaks of the description."""

    def __init__(self, **settings: Any):
        super().__init__(**{"formatter_class": _Formatter, "allow_abbrev": False} | settings)

    def error(self, message: str) -> NoReturn:
        """Print a one-line error and exit with status 2."""
        print(f"{self.prog}: error: {message} (see --help)", file=sys.stderr)
        raise SystemExit(2)


class _Formatter(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str):
        super().__init__(prog, max_help_position=32, width=110)

    def _get_help_string(self, action: argparse.Action) -> str:
        text = action.help or ""
        if action.required and action.nargs not in ("*", "?"):
            return f"{text} (required)"
        silent = action.default in (None, False, [], argparse.SUPPRESS) or "efault" in text or not action.option_strings
        return text if silent else f"{text} (default: %(default)s)"


def new_command(commands: Any, name: str, run: Callable, *, summary: str, description: str) -> Parser:
    """Add a command.

    Args:
        commands: the subparsers of `retort`.
        name: name of the command.
        run: function that runs the command, called with the parsed options.
        summary: one line for the list of commands.
        description: examples and explanation for the command's own help.
    """
    parser = commands.add_parser(name, help=summary, description=f"{summary}\n\n{description}")
    parser.set_defaults(run=run, parser=parser)
    add_traceback(parser)
    return parser


def add_traceback(parser: argparse.ArgumentParser) -> None:
    """Add the flag --traceback, which all commands have, before or after the command's name."""
    parser.add_argument(
        "--traceback", action="store_true", default=argparse.SUPPRESS, help="show the traceback of an error"
    )
