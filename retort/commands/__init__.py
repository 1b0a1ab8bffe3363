"""Implementations of the commands of `retort.cli`."""

from .command_line import ScriptParser, named_file, quiet

# Each command is a module that is imported when it is called, so that only its own imports are loaded.
__all__ = ["cache", "curvature", "distill", "env", "evaluate", "export", "predict", "recipes", "vocabulary"]
