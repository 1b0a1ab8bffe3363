"""Whether the readers give the rows that a file holds, or an error with file and line, whatever its bytes are.

python benchmarks/fuzz_readers.py [--inputs 10000] [--seed 0] [--whole 20]

Each input is a file of random rows (quotes, tabs, lone returns, byte order marks, other line ends, blank last lines,
gzip, names of columns as values), half of them damaged afterwards by a few bytes. The rows that a reader gives must be
those of a parser that shares no code with it. What that parser finds valid must be read, but for what is not plausible
(cells in quotes, an index). Every error must be a ValueError with the file and the line, or say that the file is empty.
Some inputs are read through `read_dataset`, too. Exits with 1 if anything differs, and prints the first such inputs.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import datasets

import retort.data.readers as readers
from retort.data import read_dataset, read_scored_pairs, read_sts_task, read_transfer_task

PIECES = (
    '"|""|"a"|"a ""b"" c"|\'|,|;|\\|#|# |# a = b|| |  |\r|\u2028|\x85|é|日本|😀|e\u0301|\ufeff|text|label|score|'
    "anchor|positive|0|1|2|1.5|nan|inf|1_0|7|-1|1e999|O|B-PER|-DOCSTART-|a word|two words|NUM:x|null|[]|{}"
).split("|")
NOTHING = " is empty| holds no | has a header row .* no other rows| has no pairs| has \\d+ pairs"
IMPLAUSIBLE = "cells that contain quotes are quoted|to be an index"
SCORED, TEXTS, LABELS = ("sentence1", "sentence2", "score"), ("text", "sentence"), ("label", "labels", "score")
TREC = ("ABBR", "DESC", "ENTY", "HUM", "LOC", "NUM")
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


class Invalid(Exception):
    """No file of its format."""


def _cell(draw: random.Random, forbidden: str) -> str:
    text = "".join(draw.choices(PIECES, k=draw.choice((1, 1, 1, 2, 3))))
    return "".join(character for character in text if character not in forbidden)


def _lines_of_format(kind: str, draw: random.Random) -> list[str]:
    """The lines of a file, most of which are as the format has them."""
    count, width = draw.randint(0, 6), draw.randint(1, 3)
    if kind == "text":
        return [_cell(draw, "\n") for _ in range(count)]
    if kind == "jsonl":
        kinds = [[1, -7], [1, 0.5], ["x", "é"], [[], [1], [0.5, 2]], [[], ["a"]], [{"b": 1}, {"c": "d"}], [True]]
        own = {key: [None, *draw.choice(kinds), *(draw.choice(kinds) if draw.random() < 0.1 else [])] for key in "ab"}
        rows = [{key: draw.choice(own[key]) for key in "ab" if draw.random() < 0.9} for _ in range(count)]
        return [json.dumps(row, ensure_ascii=draw.random() < 0.5) for row in rows]
    if kind == "conll":
        separator = draw.choice("\t ")
        rows = [["a", "é", "#", "#x", "B"][draw.randrange(5)] + separator + draw.choice(("O", "B-X")) for _ in range(9)]
        extra = ["", " ", "# sent_id = 1", "# text = a b", "-DOCSTART- O", "# note"]
        return draw.sample(rows, count) + draw.sample(extra, draw.randint(0, 3)) + draw.sample(rows, count)
    if kind == "trec":
        return [f"{draw.choice(('NUM',) * 9 + ('LOC', 'WHAT'))}:x {_cell(draw, chr(10))}" for _ in range(count + 1)]
    if kind == "csv":
        names = draw.sample(["text", "label", "a", "b"], width)
        rows = [names, *([_cell(draw, "") for _ in names] for _ in range(count))]
        doubled = [[each.replace('"', '""') for each in row] for row in rows]
        is_bare = {each: each and not set(each) & set(',"\r\n') and draw.random() < 0.8 for each in chain(*doubled)}
        return [",".join(each if is_bare[each] else f'"{each}"' for each in row) for row in doubled]
    scores = ["0", "1", "2.5", "5", *(draw.sample(PIECES, 2) if draw.random() < 0.3 else [])]
    if kind == "stsb":
        return ["\t".join(["g", "f", "y", "1", draw.choice(scores), _cell(draw, "\n\t"), "b"]) for _ in range(count)]
    if kind == "scored":
        rows = [[_cell(draw, "\n\t"), _cell(draw, "\n\t"), draw.choice(scores)] for _ in range(count)]
        head = draw.choice(([], [], [["sentence1", "sentence2", "score"]]))
        return ["\t".join(row) for row in (*head, *rows)]
    names = draw.sample(["text", "label", "a", "b"], 2 if kind == "task" else width)
    return ["\t".join(row) for row in (names, *([_cell(draw, "\n\t") for _ in names] for _ in range(count)))]


def _make(kind: str, draw: random.Random) -> bytes:
    end = draw.choice(("\n", "\n", "\r\n"))
    text = end.join(_lines_of_format(kind, draw)) + draw.choice(("", end, end, end + end, end + " " + end))
    data = draw.choice((b"", b"", b"\xef\xbb\xbf")) + text.encode()
    if draw.random() < 0.5:
        return data
    damaged = bytearray(data)
    for _ in range(draw.randint(1, 3)):
        at = draw.randint(0, max(len(damaged) - 1, 0))
        change = draw.choice((b"", b"\t", b"\n", b"\r", b'"', b",", b"\0", b"\xff", b"\xe9", b"}", b" ", b"\x80"))
        damaged[at : at + draw.randint(0, 2)] = change
    return bytes(damaged)


def _decoded(data: bytes, encoding: str = "utf-8") -> list[str]:
    """The lines of a text file, without their ends."""
    encoding = "utf-8-sig" if data.startswith(b"\xef\xbb\xbf") or encoding == "utf-8" else encoding
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise Invalid from error
    if not data or "\0" in text:
        raise Invalid
    lines = text.split("\n")
    return [line[:-1] if line.endswith("\r") else line for line in (lines[:-1] if lines[-1] == "" else lines)] or [""]


def _named(rows: list[list[str]]) -> list[dict[str, str]]:
    names = rows[0] if rows else [""]
    if "" in names or len(set(names)) < len(names) or len(rows) < 2 or any(len(row) != len(names) for row in rows):
        raise Invalid
    return [dict(zip(names, row, strict=True)) for row in rows[1:]]


CELL = re.compile(r'(?:"((?:[^"]|"")*)"|([^",\r\n][^,\r\n]*)?)(,|\r\n|\n|$)')


def _csv(data: bytes) -> list[dict[str, str]]:
    _decoded(data)
    text, at, rows, row = re.sub(r"\n\r$", "\n", data.decode("utf-8-sig")), 0, [], []
    while at < len(text):
        found = CELL.match(text, at)
        if not found or (found[3] == "" and found.end() < len(text)):
            raise Invalid
        at = found.end()
        row.append(found[2] or "" if found[1] is None else found[1].replace('""', '"'))
        if found[3] == "," and at == len(text):
            row.append("")
        if found[3] != "," or at == len(text):
            rows.append([] if row == [""] and found[1] is None else row)
            row = []
    while rows and not rows[-1]:
        rows.pop()
    return _named(rows)


def _kinds_of(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, list):
        yield path, "list"
        for each in value:
            yield from _kinds_of(each, f"{path}[]")
    elif isinstance(value, dict):
        yield path, "object"
        for key, each in value.items():
            yield from _kinds_of(each, f"{path}.{key}")
    elif value is not None:
        yield path, "number" if type(value) in (int, float) else type(value).__name__


def _jsonl(data: bytes) -> list[dict[str, Any]]:
    try:
        rows = [json.loads(line) for line in _decoded(data) if line.strip()]
    except ValueError as error:
        raise Invalid from error
    if not all(isinstance(row, dict) for row in rows):
        raise Invalid
    kinds = set().union(*map(_kinds_of, rows))
    keys = list(dict.fromkeys(key for row in rows for key in row))
    known: set[str] = set()
    for row in rows:
        if known and row and not known & row.keys():
            raise Invalid
        known |= row.keys()
    if not keys or len(dict(kinds)) < len(kinds):
        raise Invalid
    return [{key: row.get(key) for key in keys} for row in rows]


def _conll(data: bytes) -> list[list[tuple[str, str]]]:
    lines = _decoded(data)
    kept = [line for line in lines if "\t" in line or not re.fullmatch(r"#\s*[\w.:-]+\s+=\s.*", line)]
    words = [line for line in kept if line.strip() and not line.startswith("-DOCSTART-")]
    comment = re.compile(r"#\s.*|#(begin|end) document.*")
    sure = [line for line in words if "\t" in line or not comment.fullmatch(line)] or words
    if not sure:
        raise Invalid
    split = (lambda line: line.split("\t")) if "\t" in sure[0] else (lambda line: list(filter(None, line.split(" "))))
    width, found, sentence = len(split(sure[0])), [], []
    for line in kept:
        fields = split(line)
        if not line.strip() or line.startswith("-DOCSTART-"):
            found, sentence = [*found, sentence], []
        elif len(fields) == width > 1 and fields[0] and fields[-1].strip():
            sentence.append((fields[0], fields[-1].strip()))
        elif not comment.fullmatch(line) or len(fields) == width:
            raise Invalid
    return [sentence for sentence in [*found, sentence] if sentence]


def _blank(line: str) -> bool:
    return "\t" not in line and not line.strip()


def _unquoted(rows: list[list[str]]) -> list[list[str]]:
    """The cells without the quotes around them, if they were certainly written with quoting."""
    cells = [cell for row in rows for cell in row if len(row) > 1 or cell.strip()]
    quoted = [cell for cell in cells if '"' in cell]
    doubled = ['""' in cell[1:-1] for cell in quoted]
    if not all(re.fullmatch('"(""|[^"])*"', cell) for cell in quoted) or not any(doubled):
        return rows
    as_read = [[cell[1:-1].replace('""', '"') if '"' in cell else cell for cell in row] for row in rows]
    return as_read if all(doubled) or quoted == cells else rows


def _rows(data: bytes, encoding: str = "utf-8") -> list[list[str]]:
    """The cells of each line, without blank lines at the end."""
    lines = _decoded(data, encoding)
    while lines and _blank(lines[-1]):
        lines = lines[:-1]
    if not lines:
        raise Invalid
    return [line.split("\t") for line in lines]


def _tsv(data: bytes) -> list[dict[str, str]]:
    rows = _unquoted(_rows(data))
    return _named([[""] if _blank("\t".join(row)) and len(rows[0]) == 1 else row for row in rows])


def _scored(data: bytes, *, at: tuple[int, ...] = (0, 1, 2), low: float = -1e300, high: float = 1e300) -> list[tuple]:
    rows = _rows(data)
    if at == (0, 1, 2):
        rows = [row for row in _unquoted(rows) if not _blank("\t".join(row))]
        at, rows = (tuple(map(rows[0].index, SCORED)), rows[1:]) if set(SCORED) <= set(rows[0]) else (at, rows)
    numbers = [row[at[2]].strip() for row in rows if len(row) > max(*at, 2)]
    if not len(rows) == len(numbers) > 0 or not all(NUMBER.fullmatch(n) and low <= float(n) <= high for n in numbers):
        raise Invalid
    return [(" ".join(row[at[0]].split()), " ".join(row[at[1]].split()), float(row[at[2]])) for row in rows]


def _trec(data: bytes) -> list[tuple]:
    found = [re.fullmatch(r"([A-Z]+):[^ ]* (.*)", "\t".join(row), re.DOTALL) for row in _rows(data, "latin-1")]
    if not all(each and each[1] in TREC for each in found):
        raise Invalid
    return sorted((TREC.index(each[1]), " ".join(each[2].split())) for each in found)


def _task(data: bytes) -> list[tuple[str, str]]:
    rows = [row for row in _unquoted(_rows(data)) if not _blank("\t".join(row))]
    names = [name.strip().casefold() for name in rows[0]]
    found = [next(filter(names.__contains__, known), None) for known in (TEXTS, LABELS)]
    at, width, rows = ([0, 1], 2, rows) if None in found else (list(map(names.index, found)), len(names), rows[1:])
    if not rows or any(len(row) != width for row in rows):
        raise Invalid
    return [(row[at[0]], row[at[1]]) for row in rows]


def _read_senteval(task: str, *names_and_file: Any) -> list[tuple]:
    """A task of SentEval, each of whose files is this one."""
    *names, file = names_and_file
    for name in names:
        (file.parent / name).parent.mkdir(parents=True, exist_ok=True)
        (file.parent / name).write_bytes(file.read_bytes())
    if task == "TREC":
        rows = read_transfer_task(file.parent, task)["train"]
        return sorted(zip(rows.labels, rows.texts, strict=True))
    pairs = read_sts_task(file.parent, task)[task] if names else read_scored_pairs(file)
    return list(zip(pairs["sentence1"], pairs["sentence2"], pairs["score"], strict=True))


def _read_task(file: Path) -> list[tuple[str, str]]:
    layout = readers.find_layout(file, [readers.TEXTS, readers.LABELS])
    return [(row["text"], row["label"]) for row in readers.role_rows(file, ["text", "label"], layout)]


def _verdict(read: Callable[[Path], Any], file: Path, expected: Any) -> str:
    """What comes of an input: read, refused, or how it is wrong."""
    try:
        rows = read(file)
        return "read" if rows == expected else f"WRONG ROWS: {rows!r}"
    except Exception as error:  # whatever comes is what is looked for
        message = f"{type(error).__name__}: {error}"
    if not re.match(rf"ValueError: \S+/[\w.-]+(:\d+: |{NOTHING})", message, re.DOTALL):
        return f"ERROR WITHOUT FILE AND LINE: {message}"
    return f"REFUSED THOUGH VALID: {message}" if expected and not re.search(IMPLAUSIBLE, message) else "refused"


# Kind -> the file's name, the reader, the other parser.
READERS: dict[str, tuple[str, Callable, Callable]] = {
    "text": (
        "input.txt",
        lambda file: list(readers.text_rows(file)),
        lambda data: [{"text": line} for line in _decoded(data)],
    ),
    "tsv": ("input.tsv", lambda file: list(readers.table_rows(file)), _tsv),
    "csv": ("input.csv", lambda file: list(readers.table_rows(file)), _csv),
    "jsonl": (
        "input.jsonl",
        lambda file: list(readers.json_rows(file, list(json.loads(next(readers.json_kinds(file))["kinds"])))),
        _jsonl,
    ),
    "conll": (
        "input.conll",
        lambda file: [list(zip(row["words"], row["labels"], strict=True)) for row in readers.conll_rows(file)],
        _conll,
    ),
    "scored": ("scores.txt", partial(_read_senteval, "a table like its"), _scored),
    "stsb": (
        "stsb.csv",
        partial(_read_senteval, "STSBenchmark", "STS/STSBenchmark/sts-test.csv"),
        partial(_scored, at=(5, 6, 4), low=0, high=5),
    ),
    "trec": ("trec.label", partial(_read_senteval, "TREC", "TREC/train_5500.label", "TREC/TREC_10.label"), _trec),
    "task": ("task.tsv", _read_task, _task),
}


def main() -> int:
    """Make, read, compare, count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--whole", type=int, default=20, help="every so many inputs are read into Arrow, too")
    options = parser.parse_args()
    datasets.disable_progress_bars()
    draw, counts, wrong = random.Random(options.seed), Counter(), 0
    with tempfile.TemporaryDirectory() as folder:
        datasets.config.HF_DATASETS_CACHE = Path(folder) / "cache"
        for number in range(options.inputs):
            kind = list(READERS)[number % len(READERS)]
            name, read, parse = READERS[kind]
            data = _make(kind, draw)
            file = Path(folder) / (f"{name}.gz" if draw.random() < 0.1 and kind not in ("stsb", "trec") else name)
            file.write_bytes(gzip.compress(data) if file.suffix == ".gz" else data)
            try:
                expected = parse(data)
            except Invalid:
                expected = None
            results = [_verdict(read, file, expected)]
            if number // len(READERS) % options.whole == 0 and kind in ("text", "tsv", "csv"):
                results.append(_verdict(lambda each: read_dataset(each).to_list(), file, expected))
            for result in results:
                told, _, more = result.partition(": ")
                counts[kind, told] += 1
                wrong += told.isupper()
                if told.isupper() and wrong <= 10:
                    print(f"{kind}, {told}: {data!r}\n  expected {expected!r}\n  but {more}")
    for kind in READERS:
        print(f"{kind:8}" + ", ".join(f"{n} {told}" for (each, told), n in sorted(counts.items()) if each == kind))
    print(f"{options.inputs} inputs, {wrong} wrong")
    return int(wrong > 0)


if __name__ == "__main__":
    raise SystemExit(main())
