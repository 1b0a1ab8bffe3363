"""Tags words or classifies texts in files of any size with a trained model."""

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import torch
from tqdm.auto import tqdm

from ..data import replace_files
from ..data.readers import text_rows
from ..data.tokenization import Span, spans_between_spaces, split_running_text
from ..evaluation.tasks import Classifier, EntitySpan, Tagger, entity_spans
from ..modeling import head_of, load_finished, require_model

# Enough lines for batches with rows of similar length, but few enough for memory.
LINES_AT_ONCE = 4096

PREDICTORS = {"ForTokenClassification": Tagger, "ForSequenceClassification": Classifier}

Row = dict[str, Any]


def run(options: argparse.Namespace) -> None:
    """Load the model, predict line by line and write the output."""
    source = Path("/dev/stdin" if options.input == "-" else options.input)
    if not source.exists():
        raise SystemExit(f"--input is {source}, but there is no such file.")
    require_model("--model", options.model)
    predictor = load(options.model, options.stride, max_length=options.max_length, batch_size=options.batch_size)
    if isinstance(predictor, Tagger):
        if options.pairs:
            raise SystemExit(f"--pairs is for classifiers, but {options.model} is a tagger.")
        parse, predict = single_text, partial(tag, is_split_into_words=options.is_split_into_words)
    else:
        if options.is_split_into_words:
            raise SystemExit(f"--is_split_into_words is for taggers, but {options.model} is a classifier.")
        parse, predict = partial(split_texts, pairs=options.pairs), classify
    show = {"tsv": tsv_line, "jsonl": partial(json.dumps, ensure_ascii=False)}[options.format]
    rows = (parse(row["text"], f"{source}:{number}") for number, row in enumerate(text_rows(source), 1))
    with opened(options.output) as output, tqdm(desc="Predicting", unit=" lines") as bar:
        while chunk := list(islice(rows, LINES_AT_ONCE)):
            output.writelines(f"{show(row)}\n" for row in predict(predictor, chunk))
            output.flush()
            bar.update(len(chunk))


def load(source: str, stride: int | None = None, **settings: int) -> Tagger | Classifier:
    """Load a tagger or classifier, on the GPU if there is one. `settings` are their other arguments."""
    model, tokenizer = load_finished(source)
    predictor = PREDICTORS.get(head_of(type(model).__name__))
    if predictor is None:
        raise SystemExit(
            f"{source} holds a {type(model).__name__}, which neither tags words nor classifies texts: expected is a "
            f"tagger or a classifier ({' or '.join(f'a model for {name}' for name in PREDICTORS)})."
        )
    if stride is not None:
        if predictor is not Tagger:
            raise SystemExit(f"--stride is for taggers, but {source} is a classifier, which truncates texts.")
        settings["stride"] = stride
    device = torch.accelerator.current_accelerator(check_available=True) or "cpu"
    return predictor(model.to(device), tokenizer, **settings)


def single_text(line: str, where: str) -> str:
    """Check that a line has a single column."""
    if "\t" in line:
        raise ValueError(f"{where}: contains a tab, but a line to tag is a single text. Remove the other columns.")
    return line


def split_texts(line: str, where: str, *, pairs: bool) -> list[str]:
    """Split a line into its text or pair of texts."""
    expected = 2 if pairs else 1
    texts = line.split("\t") if line else [""] * expected
    if len(texts) != expected:
        wanted = "text1<TAB>text2" if pairs else "one text (use --pairs for two texts with a tab between them)"
        raise ValueError(f"{where}: this line has {len(texts)} columns, expected {wanted}.")
    return texts


def tag(tagger: Tagger, texts: list[str], *, is_split_into_words: bool) -> Iterator[Row]:
    """Yield words, tags, their probabilities and entities for each text."""
    if is_split_into_words:
        spans = list(map(spans_between_spaces, texts))
    else:
        spans = split_running_text(texts, tagger.tokenizer)
    words = [[text[start:end] for start, end in found] for text, found in zip(texts, spans, strict=True)]
    for text, row, places, predictions in zip(texts, words, spans, tagger(words), strict=True):
        yield {
            "words": row,
            "tags": [prediction.tag for prediction in predictions],
            "probabilities": [rounded(prediction.probability) for prediction in predictions],
            "entities": [entity_in(text, entity, places) for entity in entity_spans(predictions)],
        }


def entity_in(text: str, entity: EntitySpan, words: list[Span]) -> Row:
    """An entity with its text and its character offsets."""
    start, end = words[entity.first][0], words[entity.end - 1][1]
    place = {"text": text[start:end], "start": start, "end": end}
    return {"type": entity.type, **place, "probability": rounded(entity.probability)}


def classify(classifier: Classifier, rows: list[list[str]]) -> Iterator[Row]:
    """Yield texts, label, probability and distribution for each row; or texts and value for a model with one output."""
    filled = [row for row in rows if any(row)]
    found = iter(classifier(*zip(*filled, strict=True)).tolist() if filled else ())
    for row in rows:
        texts = dict(zip(("text", "text_pair"), row, strict=False))
        scores = next(found) if any(row) else [None] * len(classifier.labels)
        if classifier.is_regression:
            yield texts | {"value": rounded(scores[0])}
            continue
        best = scores.index(max(scores)) if any(row) else None
        yield texts | {
            "label": None if best is None else classifier.labels[best],
            "probability": None if best is None else rounded(scores[best]),
            "distribution": dict(zip(classifier.labels, map(rounded, scores), strict=True)),
        }


def tsv_line(row: Row) -> str:
    """A row's input and prediction, separated by tabs; an empty string for an empty row."""
    if not any(row.get(name) for name in ("words", "text", "text_pair")):
        return ""
    columns = [value for name, value in row.items() if name not in ("entities", "distribution")]
    words = [column if isinstance(column, list) else [column] for column in columns]
    return "\t".join(" ".join(map(str, column)) for column in words)


def rounded(value: float | None) -> float | None:
    """Round to six decimal places, the precision of float32. None, the value of an empty line, is kept."""
    return None if value is None else round(value, 6)


@contextmanager
def opened(output: str) -> Iterator[TextIO]:
    """A file that is moved to its final name if the block succeeds, or standard output."""
    if output == "-":
        sys.stdout.reconfigure(encoding="utf-8")
        yield sys.stdout
        return
    path = Path(output)
    with replace_files(path.parent) as staging, (staging / path.name).open("w", encoding="utf-8", newline="\n") as file:
        yield file
