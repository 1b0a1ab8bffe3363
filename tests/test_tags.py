"""Tags are brought into IOB2; what is no scheme of tags is refused."""

import random

import pytest
import tiny
from seqeval.metrics.sequence_labeling import get_entities
from seqeval.scheme import BILOU, IOB1, IOBES, Entities

from retort.data.tasks import are_spans, read_task
from retort.data.tasks.tags import check_beginnings, check_list, check_scheme, split_languages, to_iob2


@pytest.mark.parametrize(
    ("given", "expected", "opened", "iob2_only"),
    [
        ("O B-PER I-PER O B-PER B-PER", "O B-PER I-PER O B-PER B-PER", 0, 2),
        ("I-PER I-PER B-PER O", "B-PER I-PER B-PER O", 1, 0),
        ("I-PER I-LOC O I-LOC", "B-PER B-LOC O B-LOC", 3, 0),
        ("B-PER I-LOC I-LOC", "B-PER B-LOC I-LOC", 1, 1),
        ("O I-PER B-LOC I-LOC", "O B-PER B-LOC I-LOC", 1, 1),
        ("I-work-of-art I-work-of-art", "B-work-of-art I-work-of-art", 1, 0),
        ("NOUN VERB I", "NOUN VERB I", 0, 0),
        ("B-PER E-PER S-PER O S-LOC", "B-PER I-PER B-PER O B-LOC", 0, 3),
        ("B-PER M-PER E-PER I-PER", "B-PER I-PER I-PER B-PER", 1, 1),
        ("U-PER U-PER B-LOC I-LOC L-LOC", "B-PER B-PER B-LOC I-LOC I-LOC", 0, 3),
        ("", "", 0, 0),
    ],
)
def test_every_span_begins_with_b(given, expected, opened, iob2_only):
    assert to_iob2(given.split()) == (expected.split(), opened, iob2_only)


def test_the_spans_of_iob1_are_those_that_seqeval_finds():
    tags = "I-PER I-PER B-PER O I-LOC I-PER I-PER B-PER I-PER O B-LOC I-LOC".split()
    # B- after O is not strict IOB1, so the last span is left to get_entities, which takes any of the two schemes.
    theirs = [entity.to_tuple()[1:] for entity in Entities([tags[:9]], IOB1).entities[0]]
    ours = get_entities(to_iob2(tags[:9])[0])
    assert [(kind, first, last + 1) for kind, first, last in ours] == theirs
    assert get_entities(to_iob2(tags)[0])[-1] == ("LOC", 10, 11)


@pytest.mark.parametrize(("scheme", "begin", "end", "single"), [(IOBES, "B", "E", "S"), (BILOU, "B", "L", "U")])
def test_the_spans_of_iobes_and_bilou_are_those_that_seqeval_finds(scheme, begin, end, single):
    draw = random.Random(0)
    for _ in range(50):
        tags = []
        for _ in range(6):
            kind, length = draw.choice(["PER", "LOC", None]), draw.randint(1, 3)
            inside = [f"I-{kind}"] * (length - 2)
            span = [f"{single}-{kind}"] if length == 1 else [f"{begin}-{kind}", *inside, f"{end}-{kind}"]
            tags += span if kind else ["O"] * length
        theirs = [entity.to_tuple()[1:] for entity in Entities([tags], scheme).entities[0]]
        assert [(kind, first, last + 1) for kind, first, last in get_entities(to_iob2(tags)[0])] == theirs


@pytest.mark.parametrize(
    ("given", "languages", "bare"),
    [
        ("fr:B-PER O fr:I-PER", {"fr"}, "B-PER O I-PER"),
        ("zh-classical:O zh-classical:B-LOC", {"zh-classical"}, "O B-LOC"),
        ("fr:O de:O", {"fr", "de"}, "O O"),
        ("acl:relcl nsubj:pass", set(), "acl:relcl nsubj:pass"),
        ("B-PER:nick O", set(), "B-PER:nick O"),
    ],
)
def test_languages_stand_before_tags(given, languages, bare):
    assert split_languages(given.split()) == (languages, bare.split())


def test_tags_are_spans_or_classes_of_words():
    for tags in (
        {"O", "B-PER", "I-PER"},
        {"I-PER", "O"},
        {"NOUN", "VERB"},
        {"O", "PER"},
        {"O"},
        {"0", "1"},
        {"S-PER", "O"},
        {"B", "M", "E", "S"},
    ):
        check_scheme(tags, "a.conll")
    assert are_spans({"O", "I-PER"})
    assert are_spans({"O", "S-PER"})
    assert not are_spans({"O", "PER", "B"})
    assert not are_spans({"O", "M-big", "F-big"}), "M- is a tag of spans only where all tags may be"


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ("B_PER I_PER O", r"a\.conll: the tags B_PER, I_PER look like malformed tags of spans\. Write them in IOB2"),
        ("PER-B PER-I O", "the tags PER-B, PER-I look like malformed tags of spans"),
        ("b-per i-per o", "the tags b-per, i-per look like malformed tags of spans"),
        ("B I O", "B, I look like malformed tags of spans.* with a type after every B- and I-"),
        ("B O", "B look like malformed tags of spans"),
        ("O B-PER PER", r"a\.conll: some tags have the prefix B- or I-, others don't \(PER\)\. Expected IOB2"),
    ],
)
def test_other_schemes_are_errors(tags, message):
    with pytest.raises(ValueError, match=message):
        check_scheme(set(tags.split()), "a.conll")


@pytest.mark.promise(9)
def test_a_list_of_labels_must_have_what_spans_begin_with():
    check_beginnings(("O", "B-PER", "I-PER", "B-LOC"), "labels.tsv")
    with pytest.raises(ValueError, match=r"labels\.tsv: spans begin with B- .* lack B-LOC, B-PER\. Add them"):
        check_beginnings(("O", "I-PER", "I-LOC"), "labels.tsv")


@pytest.mark.promise(9)
def test_a_list_of_labels_is_in_iob2():
    check_list(("O", "B-PER", "I-PER"), "labels.tsv")
    check_list(("O", "M-big", "F-big"), "labels.tsv")
    with pytest.raises(
        ValueError, match=r"labels\.tsv: the tags E-PER, S-LOC are in IOBES or BILOU, but rows are converted to IOB2"
    ):
        check_list(("O", "B-PER", "I-PER", "E-PER", "S-LOC"), "labels.tsv")


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ("O I-LOC I-PER B-PER", "in IOB1: it has no B-LOC"),
        ("O B-PER I-PER E-PER S-PER", "in IOBES or BILOU: it has E-PER, S-PER"),
    ],
)
def test_classes_of_a_tagger_in_another_scheme_are_refused_with_what_can_be_done(classes, message, task_folder):
    config = tiny.config("bert", labels=len(classes.split()))
    config.id2label = dict(enumerate(classes.split()))
    with pytest.raises(ValueError, match=rf"The model's classes \(labels=\) are {message}\..* Fine-tune .* tokenize\."):
        read_task("tagging", folders=task_folder({"train.tsv": "Anna\tB-PER\nin Bonn\tO O\n"}), labels=config)
