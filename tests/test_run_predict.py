"""The script that predicts: files to files and pipes to pipes, row for row, or an error that names the line."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
import torch

from retort.cli import parse
from retort.commands import predict as command
from retort.evaluation import Classifier, Tagger, entity_spans

SENTENCES = tiny.sentences(30, seed=9)
LABELS = ["O", "B-PER", "I-PER", "B-LOC"]
MADE = {
    "tagger": {"task": "token", "labels": 4, "id2label": dict(enumerate(LABELS))},
    "classifier": {"task": "sequence"},
    "regressor": {"task": "sequence", "labels": 1},
    "encoder": {"task": "encoder"},
}


def made(name):
    """A model as it was before it was saved."""
    return tiny.model("bert", **MADE[name])


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Folders of a tagger, a classifier, a regressor and an encoder."""
    folder = tmp_path_factory.mktemp("models")
    for name in MADE:
        made(name).save_pretrained(folder / name)
        tiny.tokenizer().save_pretrained(folder / name)
    return {name: folder / name for name in MADE}


@pytest.fixture
def predict(monkeypatch, tmp_path):
    """Run the script on text, in this process; gives the lines that it wrote."""
    monkeypatch.setattr(command, "LINES_AT_ONCE", 7)

    def run(model: Path, text: str | bytes, *flags: str, name: str = "input.txt") -> list[str]:
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        files = ["--input", str(tmp_path / name), "--output", str(tmp_path / "output")]
        command.run(parse(["predict", "--model", str(model), *files, *flags]))
        return (tmp_path / "output").read_text(encoding="utf-8").split("\n")[:-1]

    return run


def test_words_are_tagged_line_by_line(models, predict):
    lines = predict(models["tagger"], "\n".join(SENTENCES))
    expected = Tagger(made("tagger"), tiny.tokenizer())([sentence.split() for sentence in SENTENCES])
    for sentence, line, predictions in zip(SENTENCES, lines, expected, strict=True):
        words, tags, probabilities = line.split("\t")
        assert words == sentence
        assert tags.split(" ") == [prediction.tag for prediction in predictions]
        assert [float(p) for p in probabilities.split(" ")] == pytest.approx(
            [prediction.probability for prediction in predictions], abs=1e-5
        )


def test_json_holds_the_entities_too(models, predict):
    rows = list(map(json.loads, predict(models["tagger"], "\n".join(SENTENCES), "--format", "jsonl")))
    expected = Tagger(made("tagger"), tiny.tokenizer())([sentence.split() for sentence in SENTENCES])
    entities = 0
    for sentence, row, predictions in zip(SENTENCES, rows, expected, strict=True):
        words = sentence.split()
        assert row["words"] == words
        assert row["tags"] == [prediction.tag for prediction in predictions]
        spans = entity_spans(predictions)
        assert [(found["type"], found["text"], found["probability"]) for found in row["entities"]] == [
            (span.type, " ".join(words[span.first : span.end]), pytest.approx(span.probability, abs=1e-5))
            for span in spans
        ]
        for found in row["entities"]:
            assert sentence[found["start"] : found["end"]] == found["text"]
        entities += len(spans)
    assert entities > 10


def test_running_text_is_cut_where_the_tokenizer_cuts_it_and_split_text_is_not(models, predict):
    text = "the cat-house,  the dog."
    (line,) = predict(models["tagger"], text)
    assert line.split("\t")[0] == "the cat - house , the dog ."
    (line,) = predict(models["tagger"], text, "--is_split_into_words")
    assert line.split("\t")[0] == "the cat-house, the dog."


def test_texts_are_classified_line_by_line(models, predict):
    expected = Classifier(made("classifier"), tiny.tokenizer())(SENTENCES)
    lines = predict(models["classifier"], "\n".join(SENTENCES))
    rows = list(map(json.loads, predict(models["classifier"], "\n".join(SENTENCES), "--format", "jsonl")))
    for text, line, row, probabilities in zip(SENTENCES, lines, rows, expected.tolist(), strict=True):
        assert list(row["distribution"].values()) == pytest.approx(probabilities, abs=1e-5)
        assert row["text"] == text
        assert row["label"] == max(row["distribution"], key=row["distribution"].get)
        assert row["probability"] == row["distribution"][row["label"]]
        assert line == f"{text}\t{row['label']}\t{row['probability']}"


def test_pairs_are_two_columns(models, predict):
    others = tiny.sentences(30, seed=11)
    text = "\n".join(map("\t".join, zip(SENTENCES, others, strict=True)))
    rows = list(map(json.loads, predict(models["classifier"], text, "--pairs", "--format", "jsonl")))
    expected = Classifier(made("classifier"), tiny.tokenizer())(SENTENCES, others)
    found = torch.tensor([list(row["distribution"].values()) for row in rows])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert [row["text_pair"] for row in rows] == others
    assert predict(models["classifier"], text, "--pairs")[3].split("\t")[:2] == [SENTENCES[3], others[3]]


def test_a_model_with_one_output_gives_its_value(models, predict):
    expected = Classifier(made("regressor"), tiny.tokenizer())(SENTENCES)[:, 0]
    lines = predict(models["regressor"], "\n".join(SENTENCES))
    assert [float(line.split("\t")[1]) for line in lines] == pytest.approx(expected.tolist(), abs=1e-4)


EMPTY_AROUND = "\nthe cat\n\n\r\na dog\n\n"


@pytest.mark.parametrize("model", ["tagger", "classifier", "regressor"])
def test_empty_lines_give_empty_lines_in_their_places(models, predict, model):
    lines = predict(models[model], EMPTY_AROUND)
    assert [line.split("\t")[0] for line in lines] == ["", "the cat", "", "", "a dog", ""]
    assert [len(line) > 0 for line in lines] == [False, True, False, False, True, False]


@pytest.mark.parametrize(
    ("model", "flags", "empty"),
    [
        ("tagger", (), {"words": [], "tags": [], "probabilities": [], "entities": []}),
        (
            "classifier",
            (),
            {
                "text": "",
                "label": None,
                "probability": None,
                "distribution": dict.fromkeys(map("LABEL_{}".format, range(3))),
            },
        ),
        ("regressor", (), {"text": "", "value": None}),
        ("regressor", ("--pairs",), {"text": "", "text_pair": "", "value": None}),
    ],
)
def test_empty_lines_are_empty_rows_in_json(models, predict, model, flags, empty):
    lines = predict(models[model], "\n\n", "--format", "jsonl", *flags)
    assert list(map(json.loads, lines)) == [empty, empty]


@pytest.mark.parametrize("flags", [(), ("--stride", "3")])
def test_a_line_longer_than_the_model_reads_has_a_tag_and_a_probability_for_each_word(models, predict, flags):
    line = " ".join(SENTENCES)
    (row,) = map(json.loads, predict(models["tagger"], line, "--max_length", "20", "--format", "jsonl", *flags))
    stride = int(flags[1]) if flags else None
    (expected,) = Tagger(made("tagger"), tiny.tokenizer(), max_length=20, stride=stride)([line.split()])
    assert row["words"] == line.split()
    assert row["tags"] == [prediction.tag for prediction in expected]
    assert row["probabilities"] == pytest.approx([prediction.probability for prediction in expected], abs=1e-5)
    assert len(row["tags"]) > 100
    assert {line[entity["start"] : entity["end"]] == entity["text"] for entity in row["entities"]} == {True}


@pytest.mark.promise(9)
def test_a_stride_is_refused_by_a_classifier_and_where_it_fills_a_window(models, predict):
    with pytest.raises(SystemExit, match=r"--stride is for taggers, but .* is a classifier"):
        predict(models["classifier"], "the cat", "--stride", "3")
    with pytest.raises(ValueError, match="stride=18, but a window has 18 tokens of text"):
        predict(models["tagger"], "the cat", "--max_length", "20", "--stride", "18")


def test_several_spaces_are_one_and_other_scripts_stay_as_they_are(models, predict):
    (line,) = predict(models["tagger"], "  das  Haus\u00a0steht 東京 ", "--is_split_into_words")
    assert line.split("\t")[0] == "das Haus\u00a0steht 東京"


def test_gzip_is_read(models, predict):
    packed = gzip.compress("\n".join(SENTENCES).encode())
    assert predict(models["tagger"], packed, name="input.gz") == predict(models["tagger"], "\n".join(SENTENCES))


def numbers(scores):
    return [float(score) for score in scores.split()]


def test_in_a_pipe_it_reads_stdin_and_writes_stdout_and_nothing_else(models, predict):
    done = subprocess.run(
        [sys.executable, "-m", "retort", "predict", "--model", str(models["tagger"])],
        input="\n".join(SENTENCES).encode(),
        capture_output=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr.decode()
    here = predict(models["tagger"], "\n".join(SENTENCES))
    for line, expected in zip(done.stdout.decode().split("\n")[:-1], here, strict=True):
        # Another process may compute in another order: the last of the digits that are written may differ.
        (*text, scores), (*expected_text, expected_scores) = (each.split("\t") for each in (line, expected))
        assert text == expected_text
        assert numbers(scores) == pytest.approx(numbers(expected_scores), abs=2e-6)
    assert "30 lines" in done.stderr.decode()


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("model", "text", "flags", "message"),
    [
        ("tagger", b"the cat\n" * 9 + b"caf\xe9\n", (), r"input\.txt:10: not UTF-8: byte 0xe9"),
        ("tagger", "the cat\tO O", (), r"input\.txt:1: contains a tab, but a line to tag"),
        ("classifier", "a\nb\tc", (), r"input\.txt:2: this line has 2 columns, expected one text .*use --pairs"),
        ("classifier", "a\tb\nc", ("--pairs",), r"input\.txt:2: this line has 1 columns, expected text1<TAB>text2"),
        ("tagger", "", (), r"input\.txt is empty"),
    ],
)
def test_bad_lines_are_named_and_nothing_is_written(models, predict, tmp_path, model, text, flags, message):
    with pytest.raises(ValueError, match=message):
        predict(models[model], text, *flags)
    assert [path.name for path in tmp_path.iterdir()] == ["input.txt"]


def test_an_older_output_stays_until_the_new_one_is_whole(models, predict, tmp_path):
    before = predict(models["tagger"], "\n".join(SENTENCES))
    with pytest.raises(ValueError, match="contains a tab"):
        predict(models["tagger"], "\n".join([*SENTENCES, "a\tb"]))
    assert (tmp_path / "output").read_text().split("\n")[:-1] == before


@pytest.mark.promise(9)
def test_a_model_without_a_head_is_refused(models, predict):
    with pytest.raises(SystemExit, match=r"holds a BertModel, which neither tags words nor classifies texts"):
        predict(models["encoder"], "the cat")


@pytest.mark.promise(9)
def test_pairs_are_refused_by_a_tagger(models, predict):
    with pytest.raises(SystemExit, match=r"--pairs is for classifiers, but .* is a tagger"):
        predict(models["tagger"], "the\tcat", "--pairs")


@pytest.mark.promise(9)
def test_split_words_are_refused_by_a_classifier(models, predict):
    with pytest.raises(SystemExit, match=r"--is_split_into_words is for taggers, but .* is a classifier"):
        predict(models["classifier"], "the cat", "--is_split_into_words")
