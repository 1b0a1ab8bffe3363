"""What the commands of `retort.cli` do: each calls the other folders, and prints."""

from .command_line import ScriptParser, named_file, quiet

# Each command is a module, imported when it is called: they don't need what the others import.
__all__ = ["cache", "curvature", "distill", "env", "evaluate", "export", "predict", "recipes", "vocabulary"]
