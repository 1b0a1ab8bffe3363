"""Helpers for the command lines of scripts and commands."""

import argparse
import difflib
import sys
from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path

import transformers
from transformers import HfArgumentParser, TrainingArguments

from ..modeling import require_model
from ..trainers.saving import check_own_folder

# The most common of more than a hundred fields of TrainingArguments. --help_all shows the others.
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
_OF_TRANSFORMERS = {field.name for field in fields(TrainingArguments)}


class ScriptParser(HfArgumentParser):
    """An `HfArgumentParser` with a short --help: the flags of the script and its trainer, and the most common flags of
    `TrainingArguments`. All others are accepted, too; --help_all shows them.

    `--output_dir` is required, and must not have files that a student would replace but that may not be retort's.
    Flags can't be abbreviated. Values that don't go together end the script with one line.

    Args:
        dataclass_types: the script's own dataclass, and the class of its trainer's arguments.
        description: text for --help, with its line breaks, such as the script's docstring.
        models: the script's flags that name a folder or Hub id of a model, such as `["teacher"]`.
    """

    def __init__(self, dataclass_types: Iterable[type], description: str, models: Sequence[str] = ()):
        super().__init__(
            dataclass_types,
            description=description,
            usage="%(prog)s --output_dir FOLDER [--flag value ...]",
            formatter_class=_Formatter,
            allow_abbrev=False,
        )
        self.models = models
        self.add_argument("--help_all", action="help", help="show every flag of transformers.TrainingArguments, too")
        # Fields for which our arguments have another default are shown, too.
        ours = {name for cls in self.dataclass_types for name in vars(cls).get("__annotations__", {})}
        hidden = _OF_TRANSFORMERS - COMMON - ours
        for action in self._actions:
            if action.dest in hidden and "--help_all" not in sys.argv:
                action.help = argparse.SUPPRESS
            if action.dest != "help":
                action.option_strings = action.option_strings[:1]  # not the second spelling, --with-dashes
            if action.choices is None and action.nargs != 0:
                action.metavar = {int: "N", float: "X"}.get(action.type, "VALUE")
            action.required |= action.dest == "output_dir"

    def format_help(self) -> str:
        """The description, and the flags in three groups."""
        formatter = self._get_formatter()
        formatter.add_usage(self.usage, self._actions, [])
        formatter.add_text(self.description)
        own = [cls for cls in self.dataclass_types if not issubclass(cls, TrainingArguments)]
        scripts = {field.name for cls in own for field in fields(cls)}
        others = {"help", "help_all", *_OF_TRANSFORMERS}
        for title, chosen in {
            "script": lambda name: name in scripts,
            "distillation": lambda name: name not in scripts | others,
            "training, as in transformers": lambda name: name in others - scripts,
        }.items():
            formatter.start_section(title)
            formatter.add_arguments(action for action in self._actions if chosen(action.dest))
            formatter.end_section()
        return formatter.format_help()

    def parse_args_into_dataclasses(self, *arguments, **named) -> tuple:
        """Parse as `HfArgumentParser` does. A wrong value, an unknown flag, an absent model or a folder of other files
        ends the script with one line."""
        try:
            *parsed, unknown = super().parse_args_into_dataclasses(
                *arguments, **named | {"return_remaining_strings": True}
            )
        except ValueError as error:
            self.error(str(error))
        if unknown:
            flags = [flag for action in self._actions for flag in action.option_strings]
            nearest = difflib.get_close_matches(unknown[0], flags, 1)
            self.error(f"unknown flag {unknown[0]}." + (f" Did you mean {nearest[0]}?" if nearest else ""))
        try:
            for name in self.models:
                require_model(f"--{name}", getattr(parsed[0], name))
            for args in parsed:
                if isinstance(args, TrainingArguments):
                    check_own_folder(args.output_dir)
        except ValueError as error:
            self.error(str(error))
        return tuple(parsed)


def named_file(given: str) -> tuple[str, str]:
    """Split NAME=FILE. Without NAME, the name is the file's stem.

    Raises:
        SystemExit: FILE is empty.
    """
    name, _, file = given.rpartition("=")
    if not file:
        raise SystemExit(f"{given!r} names no file. Pass NAME=FILE or FILE.")
    return name or Path(file).stem, file


def named_files(flag: str, given: Sequence[str]) -> dict[str, str]:
    """Name -> file, of several NAME=FILE.

    Raises:
        SystemExit: a name occurs twice, or see `named_file`.
    """
    pairs = list(map(named_file, given))
    names = [name for name, _ in pairs]
    if twice := {name for name in names if names.count(name) > 1}:
        raise SystemExit(f"{flag}: {', '.join(sorted(twice))} is the name of several files. Pass NAME=FILE.")
    return dict(pairs)


def quiet() -> None:
    """Turn off the info messages and progress bars of transformers."""
    transformers.logging.set_verbosity_warning()
    transformers.logging.disable_progress_bar()


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Keeps the line breaks of the description and shows defaults."""

    def __init__(self, prog: str):
        super().__init__(prog, max_help_position=32, width=110)

    def _get_help_string(self, action: argparse.Action) -> str:
        told = action.help or ""
        if action.required:
            return f"{told} (required)"
        silent = action.default in (None, [], argparse.SUPPRESS) or "efault" in told
        return told if silent else f"{told} (default: %(default)s)"
