"""Tags are brought into IOB2; what is no scheme of tags is refused."""

import pytest
from seqeval.metrics.sequence_labeling import get_entities
from seqeval.scheme import IOB1, Entities

from retort.data.tasks import are_spans
from retort.data.tasks.tags import check_beginnings, check_scheme, split_languages, to_iob2


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
    for tags in ({"O", "B-PER", "I-PER"}, {"I-PER", "O"}, {"NOUN", "VERB"}, {"O", "PER"}, {"O"}, {"0", "1"}):
        check_scheme(tags, "a.conll")
    assert are_spans({"O", "I-PER"})
    assert not are_spans({"O", "PER", "B"})


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("tags", "message"),
    [
        (
            "O B-PER I-PER E-PER S-LOC",
            r"a\.conll: the tags E-PER, S-LOC are those of IOBES or BILOU, expected IOB2. Wri",
        ),
        ("O B-PER L-PER U-LOC", "the tags L-PER, U-LOC are .* Write S- and U- as B-, and E-, L- and M- as I-"),
        ("S-PER O", "the tags S-PER are those of IOBES"),
        ("O B-PER PER", r"a\.conll: some tags have the prefix B- or I-, others haven't \(PER\)\. Expected IOB2"),
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
