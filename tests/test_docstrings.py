"""The docstring corpus: what is taken from source files, what is left, and that no side sees another's text."""

import logging
import textwrap

import pytest

from retort.data import docstring_corpus
from retort.data.readers.docstrings import read_docstrings, split_sentences, summary_and_details

MODULE = '''
"""Tools for the {name} of a river.

They measure the {name} and write it into a table.
"""

def measure():
    """Return the {name} as a number.

    The number is given in meters, never in feet. See the {name} manual, e.g. Chapter two.

    >>> measure()
    3.2
    """

class Gauge:
    """A gauge that shows the {name}."""

    if True:
        async def read(self):
            "Return what the gauge shows."
'''

NAMES = [f"{first}{last}" for first in ("deep", "fast", "wide", "cold") for last in ("ness", "er", "est", "ish", "ly")]


@pytest.fixture
def library(tmp_path):
    for name in NAMES:
        (tmp_path / f"{name}.py").write_text(MODULE.format(name=name))
    return tmp_path


def doc(text):
    return textwrap.dedent(text).strip()


def test_docstrings_come_from_modules_classes_functions_and_nested_blocks_with_their_dotted_module_name(tmp_path):
    (tmp_path / "water" / "deep").mkdir(parents=True)
    (tmp_path / "water" / "__init__.py").write_text('"The package."\n')
    (tmp_path / "water" / "deep" / "lake.py").write_text(MODULE.format(name="depth"))
    found = list(read_docstrings(tmp_path))
    assert [d.module for d in found] == ["water"] + ["water.deep.lake"] * 4
    assert [d.text.splitlines()[0] for d in found] == [
        "The package.",
        "Tools for the depth of a river.",
        "Return the depth as a number.",
        "A gauge that shows the depth.",
        "Return what the gauge shows.",
    ]


def test_nothing_is_imported(tmp_path):
    (tmp_path / "bomb.py").write_text('"""A module that must not run."""\nraise SystemExit("imported")\n')
    assert [d.text for d in read_docstrings(tmp_path)] == ["A module that must not run."]


def test_tests_applications_and_installed_packages_are_left_out(tmp_path):
    for folder in ("test", "idlelib", "lib2to3", "site-packages", "lib-dynload", "kept"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "module.py").write_text(f'"""A docstring in {folder}."""\n')
    assert [d.module for d in read_docstrings(tmp_path)] == ["kept.module"]


def test_files_that_are_not_python_are_counted_in_one_warning(tmp_path, caplog):
    (tmp_path / "a.py").write_text("def broken(:\n")
    (tmp_path / "b.py").write_bytes(b"\x00\xff\xfe binary")
    (tmp_path / "c.py").write_text('"""A module that is right."""\n')
    with caplog.at_level(logging.WARNING):
        assert len(list(read_docstrings(tmp_path))) == 1
    assert [r.message.count("Skipped 2 files") for r in caplog.records] == [1]
    assert "a.py" in caplog.text
    assert "b.py" in caplog.text


def test_a_docstring_is_split_into_sentences_across_its_lines():
    text = doc("""
        Measure the river, e.g. The Rhine.

        The water is cold.  It runs ("very fast.") Nobody swims
        in it! Is that so? Yes, that is so.
        """)
    assert split_sentences(text) == [
        "Measure the river, e.g. The Rhine.",
        "The water is cold.",
        'It runs ("very fast.")',
        "Nobody swims in it!",
        "Is that so?",
        "Yes, that is so.",
    ]


def test_doctests_signatures_tables_headings_and_literal_blocks_are_dropped():
    text = doc("""
        measure(river, *, unit='m') -> float

        Measure the depth of a river, as in::

            This line is a literal block and it looks like prose.

            So does this one after a blank line.

        Usage:

        >>> measure("Rhine")
        This output of a doctest looks like prose too.

        river       the one to be measured
        unit        meters or feet or miles
        x = {y[0]: z(1) for y in 2 * w}

        - The first item of a list.
        - The second item of a list.
        """)
    assert split_sentences(text) == [
        "Measure the depth of a river, as in::",
        "The first item of a list.",
        "The second item of a list.",
    ]


def test_a_word_that_begins_with_a_bullet_like_letter_is_left_alone():
    assert split_sentences("o to go to the river is to go far.") == ["o to go to the river is to go far."]


def test_a_pair_is_the_summary_and_the_prose_below_it():
    text = doc("""
        Return the depth
        of a river.

        >>> depth("Rhine")
        3

        For example this is how one calls it:

            depth(x)

        The depth is given in meters.
        It is never negative.

        - It is rounded to a centimeter.
        """)
    assert summary_and_details(text) == (
        "Return the depth of a river.",
        "The depth is given in meters. It is never negative. It is rounded to a centimeter.",
    )


@pytest.mark.parametrize(
    "text", ["Return the depth of a river.", "It is one paragraph. It holds two sentences.\n\nThe details follow here."]
)
def test_a_docstring_without_a_one_sentence_summary_or_without_details_makes_no_pair(text):
    assert summary_and_details(text) is None


def test_no_module_is_on_two_sides_and_each_has_about_its_share(library):
    corpus = docstring_corpus(seed=3, root=library)
    for table in corpus:
        modules = {side: set(rows["module"]) for side, rows in table.items()}
        assert {side: len(names) for side, names in modules.items()} == {"train": 15, "dev": 1, "test": 4}
        assert set.union(*modules.values()) == set(NAMES)


def test_no_text_occurs_twice_and_test_keeps_what_others_share(library):
    corpus = docstring_corpus(seed=3, root=library)
    texts = [text for rows in corpus.sentences.values() for text in rows["text"]]
    assert len(texts) == len(set(texts))
    # Every module of this library says it; the test side keeps the one copy.
    assert "Return what the gauge shows." in corpus.sentences["test"]["text"]
    trained_on = set(corpus.sentences["train"]["text"])
    held_out = [row for side in ("dev", "test") for row in corpus.pairs[side]]
    assert held_out
    for row in held_out:
        assert trained_on.isdisjoint([*split_sentences(row["summary"]), *split_sentences(row["details"])])


def test_the_corpus_depends_on_the_seed_and_on_nothing_else(library):
    def sides(seed):
        return {side: list(rows["text"]) for side, rows in docstring_corpus(seed, library).sentences.items()}

    assert sides(3) == sides(3)
    assert sides(3) != sides(4)


def test_a_folder_without_python_says_what_was_expected(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No docstrings below .* expected Python source files"):
        docstring_corpus(root=tmp_path)


def test_too_few_modules_for_three_sides_is_an_error(tmp_path):
    (tmp_path / "one.py").write_text(MODULE.format(name="depth"))
    with pytest.raises(ValueError, match="1 top-level modules with 4 docstrings leave nothing for dev and test"):
        docstring_corpus(root=tmp_path)


def test_the_standard_library_of_this_machine_is_enough_to_distil_on():
    corpus = docstring_corpus()
    assert 8_000 < len(corpus.sentences["train"]) < 40_000
    assert all(len(corpus.sentences[side]) > 500 for side in ("dev", "test"))
    assert all(len(corpus.pairs[side]) > 100 for side in ("dev", "test"))
    assert not set(corpus.sentences["train"]["text"]) & set(corpus.sentences["test"]["text"])
