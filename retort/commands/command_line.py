"""Flags, or a YAML file with flags on top; and a --help that a person can read."""

import argparse
import sys
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import transformers
from transformers import HfArgumentParser, TrainingArguments

from ..recipes import read_yaml

# Of the more than a hundred fields of TrainingArguments, those that most runs set. --help_all shows the rest.
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
    """For a command without dataclasses. Its --help keeps the lines of its description; transformers is made quiet."""
    quiet()
    return argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)


def parse(*dataclass_types: type, description: str) -> tuple:
    """Parse `script.py [settings.yaml] [--flag value ...]` into one object of each dataclass; flags win.

    transformers is made quiet.

    Raises:
        SystemExit: as argparse does, with a message: an unknown flag or YAML key, a missing or ill-typed value.
    """
    parser = _parser(dataclass_types, description)
    return parser.parse_args_into_dataclasses(_with_settings(parser))


def parse_given(
    options: type, settings: type, *, description: str, defaults: Mapping[str, Any]
) -> tuple[Any, dict[str, Any]]:
    """As `parse`, for a script that hands settings on, some of them with defaults of its own.

    Args:
        options: a dataclass of the script's own.
        settings: the class whose settings are handed on.
        description: for --help.
        defaults: of settings, where they are not to be the class's.

    Returns:
        An object of `options`, and the settings that were given or have a default here.

    Raises:
        SystemExit: as `parse`.
    """
    parser = _parser((options, settings), description)
    parser.set_defaults(**defaults)  # for --help
    # argparse fills in no default where there is something, be it None.
    blank = argparse.Namespace(**{each.name: None for each in fields(settings)})
    found = vars(parser.parse_args(_with_settings(parser), blank))
    handed_on = {each.name: found.pop(each.name) for each in fields(settings)}
    handed_on.pop("local_rank", None)  # a launcher's
    return options(**found), {**defaults, **{name: value for name, value in handed_on.items() if value is not None}}


def named_file(given: str) -> tuple[str, str]:
    """NAME=FILE; a file alone goes by its name.

    Raises:
        SystemExit: nothing where the file should be; its path would be the current folder.
    """
    name, _, file = given.rpartition("=")
    if not file:
        raise SystemExit(f"{given!r} names no file. Give NAME=FILE, or FILE.")
    return name or Path(file).stem, file


def quiet() -> None:
    """Keep transformers from telling what it loads and saves, in lines and bars that are gone before one can read."""
    transformers.logging.set_verbosity_warning()
    transformers.logging.disable_progress_bar()


def _parser(dataclass_types: tuple[type, ...], description: str) -> HfArgumentParser:
    """A parser whose --help shows the common flags, and with --help_all every one. All parse."""
    quiet()
    parser = HfArgumentParser(
        dataclass_types,
        description=description,
        usage="%(prog)s [settings.yaml] [--flag value ...]",
        formatter_class=_Formatter,
    )
    parser.add_argument("--help_all", action="help", help="show every flag of transformers.TrainingArguments, too")
    # A field that our arguments give another default is shown, too.
    ours = {name for cls in dataclass_types for name in vars(cls).get("__annotations__", {})}
    hidden = {field.name for field in fields(TrainingArguments)} - COMMON - ours
    for action in parser._actions:
        if action.dest in hidden and "--help_all" not in sys.argv:
            action.help = argparse.SUPPRESS
        if action.dest == "output_dir":
            action.required = True  # Trainer would write into trainer_output/
        if action.dest != "help":
            action.option_strings = action.option_strings[:1]  # not the second spelling, --with-dashes
        if action.choices is None and action.nargs != 0:
            action.metavar = {int: "N", float: "X"}.get(action.type, "VALUE")
    return parser


def _with_settings(parser: HfArgumentParser) -> list[str]:
    """The flags of a YAML file, if the first argument is one, and those behind it."""
    arguments = sys.argv[1:]
    if not arguments or not arguments[0].endswith((".yaml", ".yml")):
        return arguments
    path, *arguments = arguments
    settings = read_yaml(path)
    known = {action.dest for action in parser._actions}
    if unknown := sorted(settings.keys() - known):
        parser.error(f"{path}: unknown settings {', '.join(unknown)} (see --help_all)")
    # As flags, values of a YAML file go through the same conversions and checks as those of the command line.
    flags = []
    for name, value in settings.items():
        if value is not None:
            flags += [f"--{name}", *map(str, value if isinstance(value, list) else [value])]
    return flags + arguments


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Keeps the description's lines, and tells a default where there is one."""

    def __init__(self, prog: str):
        super().__init__(prog, max_help_position=32, width=110)

    def _get_help_string(self, action: argparse.Action) -> str:
        told = action.help or ""
        silent = action.default in (None, [], argparse.SUPPRESS) or "efault" in told
        return told if silent else f"{told} (default: %(default)s)"
