"""Parses flags, or a YAML file and flags, with a readable --help."""

import argparse
import sys
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import transformers
from transformers import HfArgumentParser, TrainingArguments

from ..recipes import read_yaml

# The most common of the more than a hundred fields of TrainingArguments. --help_all shows all of them.
COMMON = {
    "output_dir",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "num_train_epochs",
    "max_steps",
    "learning_rate",
    "lr_scheduler_type",
    "warmup_steps",
    "weight_decay",
    "bf16",
    "use_cpu",
    "seed",
    "eval_strategy",
    "eval_steps",
    "save_strategy",
    "save_steps",
    "save_total_limit",
    "load_best_model_at_end",
    "metric_for_best_model",
    "report_to",
    "deepspeed",
    "push_to_hub",
    "hub_model_id",
}


def plain_parser(description: str) -> argparse.ArgumentParser:
    """A parser for a command without dataclasses. --help keeps the line breaks of the description. Calls `quiet`."""
    quiet()
    return argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)


def parse(*dataclass_types: type, description: str) -> tuple:
    """Parse `script.py [settings.yaml] [--flag value ...]` into one object of each dataclass. Flags override the file.

    Calls `quiet`.

    Raises:
        SystemExit: a flag or YAML key is unknown, or a value is missing or has the wrong type.
    """
    parser = _parser(dataclass_types, description)
    return parser.parse_args_into_dataclasses(_with_settings(parser))


def parse_given(
    options: type, settings: type, *, description: str, defaults: Mapping[str, Any]
) -> tuple[Any, dict[str, Any]]:
    """As `parse`, for a script that passes settings on and has its own defaults for some of them.

    Args:
        options: the script's own dataclass.
        settings: the class of the settings to pass on.
        description: text for --help.
        defaults: defaults of settings that differ from those of the class.

    Returns:
        An object of `options`, and the settings that were given or are in `defaults`.

    Raises:
        SystemExit: as `parse`.
    """
    parser = _parser((options, settings), description)
    parser.set_defaults(**defaults)  # for --help
    # argparse doesn't set defaults of attributes that exist, even if they are None.
    blank = argparse.Namespace(**{each.name: None for each in fields(settings)})
    found = vars(parser.parse_args(_with_settings(parser), blank))
    passed_on = {each.name: found.pop(each.name) for each in fields(settings)}
    passed_on.pop("local_rank", None)  # set by launchers
    return options(**found), {**defaults, **{name: value for name, value in passed_on.items() if value is not None}}


def named_file(given: str) -> tuple[str, str]:
    """Split NAME=FILE. Without NAME, the name is the file's stem.

    Raises:
        SystemExit: FILE is empty.
    """
    name, _, file = given.rpartition("=")
    if not file:
        raise SystemExit(f"{given!r} names no file. Pass NAME=FILE or FILE.")
    return name or Path(file).stem, file


def quiet() -> None:
    """Turn off the info messages and progress bars of transformers."""
    transformers.logging.set_verbosity_warning()
    transformers.logging.disable_progress_bar()


def _parser(dataclass_types: tuple[type, ...], description: str) -> HfArgumentParser:
    """A parser whose --help shows the common flags, and whose --help_all shows all flags."""
    quiet()
    parser = HfArgumentParser(
        dataclass_types,
        description=description,
        usage="%(prog)s [settings.yaml] [--flag value ...]",
        formatter_class=_Formatter,
    )
    parser.add_argument("--help_all", action="help", help="also show all flags of transformers.TrainingArguments")
    # Fields whose default our arguments change are also shown.
    ours = {name for cls in dataclass_types for name in vars(cls).get("__annotations__", {})}
    hidden = {field.name for field in fields(TrainingArguments)} - COMMON - ours
    for action in parser._actions:
        if action.dest in hidden and "--help_all" not in sys.argv:
            action.help = argparse.SUPPRESS
        if action.dest != "help":
            action.option_strings = action.option_strings[:1]  # without the second spelling, --with-dashes
        if action.choices is None and action.nargs != 0:
            action.metavar = {int: "N", float: "X"}.get(action.type, "VALUE")
    return parser


def _with_settings(parser: HfArgumentParser) -> list[str]:
    """The command line, with a YAML file as the first argument converted to flags."""
    arguments = sys.argv[1:]
    if not arguments or not arguments[0].endswith((".yaml", ".yml")):
        return arguments
    path, *arguments = arguments
    settings = read_yaml(path)
    known = {action.dest for action in parser._actions}
    if unknown := sorted(settings.keys() - known):
        parser.error(f"{path}: unknown settings {', '.join(unknown)} (see --help_all)")
    # As flags, values of a YAML file are converted and checked like those of the command line.
    flags = []
    for name, value in settings.items():
        if value is not None:
            flags += [f"--{name}", *map(str, value if isinstance(value, list) else [value])]
    return flags + arguments


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Keeps the line breaks of the description and shows defaults."""

    def __init__(self, prog: str):
        super().__init__(prog, max_help_position=32, width=110)

    def _get_help_string(self, action: argparse.Action) -> str:
        text = action.help or ""
        silent = action.default in (None, [], argparse.SUPPRESS) or "efault" in text
        return text if silent else f"{text} (default: %(default)s)"
