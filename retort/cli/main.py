"""Parses the command line, runs the command, and prints errors in one line."""

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module

from . import cache, curvature, distill, env, evaluate, export, predict, recipes, vocabulary
from .form import Parser, add_command, add_traceback

DESCRIPTION = """Distil an encoder into a student small enough to ship.

Start with `retort distill quickstart`, or list the recipes with `retort recipes`. Every command has a --help. All
commands also run as `python -m retort ...`, `torchrun -m retort ...`, `accelerate launch -m retort ...` and
`deepspeed --module retort ...`."""

# Each module has the arguments of the command that the module of the same name in `retort.commands` runs.
COMMANDS = {
    "distill": distill,
    "recipes": recipes,
    "eval": evaluate,
    "predict": predict,
    "export": export,
    "vocabulary": vocabulary,
    "cache": cache,
    "curvature": curvature,
    "env": env,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line.

    Args:
        arguments: the arguments after `retort`; by default those of the process.

    Returns:
        0; or 2 after an error and 130 after Ctrl-C, which are printed to stderr in one line.
    """
    options = parse(sys.argv[1:] if arguments is None else arguments)
    try:
        from ..commands import quiet  # imports transformers, which takes seconds

        quiet()
        name = options.command.__name__.rpartition(".")[2]
        import_module(f"retort.commands.{name}").run(options)
        sys.stdout.flush()  # a short output would meet a closed pipe only at exit
    except SystemExit as refusal:
        if not isinstance(refusal.code, str):
            raise
        return _failed(options, refusal, refusal.code)
    except KeyboardInterrupt as interruption:
        return _failed(options, interruption, getattr(options.command, "INTERRUPTED", "interrupted"), code=130)
    except BrokenPipeError:  # the reader of the output has stopped reading (`retort recipes | head`)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else flushing stdout at exit would fail again
    except (ValueError, OSError, ImportError) as error:
        return _failed(options, error, str(error))
    except Exception as error:  # an unexpected error: also print where it was raised
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{frame.filename}, line {frame.lineno}"
        return _failed(options, error, f"{type(error).__name__}: {error} ({where}; --traceback shows more)")
    return 0


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse a command line. The options include `command`, the module in `COMMANDS`, and its `parser`.

    Raises:
        SystemExit: the arguments are invalid (2), or ask for help (0).
    """
    parser = Parser(prog="retort", description=DESCRIPTION)
    parser.set_defaults(traceback=False)
    add_traceback(parser)
    # DeepSpeed's launcher passes this before the command. The environment has the same value.
    parser.add_argument("--local_rank", "--local-rank", type=int, help=argparse.SUPPRESS)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=Parser)
    for name, command in COMMANDS.items():
        add_command(commands, name, command)
    options, rest = parser.parse_known_args(arguments)
    # argparse doesn't assign words after a flag to `changes`: `distill quickstart --dry_run output_dir=x`.
    if hasattr(options, "changes") and not any(word.startswith("-") for word in rest):
        options.changes = [*options.changes, *rest]
    elif rest:
        options.parser.error(_unknown(rest[0], options.parser))
    if hasattr(options.command, "check"):
        options.command.check(options)
    return options


def _unknown(word: str, parser: Parser) -> str:
    """The error message for an unknown argument."""
    if not word.startswith("-"):
        return f"unexpected {word!r}"
    flag = word.partition("=")[0]
    near = get_close_matches(flag, [string for action in parser._actions for string in action.option_strings], n=1)
    changes = any(action.dest == "changes" for action in parser._actions)
    hint = " Pass changes as key=value." if changes else ""
    if flag in near:
        return f"{flag} belongs behind the command: {parser.prog} ... {flag}."
    return f"there is no flag {flag}." + (f" Did you mean {near[0]}?" if near else hint)


def _failed(options: argparse.Namespace, error: BaseException, reason: str, *, code: int = 2) -> int:
    if options.traceback:
        traceback.print_exception(error)
    else:
        print(f"{options.parser.prog}: error: {' '.join(reason.split())}", file=sys.stderr)
    return code
