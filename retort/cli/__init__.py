"""The arguments of the command `retort`. Imports only the standard library, so that --help is fast."""

from .main import main, parse
