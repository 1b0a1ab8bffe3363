"""Arguments of `retort recipes`."""

import argparse

SUMMARY = "List the recipes that come with retort, or print one."
DESCRIPTION = """  retort recipes
  retort recipes small_ner > mine.yaml

A recipe of your own can also begin with `extends: small_ner` and hold what differs."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("recipe", nargs="?", metavar="NAME", help="print this one, as YAML")
