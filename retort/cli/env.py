"""Arguments of `retort env`: none of its own."""

import argparse

SUMMARY = "Show versions, devices, precision and attention back end, for a bug report."
DESCRIPTION = "Copy the output into the bug report."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
