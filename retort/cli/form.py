"""How the parsers of all commands look: required flags are marked, defaults told, errors one line."""

import argparse
import sys
from collections.abc import Callable
from typing import Any, NoReturn


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, and whose help keeps the lines of its description."""

    def __init__(self, **settings: Any):
        super().__init__(**{"formatter_class": _Formatter, "allow_abbrev": False} | settings)

    def error(self, message: str) -> NoReturn:
        """Say what is wrong with the command line, and exit with 2."""
        print(f"{self.prog}: error: {message} (--help tells what it takes)", file=sys.stderr)
        raise SystemExit(2)


class _Formatter(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str):
        super().__init__(prog, max_help_position=32, width=110)

    def _get_help_string(self, action: argparse.Action) -> str:
        told = action.help or ""
        if action.required and action.nargs not in ("*", "?"):
            return f"{told} (required)"
        silent = action.default in (None, False, [], argparse.SUPPRESS) or "efault" in told or not action.option_strings
        return told if silent else f"{told} (default: %(default)s)"


def new_command(commands: Any, name: str, run: Callable, *, summary: str, description: str) -> Parser:
    """Add a command.

    Args:
        commands: the subparsers of `retort`.
        name: of the command.
        run: takes the options.
        summary: for the list of commands.
        description: for the command's own help; what a user types, and what happens then.
    """
    parser = commands.add_parser(name, help=summary, description=f"{summary}\n\n{description}")
    parser.set_defaults(run=run, parser=parser)
    add_traceback(parser)
    return parser


def add_traceback(parser: argparse.ArgumentParser) -> None:
    """The flag that all commands have, before or behind the command's name."""
    parser.add_argument(
        "--traceback", action="store_true", default=argparse.SUPPRESS, help="show the traceback of an error"
    )
