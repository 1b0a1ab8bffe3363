"""Running text falls into the words that transformers' pipeline sees."""

import pytest
import tiny
from transformers import pipeline

from retort.data.tokenization import spans_between_spaces, split_running_text
from retort.evaluation import Tagger, entity_spans

LABELS = ["O", "B-PER", "I-PER", "B-LOC"]
SENTENCES = tiny.sentences(20, seed=3)
TEXTS = [
    *SENTENCES,
    "the cat-house, the dog.",
    "  The  old (blue) house... a man's bird!",
    "EF-parlamentet mødes 3.-4. maj i Bruxelles/Strasbourg",
    "東京 is a big city; the cat\u00a0sat",
    "",
    " ",
]


@pytest.mark.promise(5)
# To the pipeline an unknown token is a word. Real byte-level tokenizers have none, but the tiny one does.
@pytest.mark.parametrize(("kind", "texts"), [("wordpiece", TEXTS), ("bpe", SENTENCES)])
def test_the_entities_are_those_of_the_pipeline(kind, texts):
    tokenizer = tiny.tokenizer(kind)
    model = tiny.model("bert", "token", labels=4, id2label=dict(enumerate(LABELS)), vocab_size=len(tokenizer))
    tag = pipeline("token-classification", model, tokenizer=tokenizer, aggregation_strategy="first", device="cpu")
    theirs = [[span(text, e) for e in tag(text)] if text else [] for text in texts]
    spans = split_running_text(texts, tokenizer)
    words = [[text[start:end] for start, end in row] for text, row in zip(texts, spans, strict=True)]
    ours = [
        [(e.type, places[e.first][0], places[e.end - 1][1]) for e in entity_spans(predictions)]
        for places, predictions in zip(spans, Tagger(model, tokenizer)(words), strict=True)
    ]
    assert ours == theirs
    assert sum(map(len, ours)) > 20


def span(text, entity):
    """Type and place of an entity of the pipeline, without the space that byte-level tokens begin with."""
    start = entity["start"] + text[entity["start"] :].startswith(" ")
    return entity["entity_group"], start, entity["end"]


def test_a_limit_of_the_tokenizer_cuts_nothing():
    tokenizer = tiny.tokenizer()
    tokenizer("the", truncation=True, max_length=4)  # which a tokenizer remembers
    (found,) = split_running_text(["the cat " * 300], tokenizer)
    assert len(found) == 600


def test_between_spaces_other_white_space_belongs_to_a_word():
    assert spans_between_spaces(" das  Haus\u00a0steht ") == [(1, 4), (6, 16)]
