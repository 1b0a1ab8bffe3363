"""Listing the recipes that come with retort, or printing one."""

import argparse
import re
import textwrap
from pathlib import Path

from ..recipes import needs, packaged_recipes, read_recipe, recipe_path

WIDTH = 110


def run(options: argparse.Namespace) -> None:
    """Print one, or a few lines on each."""
    if options.recipe:
        print(recipe_path(options.recipe).read_text(encoding="utf-8"), end="")
        return
    recipes = packaged_recipes()
    column = max(map(len, recipes)) + 2
    for name, file in recipes.items():
        lines = textwrap.wrap(headline(file), WIDTH - column, break_on_hyphens=False)
        needed = f"-> {needs(read_recipe(name))}."
        lines += textwrap.wrap(needed, WIDTH - column, subsequent_indent="   ", break_on_hyphens=False)
        print(textwrap.indent("\n".join(lines), " " * column).replace(" " * column, name.ljust(column), 1))


def headline(file: Path) -> str:
    """The first sentence of a recipe's comment."""
    comment = re.match(r"(#.*\n)+", file.read_text(encoding="utf-8"))
    text = " ".join(line.removeprefix("#").strip() for line in comment[0].splitlines()) if comment else ""
    return re.split(r"(?<! al\.)(?<=\.) ", text)[0]
