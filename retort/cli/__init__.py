"""The command `retort`: what it takes, in the standard library alone, so that --help answers at once."""

from .main import main, parse
