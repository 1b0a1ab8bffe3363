"""What the documentation shows is what there is."""

from draw_architecture import PAGE, redrawn
from write_recipe_reference import PAGE as RECIPES_PAGE
from write_recipe_reference import rewritten


def test_the_picture_of_the_architecture_is_that_of_the_imports():
    page = PAGE.read_text(encoding="utf-8")
    assert redrawn(page) == page, "Imports have changed: run python tests/draw_architecture.py"


def test_the_reference_of_a_recipes_keys_is_that_of_the_types():
    page = RECIPES_PAGE.read_text(encoding="utf-8")
    assert rewritten(page) == page, "Types or helps have changed: run python tests/write_recipe_reference.py"
