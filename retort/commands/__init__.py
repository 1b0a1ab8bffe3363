"""Implementations of the commands of `retort.cli`. Each command is a module that is imported when it is called."""

from .command_line import ScriptParser, named_file, quiet
