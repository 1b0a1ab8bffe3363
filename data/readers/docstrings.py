"""A small English corpus that exists on every machine with Python: the docstrings of the standard library.

Source files are parsed with `ast`. No module is imported and nothing is downloaded. Python 3.11 has about 16,000
distinct sentences and 2,200 pairs of a summary and the text below it. Reading takes three seconds.
"""

import ast
import hashlib
import logging
import os
import re
import sysconfig
import warnings
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from datasets import Dataset, DatasetDict

logger = logging.getLogger(__name__)

# Folders to skip: tests, two applications, a deprecated parser, a table of help topics, and installed packages.
SKIPPED_FOLDERS = frozenset(
    ("test", "tests", "idlelib", "turtledemo", "lib2to3", "pydoc_data", "site-packages", "dist-packages")
)

# Shares of all docstrings that are held out; the rest is for training. With 250 queries a score has an error of 0.02,
# too much to compare students, so test has twice as many.
HELD_OUT_SHARES = {"test": 0.2, "dev": 0.05}

_BULLET = re.compile(r"^(?:[-*+•]|\(?\d+[.)]|:\w[\w ]*:)\s+")
_COLUMNS = re.compile(r"\S {3,}\S")
_SIGNATURE = re.compile(r"[\w.]+\s?\(.*\)\s*(?:->.*|[:.]?$)|[^.!?]*\s(?:->|<==>|=>)\s")
_SENTENCE_END = re.compile(
    r"""(?<!\be\.g\.)(?<!\bi\.e\.)(?<!\bcf\.)(?<!\bvs\.)(?<=[.!?])(?P<closing>["')\]]*)\s+(?=["'(`*]*[A-Z])"""
)
_WORD = re.compile(r"""["'(\[`*]*[A-Za-z]+(?:['/-][A-Za-z]+)*["')\]`*]*[.,;:!?]*["')]*""")
_LONGEST_SENTENCE = 60

_CLAUSE_END = re.compile(r"(?<=[,;:])\s")

_SHORTEST_CLAUSE = 4


class Docstring(NamedTuple):
    """A docstring, its indentation removed, the dotted name of the module that holds it, and the names of the
    parameters of the function that it describes; of modules and classes, there are none."""

    module: str
    text: str
    parameters: frozenset[str] = frozenset()


class DocstringCorpus(NamedTuple):
    """Splits `train`, `dev` and `test` of two tables. No top-level module is in two splits.

    Attributes:
        sentences: columns `text`, `module`.
        pairs: columns `summary`, `details`, `module`.
    """

    sentences: DatasetDict
    pairs: DatasetDict


def docstring_corpus(seed: int = 0, root: str | os.PathLike | None = None) -> DocstringCorpus:
    """Sentences for distillation, and pairs for the evaluation of retrieval.

    Top-level modules are sorted by a seeded hash of their names and assigned to test until it is full (a fifth of all
    docstrings), then to dev (a twentieth), and the rest to train. Every text occurs once. A text of several splits is
    kept in test, else in dev, so no sentence of dev or test occurs in train.

    Args:
        seed: seed for the choice of each split's modules.
        root: folder of a library; by default Python's standard library.

    Raises:
        FileNotFoundError: there are no docstrings in Python files below `root`.
        ValueError: the library has too few modules for three splits.
    """
    docstrings = library_docstrings(root)
    sentences = [{"text": text, "module": d.module} for d in docstrings for text in split_sentences(d.text)]
    pairs = [
        {"summary": pair[0], "details": pair[1], "module": d.module}
        for d in docstrings
        if (pair := summary_and_details(d.text))
    ]
    sides = sides_of(docstrings, seed)
    return DocstringCorpus(_split(sentences, ("text",), sides), _split(pairs, ("summary", "details"), sides))


def library_docstrings(root: str | os.PathLike | None = None) -> list[Docstring]:
    """The docstrings of a library, Python's own by default.

    Raises:
        FileNotFoundError: `root` holds no docstring in a Python file.
    """
    root = Path(sysconfig.get_path("stdlib") if root is None else root)
    docstrings = list(read_docstrings(root))
    if not docstrings:
        raise FileNotFoundError(
            f"No docstrings below {root}: expected Python source files (*.py). Some distributions ship the standard "
            "library compiled or zipped. Pass the folder of an unpacked one as `root`."
        )
    return docstrings


def passages(sentences: Dataset, source: str) -> Dataset:
    """Sentences, their clauses, and pairs of consecutive sentences.

    A student that sees few texts many times overfits: more epochs don't bring it closer to its teacher on other texts,
    but other segments of the same text do.

    Args:
        sentences: a column `text` with one sentence per row, in order, and a column named by `source`.
        source: column with the origin of each sentence. Only sentences of the same origin are joined.

    Returns:
        A column `text` of distinct passages: the sentences in order, then their clauses of at least four words (the
        parts between commas, semicolons and colons), then the pairs.
    """
    texts, sources = sentences["text"][:], sentences[source][:]
    clauses = [
        clause for text in texts for clause in _CLAUSE_END.split(text) if len(clause.split()) >= _SHORTEST_CLAUSE
    ]
    pairs = [
        f"{first} {second}"
        for (first, here), (second, there) in pairwise(zip(texts, sources, strict=True))
        if here == there
    ]
    return Dataset.from_dict({"text": list(dict.fromkeys([*texts, *clauses, *pairs]))})


def read_docstrings(root: str | os.PathLike) -> Iterator[Docstring]:
    """The docstrings of all modules below `root`, sorted by path and line.

    Folders in `SKIPPED_FOLDERS` and folders that can't be imported (`lib-dynload`) are left out. Files that this Python
    can't parse are skipped with one warning.
    """
    root = Path(root)
    unreadable = []
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if name.isidentifier() and name not in SKIPPED_FOLDERS)
        for path in (Path(folder, name) for name in sorted(files) if name.endswith(".py")):
            try:
                with warnings.catch_warnings():
                    # Ignore invalid escapes in other people's code.
                    warnings.simplefilter("ignore")
                    tree = ast.parse(path.read_bytes(), filename=str(path))
            except (SyntaxError, ValueError) as error:
                unreadable.append(f"{path} ({error})")
                continue
            module = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
            yield from (Docstring(module, *found) for found in _docstrings_in(tree))
    if unreadable:
        logger.warning("Skipped %d files that are not Python: %s", len(unreadable), "; ".join(unreadable))


def split_sentences(text: str) -> list[str]:
    """The sentences of a docstring in order, without doctests, signatures, tables and headings."""
    return [
        sentence
        for paragraph in _paragraphs(text)
        for sentence in _SENTENCE_END.sub(r"\g<closing>\n", paragraph).split("\n")
        if _is_prose(sentence) and len(sentence.split()) <= _LONGEST_SENTENCE
    ]


def summary_and_details(text: str) -> tuple[str, str] | None:
    """A docstring's summary and the text below it, its "more elaborate description" (PEP 257).

    Returns:
        `(summary, details)`, or None if the first paragraph is not a single sentence or no paragraph follows it.
    """
    # A paragraph that ends with a colon introduces an example, which was removed.
    prose = [paragraph for paragraph in _paragraphs(text) if _is_prose(paragraph) and not paragraph.endswith(":")]
    if len(prose) < 2 or split_sentences(prose[0]) != prose[:1]:
        return None
    return prose[0], " ".join(prose[1:])


def _docstrings_in(node: ast.AST) -> Iterator[tuple[str, frozenset[str]]]:
    """Docstrings of a module, its classes and functions, nested ones too, with the functions' parameters."""
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        text = ast.get_docstring(node)
        if text:
            yield text, _parameters(node)
    # Statements only: expressions hold no docstring, and `ast.walk` over them takes longer than parsing.
    for branch in ("body", "handlers", "orelse", "finalbody", "cases"):
        for child in getattr(node, branch, ()):
            yield from _docstrings_in(child)


def _parameters(node: ast.AST) -> frozenset[str]:
    """The names of a function's parameters, without `self` and `cls`."""
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return frozenset()
    named = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    rest = [each for each in (node.args.vararg, node.args.kwarg) if each]
    return frozenset(each.arg for each in (*named, *rest)) - {"self", "cls"}


def _paragraphs(text: str) -> Iterator[str]:
    """Paragraphs and list items, each as one line, without doctests, tables and literal blocks (after `::`)."""
    lines: list[str] = []
    in_doctest = False
    literal_below: int | None = None
    for line in [*text.splitlines(), ""]:
        content = line.strip()
        if content and literal_below is not None:
            if len(line) - len(line.lstrip()) > literal_below:
                continue
            literal_below = None
        # A doctest's output ends at a blank line.
        in_doctest = bool(content) and (in_doctest or content.startswith(">>>"))
        is_text = content and not in_doctest and not _COLUMNS.search(content)
        if lines and (not is_text or _BULLET.match(content)):
            yield " ".join(" ".join(lines).split())
            lines = []
        if is_text:
            lines.append(_BULLET.sub("", content))
        if content.endswith("::"):
            literal_below = len(line) - len(line.lstrip())


def _is_prose(text: str) -> bool:
    """Whether a text has at least three words, 70 % of them plain words, and is not a signature."""
    words = text.split()
    plain = sum(_WORD.fullmatch(word) is not None for word in words)
    return len(words) >= 3 and plain >= 0.7 * len(words) and not _SIGNATURE.match(text)


def sides_of(docstrings: list[Docstring], seed: int = 0) -> dict[str, str]:
    """Top-level module -> `test`, `dev` or `train` (see `docstring_corpus`).

    Raises:
        ValueError: too few modules to fill three sides.
    """
    sizes = Counter(_top_level(docstring.module) for docstring in docstrings)
    room = {side: share * len(docstrings) for side, share in HELD_OUT_SHARES.items()}
    sides = {}
    for module in sorted(sizes, key=lambda name: hashlib.sha256(f"{seed}/{name}".encode()).digest()):
        sides[module] = next((side for side, free in room.items() if free >= sizes[module]), "train")
        if sides[module] in room:
            room[sides[module]] -= sizes[module]
    if missing := {"test", "dev", "train"} - set(sides.values()):
        raise ValueError(
            f"{len(sizes)} top-level modules with {len(docstrings)} docstrings leave nothing for "
            f"{' and '.join(sorted(missing))}: a module is never split, test holds at most "
            f"{HELD_OUT_SHARES['test']:.0%} of the docstrings and dev {HELD_OUT_SHARES['dev']:.0%}. Use a library with "
            "more or smaller modules."
        )
    return sides


def _split(rows: list[dict[str, str]], texts: tuple[str, ...], sides: dict[str, str]) -> DatasetDict:
    """Assign rows to the splits of their modules. A row is dropped if one of its `texts` has occurred in any split."""
    kept: dict[str, list[dict[str, str]]] = {"train": [], "dev": [], "test": []}
    seen: set[str] = set()
    for side in ("test", "dev", "train"):
        for row in rows:
            new = {row[name] for name in texts}
            if sides[_top_level(row["module"])] == side and seen.isdisjoint(new):
                seen |= new
                kept[side].append(row)
    columns = (*texts, "module")
    return DatasetDict(
        {side: Dataset.from_dict({c: [row[c] for row in rows] for c in columns}) for side, rows in kept.items()}
    )


def _top_level(module: str) -> str:
    return module.partition(".")[0]
