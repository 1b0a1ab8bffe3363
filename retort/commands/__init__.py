"""The commands: each parses its flags, calls the other folders, and prints."""

from .command_line import named_file, parse, parse_given, plain_parser

# Each command is a module, imported when it is called: they don't need what the others import.
__all__ = ["cache", "curvature", "evaluate", "export", "predict", "vocabulary"]
