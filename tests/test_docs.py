"""What the documentation shows is what there is."""

from draw_architecture import PAGE, redrawn


def test_the_picture_of_the_architecture_is_that_of_the_imports():
    page = PAGE.read_text(encoding="utf-8")
    assert redrawn(page) == page, "Imports have changed: run python tests/draw_architecture.py"
