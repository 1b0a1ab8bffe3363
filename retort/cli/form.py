"""The parser of all commands: help with required flags and defaults, and one-line errors."""

import argparse
import sys
from pathlib import Path
from types import ModuleType
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


def positive(text: str) -> int:
    """A number of at least 1, as the type of an argument."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def new_file(text: str) -> str:
    """A file that will be written, as the type of an argument."""
    if Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"{text} is a folder. Name a file")
    return _below_folders(text)


def new_folder(text: str) -> str:
    """A folder that will be written, as the type of an argument."""
    if Path(text).is_file():
        raise argparse.ArgumentTypeError(f"{text} is a file. Name a folder")
    return _below_folders(text)


def _below_folders(text: str) -> str:
    """Refuse a path below something that is no folder."""
    if other := next((each for each in Path(text).parents if each.exists() and not each.is_dir()), None):
        raise argparse.ArgumentTypeError(f"{text} can't be written: {other} is not a folder")
    return text


def is_same(first: str, second: str) -> bool:
    """Whether two names are of the same file or folder."""
    return Path(first).resolve() == Path(second).resolve()


def replaces_in(file: str, folder: str) -> bool:
    """Whether a file that will be written is there already, in a folder."""
    return Path(file).exists() and Path(file).resolve().is_relative_to(Path(folder).resolve())


def add_command(commands: Any, name: str, command: ModuleType) -> None:
    """Add a command to the subparsers of `retort`.

    Args:
        commands: the subparsers.
        name: name of the command.
        command: the module with its arguments. It has a SUMMARY, one line for the list of commands; a DESCRIPTION,
            examples and explanation for the command's own help; and `add_arguments`. If arguments can't be combined, it
            has a `check`, which refuses them. If it continues after Ctrl-C, INTERRUPTED says so.
    """
    parser = commands.add_parser(name, help=command.SUMMARY, description=f"{command.SUMMARY}\n\n{command.DESCRIPTION}")
    parser.set_defaults(command=command, parser=parser)
    add_traceback(parser)
    command.add_arguments(parser)


def add_traceback(parser: argparse.ArgumentParser) -> None:
    """Add the flag --traceback, which all commands have, before or after the command's name."""
    parser.add_argument(
        "--traceback", action="store_true", default=argparse.SUPPRESS, help="show the traceback of an error"
    )
