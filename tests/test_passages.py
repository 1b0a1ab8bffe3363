"""A corpus at several lengths: nothing is invented, nothing joined that does not belong together, nothing twice."""

from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from retort.data import passages

WORD = st.sampled_from(["river", "table,", "stone;", "writes", "a", "note:", "of"])
SENTENCE = st.lists(WORD, min_size=1, max_size=12).map(" ".join)
CORPUS = st.lists(st.tuples(SENTENCE, st.sampled_from("xy")), min_size=1, max_size=8)


def read(rows: list[tuple[str, str]]) -> list[str]:
    texts, sources = zip(*rows, strict=True)
    return passages(Dataset.from_dict({"text": texts, "module": sources}), source="module")["text"][:]


def test_sentences_then_their_clauses_then_pairs():
    rows = [
        ("If the river rises above the mark, write it into the table.", "river"),
        ("The stone is old.", "river"),
        ("A table holds rows, columns.", "table"),
    ]
    assert read(rows) == [
        "If the river rises above the mark, write it into the table.",
        "The stone is old.",
        "A table holds rows, columns.",
        "If the river rises above the mark,",
        "write it into the table.",
        "A table holds rows,",
        "If the river rises above the mark, write it into the table. The stone is old.",
    ]


@given(CORPUS)
def test_passages_are_distinct_spans_of_one_source(rows):
    texts = read(rows)
    assert len(texts) == len(set(texts))
    assert texts[: len({text for text, _ in rows})] == list(dict.fromkeys(text for text, _ in rows))
    runs, before = [], None
    for text, source in rows:
        if source == before:
            runs[-1] += " " + text
        else:
            runs.append(text)
        before = source
    assert all(any(passage in run for run in runs) for passage in texts)
