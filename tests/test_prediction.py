"""Words to tags, texts to probabilities: what the model says of each row alone, in order, and nothing lost."""

import logging
from types import SimpleNamespace

import pytest
import tiny
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast, pipeline

from retort.evaluation import Classifier, Tagger, TagPrediction, entity_spans

LABELS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
ROWS = [text.split() for text in tiny.sentences(23, seed=5)]


def tagger_model(labels=LABELS, **settings):
    return tiny.model("bert", "token", labels=len(labels), id2label=dict(enumerate(labels)), **settings)


def reference(model, tokenizer, words):
    """One row alone, by the pieces that the tokenizer makes of each word alone: as wordpiece does."""
    pieces = [tokenizer(word, add_special_tokens=False)["input_ids"] for word in words]
    ids = [tokenizer.cls_token_id, *(piece for word in pieces for piece in word), tokenizer.sep_token_id]
    firsts = [1 + sum(map(len, pieces[:word])) for word in range(len(words))]
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids])).logits[0, firsts].softmax(-1)


def assert_says(predictions, distribution):
    """Every tag, its probability and its distribution."""
    assert [prediction.tag for prediction in predictions] == [LABELS[i] for i in distribution.argmax(-1)]
    found = torch.tensor([prediction.probability for prediction in predictions])
    torch.testing.assert_close(found, distribution.amax(-1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        torch.tensor([prediction.distribution for prediction in predictions]), distribution, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_each_word_gets_the_likeliest_tag_at_its_first_piece_whatever_the_batch(tokenizer, batch_size):
    model = tagger_model()
    found = Tagger(model, tokenizer, batch_size=batch_size)(ROWS, distributions=True)
    assert len(found) == len(ROWS)
    for words, predictions in zip(ROWS, found, strict=True):
        assert_says(predictions, reference(model, tokenizer, words))


def test_the_distribution_is_left_out_unless_asked_for(tokenizer):
    found = Tagger(tagger_model(), tokenizer)(ROWS[:2])
    assert {prediction.distribution for row in found for prediction in row} == {None}


def test_rows_without_words_and_no_rows_at_all_give_just_that(tokenizer):
    tagger = Tagger(tagger_model(), tokenizer)
    assert tagger([]) == []
    found = tagger([[], ["the", "cat"], []])
    assert list(map(len, found)) == [0, 2, 0]


def test_a_long_row_is_read_in_windows_each_word_where_its_context_is_widest(tokenizer, caplog):
    model, words = tagger_model(), tiny.WORDS[::2][:10]  # each a token
    with caplog.at_level(logging.WARNING):
        found = Tagger(model, tokenizer, max_length=6, stride=2, batch_size=1)(
            [words, ["a"], words], distributions=True
        )
    # Windows of four words from 0, 2, 4 and 6: word 2 has one word behind it in the first one and none before it in the
    # second; of two equal contexts the first counts.
    windows = [reference(model, tokenizer, words[begin : begin + 4]) for begin in (0, 2, 4, 6)]
    expected = torch.cat([windows[0][:3], windows[1][1:3], windows[2][1:3], windows[3][1:]])
    assert_says(found[0], expected)
    assert_says(found[2], expected)
    assert_says(found[1], reference(model, tokenizer, ["a"]))
    assert caplog.records == []


@pytest.mark.parametrize("stride", [None, 0, 17])
@pytest.mark.parametrize("labels", [LABELS, ["NOUN", "VERB"]])
def test_no_word_of_a_long_row_is_without_a_prediction(tokenizer, stride, labels):
    words = tiny.sentences(1, longest=400)[0].split() + ["", "\u200b", "z" * 50] * 20
    (found,) = Tagger(tagger_model(labels), tokenizer, max_length=20, stride=stride)([words])
    assert len(found) == len(words)
    assert all(0 < prediction.probability <= 1 and prediction.tag in labels for prediction in found)


@pytest.mark.parametrize("stride", [0, 1, 7])
def test_a_row_that_fits_is_read_whole_whatever_the_stride(tokenizer, stride):
    model = tagger_model()
    assert Tagger(model, tokenizer, stride=stride)(ROWS) == Tagger(model, tokenizer)(ROWS)


def test_of_two_words_in_one_token_both_have_its_prediction():
    backend = Tokenizer(WordLevel({"[PAD]": 0, "[UNK]": 1, "in spite": 2}, unk_token="[UNK]"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]")
    first, second = Tagger(tagger_model(), tokenizer)([["in", "spite"]])[0]
    assert first.probability > 0
    assert second == first


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_a_tokenizer_without_a_limit_reads_no_more_than_the_model_has_positions_for(family):
    tokenizer, words = tiny.tokenizer(), ["the"] * 150
    tokenizer.model_max_length = int(1e30)
    tagger = Tagger(tiny.model(family, "token"), tokenizer, max_length=512)
    assert [len(row) for row in tagger([words])] == [150]
    assert Classifier(tiny.model(family, "sequence"), tokenizer, max_length=512)([" ".join(words)]).shape == (1, 3)


@pytest.mark.promise(9)
def test_a_stride_that_fills_a_window_is_refused(tokenizer):
    with pytest.raises(ValueError, match="stride=18, but a window has 18 tokens of text, so windows can share from 0"):
        Tagger(tagger_model(), tokenizer, max_length=20, stride=18)


def test_a_word_that_the_tokenizer_drops_is_tagged_by_its_unknown_token(tokenizer):
    assert Tagger(tagger_model(), tokenizer)([["the", "\u200b", "cat"]])[0][1].probability > 0


def test_anything_called_like_a_model_can_tag_and_is_given_the_longest_rows_first(tokenizer):
    model = tagger_model()

    class Runtime:
        config, device, widths = model.config, torch.device("cpu"), []

        def __call__(self, input_ids, attention_mask):
            self.widths.append(input_ids.shape[1])
            return SimpleNamespace(logits=model(input_ids=input_ids, attention_mask=attention_mask).logits)

    runtime = Runtime()
    assert Tagger(runtime, tokenizer, batch_size=8)(ROWS) == Tagger(model, tokenizer, batch_size=8)(ROWS)
    assert len(runtime.widths) == 3
    assert runtime.widths == sorted(runtime.widths, reverse=True)


def test_the_model_comes_back_in_its_own_mode(tokenizer):
    model = tagger_model()
    expected = Tagger(model, tokenizer)(ROWS)
    model.train()
    assert Tagger(model, tokenizer)(ROWS) == expected
    assert model.training


@pytest.mark.promise(9)
@pytest.mark.parametrize("rows", [["a sentence"], [["the", None]]])
def test_a_row_that_is_no_list_of_words_is_refused(tokenizer, rows):
    with pytest.raises(ValueError, match="Row 0 must be a list of words, but is"):
        Tagger(tagger_model(), tokenizer)(rows)


@pytest.mark.promise(5)
@pytest.mark.filterwarnings("ignore:Tokenizer does not support real words")
# Not unigram: there the pipeline takes a piece that is a space alone for a word.
@pytest.mark.parametrize("kind", ["wordpiece", "bpe"])
@pytest.mark.parametrize("seed", range(3))
def test_entities_are_those_of_the_pipeline_of_transformers(kind, seed):
    model, tokenizer = tagger_model(seed=seed), tiny.tokenizer(kind)
    rows = [text.split() for text in tiny.sentences(40, seed=seed, longest=9)]
    theirs = pipeline("token-classification", model=model, tokenizer=tokenizer, aggregation_strategy="first")
    found = [entity_spans(predictions) for predictions in Tagger(model, tokenizer)(rows)]
    count = 0
    for words, ours in zip(rows, found, strict=True):
        starts = [sum(map(len, words[:word])) + word for word in range(len(words))]
        expected = theirs(words, is_split_into_words=True)
        # One row of words comes back in a list of its own.
        expected = expected[0] if expected and isinstance(expected[0], list) else expected
        assert [(e.type, starts[e.first], starts[e.end - 1] + len(words[e.end - 1])) for e in ours] == [
            (e["entity_group"], e["start"], e["end"]) for e in expected
        ]
        assert [e.probability for e in ours] == pytest.approx([float(e["score"]) for e in expected], rel=1e-4)
        count += len(ours)
    assert count > 20


def test_an_entity_begins_at_B_at_another_type_and_at_an_I_after_none():
    tags = ["I-PER", "I-PER", "B-PER", "I-LOC", "O", "B-LOC", "I-LOC"]
    spans = entity_spans([TagPrediction(tag, 0.1 * (place + 1)) for place, tag in enumerate(tags)])
    assert [(span.type, span.first, span.end) for span in spans] == [
        ("PER", 0, 2),
        ("PER", 2, 3),
        ("LOC", 3, 4),
        ("LOC", 5, 7),
    ]
    assert [span.probability for span in spans] == pytest.approx([0.15, 0.3, 0.4, 0.65])


@pytest.mark.promise(5)
@pytest.mark.filterwarnings("ignore:Tokenizer does not support real words")
@pytest.mark.parametrize("stride", [4, 9])
def test_long_rows_have_the_entities_of_the_pipeline_with_a_stride_where_windows_agree(stride):
    """Where they don't, transformers takes the longer entity, and we the one with more context."""
    tokenizer, words_of_one_token = tiny.tokenizer(), tiny.WORDS[::2]
    tokenizer.model_max_length = 22
    model = tagger_model()
    with torch.no_grad():  # a word's tag depends on its context, but rarely
        for layer in model.bert.encoder.layer:
            layer.attention.output.dense.weight.mul_(0.1)
        model.bert.embeddings.position_embeddings.weight.mul_(0.1)
    theirs = pipeline(
        "token-classification", model=model, tokenizer=tokenizer, stride=stride, aggregation_strategy="first"
    )
    generator = torch.Generator().manual_seed(stride)
    compared = entities = 0
    for _ in range(60):
        length = int(torch.randint(21, 60, (), generator=generator))
        words = [words_of_one_token[i] for i in torch.randint(len(words_of_one_token), (length,), generator=generator)]
        ours = entity_spans(Tagger(model, tokenizer, stride=stride)([words])[0])
        if not windows_agree(model, tokenizer, words, stride, ours):
            continue
        starts = [sum(map(len, words[:word])) + word for word in range(len(words))]
        expected = [(e["entity_group"], e["start"], e["end"]) for e in theirs(" ".join(words))]
        assert [(e.type, starts[e.first], starts[e.end - 1] + len(words[e.end - 1])) for e in ours] == expected
        compared, entities = compared + 1, entities + len(ours)
    assert compared > 10
    assert entities > 50


def windows_agree(model, tokenizer, words, stride, entities):
    """Whether all of a word's windows give it the same tag, and each entity is whole in one of them."""
    begins = range(0, max(len(words) - stride, 1), 20 - stride)
    windows = [reference(model, tokenizer, words[begin : begin + 20]).argmax(-1).tolist() for begin in begins]
    tags = [set() for _ in words]
    for begin, found in zip(begins, windows, strict=True):
        for place, tag in enumerate(found):
            tags[begin + place].add(tag)
    whole = all(any(b <= e.first and e.end <= b + 20 for b in begins) for e in entities)
    return whole and all(len(found) == 1 for found in tags)


# --- Classifier -------------------------------------------------------------------------------------------------------

TEXTS = tiny.sentences(17, seed=6)


@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_each_text_gets_the_probabilities_that_it_gets_alone(tokenizer, batch_size):
    model = tiny.model("bert", "sequence")
    with torch.no_grad():
        expected = torch.cat([model(**tokenizer(text, return_tensors="pt")).logits for text in TEXTS]).softmax(-1)
    classifier = Classifier(model, tokenizer, batch_size=batch_size)
    torch.testing.assert_close(classifier(TEXTS), expected, rtol=1e-4, atol=1e-5)
    assert classifier.labels == ["LABEL_0", "LABEL_1", "LABEL_2"]


def test_pairs_are_told_apart_by_token_types():
    tokenizer = tiny.tokenizer()
    tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    model = tiny.model("bert", "sequence")
    pairs = tiny.sentences(17, seed=8)
    rows = [tokenizer(*row, return_tensors="pt") for row in zip(TEXTS, pairs, strict=True)]
    assert rows[0]["token_type_ids"].max() == 1
    with torch.no_grad():
        expected = torch.cat([model(**row).logits for row in rows]).softmax(-1)
    torch.testing.assert_close(Classifier(model, tokenizer)(TEXTS, pairs), expected, rtol=1e-4, atol=1e-5)


def test_a_model_with_one_output_gives_it_as_it_is(tokenizer):
    model = tiny.model("bert", "sequence", labels=1)
    with torch.no_grad():
        expected = torch.cat([model(**tokenizer(text, return_tensors="pt")).logits for text in TEXTS])
    found = Classifier(model, tokenizer)(TEXTS)
    assert found.shape == (17, 1)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_no_texts_have_no_probabilities(tokenizer):
    assert Classifier(tiny.model("bert", "sequence"), tokenizer)([]).shape == (0, 3)


def test_probabilities_are_float32_of_a_model_in_bfloat16_too(tokenizer):
    found = Classifier(tiny.model("bert", "sequence").bfloat16(), tokenizer)(TEXTS)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.sum(-1), torch.ones(17))


@pytest.mark.promise(9)
@pytest.mark.parametrize("problem", ["multi_label_classification", "regression"])
def test_a_model_of_several_labels_at_once_is_refused(tokenizer, problem):
    with pytest.raises(ValueError, match=f"problem_type='{problem}' with 3 outputs, but Classifier takes"):
        Classifier(tiny.model("bert", "sequence", problem_type=problem), tokenizer)


@pytest.mark.promise(9)
def test_one_string_and_missing_second_texts_are_refused(tokenizer):
    classifier = Classifier(tiny.model("bert", "sequence"), tokenizer)
    with pytest.raises(ValueError, match="takes lists of texts, but got one string"):
        classifier("the cat")
    with pytest.raises(ValueError, match="there are 2 texts and 1 second texts"):
        classifier(["the", "cat"], ["a"])


@pytest.mark.promise(9)
def test_a_max_length_that_special_tokens_fill_is_refused(tokenizer):
    with pytest.raises(ValueError, match="max_length=3 leaves no room for text"):
        Classifier(tiny.model("bert", "sequence"), tokenizer, max_length=3)


def test_that_texts_to_classify_are_cut_is_said_once(tokenizer, caplog):
    classifier = Classifier(tiny.model("bert", "sequence"), tokenizer, max_length=16)
    with caplog.at_level("WARNING"):
        classifier(["a cat"])
        assert "are truncated" not in caplog.text
        for _ in range(2):
            classifier(["a cat", "the dog " * 20])
    assert caplog.text.count("Texts of more than 16 tokens are truncated before they are classified.") == 1
