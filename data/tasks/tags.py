"""Tagging schemes: checks, and conversion to IOB2."""

import re
from collections.abc import Collection, Sequence

OUTSIDE = "O"

_SPAN = re.compile(r"[BIESLUM]-.+")
# Prefixes of IOBES and BILOU with their IOB2 equivalents, and the prefixes that end a span.
_IOB2 = {"S": "B", "U": "B", "E": "I", "L": "I", "M": "I"}
_ENDS = "ESLU"
# Patterns so similar to tags of spans that they are probably not classes of words.
_NEAR = (
    re.compile(r"[BIESLUM]_.+"),
    re.compile(r".+[-_][BIESLUM]"),
    re.compile(r"[bieslum][-_].+"),
    re.compile(r"[BI]"),
)
# A language is only recognised before a tag of a span, since tags like `acl:relcl` contain a colon.
_WITH_LANGUAGE = re.compile(r"([a-z]{2,3}(?:[-_]\w+)*):(O|[BIESLUM]-.+)")


def split_languages(tags: Sequence[str]) -> tuple[set[str], list[str]]:
    """`["fr:B-PER", "O"]` -> `({"fr"}, ["B-PER", "O"])`: the languages in front of tags, and the tags without them."""
    matches = [_WITH_LANGUAGE.fullmatch(tag) for tag in tags]
    bare = [match[2] if match else tag for match, tag in zip(matches, tags, strict=True)]
    return {match[1] for match in matches if match}, bare


def in_iob2(tag: str) -> str:
    """Convert a tag of IOBES or BILOU to IOB2: `S-` and `U-` to `B-`; `E-`, `L-` and `M-` to `I-`."""
    return f"{_IOB2.get(tag[0], tag[0])}{tag[1:]}" if _SPAN.fullmatch(tag) else tag


def to_iob2(tags: Sequence[str]) -> tuple[list[str], int, int]:
    """Convert tags to IOB2, where every span begins with `B-` and continues with `I-`. Other tags are not changed.

    IOB1 uses `B-` only if a span directly follows another span of its type (Ramshaw & Marcus 1995). So an `I-` that
    continues no span is either IOB1 or incorrect IOB2. In IOBES and BILOU, a span ends with its last tag, so the next
    tag continues no span.

    Returns:
        The tags; the number of `I-` that became `B-`; the number of `B-` that would be `I-` in IOB1. If only the first
        number is positive, the text is in IOB1.
    """
    strict, opened, iob2_only = [], 0, 0
    before = OUTSIDE
    for tag in tags:
        continues = _SPAN.fullmatch(before) and before[0] not in _ENDS and before[2:] == tag[2:]
        read = in_iob2(tag)
        if _SPAN.fullmatch(tag) and not continues:
            opened += read[0] == "I"
            iob2_only += read[0] == "B"
            read = f"B-{tag[2:]}"
        strict.append(read)
        before = tag
    return strict, opened, iob2_only


def are_spans(tags: Collection[str]) -> bool:
    """Whether tags mark spans of words (`B-PER`) rather than a class of each word (`NOUN`)."""
    inside = [tag for tag in tags if tag != OUTSIDE]
    return any(tag[:2] in ("B-", "I-") and len(tag) > 2 for tag in inside) or (
        bool(inside) and all(map(_SPAN.fullmatch, inside))
    )


def check_classes(labels: Collection[str]) -> None:
    """Refuse the classes of a tagger in IOB1, IOBES or BILOU. Unlike a list of labels, they can't be written anew."""
    others = sorted(label for label in labels if in_iob2(label) != label)
    inside = sorted(f"B-{label[2:]}" for label in labels if label.startswith("I-"))
    absent = [label for label in inside if label not in labels]
    if not (are_spans(labels) and (others or absent)):
        return
    scheme, sign = ("IOBES or BILOU", f"it has {', '.join(others[:4])}")
    if not others:
        scheme, sign = "IOB1", f"it has no {', '.join(absent[:4])}"
    raise ValueError(
        f"The model's classes (labels=) are in {scheme}: {sign}. retort reads tags in IOB2 only, where every span "
        "begins with B- and goes on with I-. Fine-tune the model again on tags in IOB2, or number the tags yourself "
        "and pass your rows to tokenize."
    )


def check_scheme(tags: Collection[str], name: str) -> None:
    """Refuse tags that are neither spans in IOB1, IOB2, IOBES or BILOU, nor classes of single words.

    Only some of them have prefixes, or they are malformed tags of spans: `B_PER`, `PER-B`, `b-PER`, or `B` and `I`
    alone.
    """
    inside = sorted(tag for tag in tags if tag.upper() != OUTSIDE)
    for near in _NEAR:
        if inside and all(map(near.fullmatch, inside)):
            raise ValueError(
                f"{name}: the tags {', '.join(inside[:4])} look like malformed tags of spans. Write them in IOB2: "
                f"{OUTSIDE}, B-PER, I-PER, with a type after every B- and I-."
            )
    plain = [tag for tag in inside if not _SPAN.fullmatch(tag)]
    if plain and are_spans(tags):
        raise ValueError(
            f"{name}: some tags have the prefix B- or I-, others don't ({', '.join(plain[:4])}). Expected IOB2 "
            "(O, B-X, I-X), or one class per word without such prefixes."
        )


def check_list(labels: Collection[str], name: str) -> None:
    """Refuse a list of labels in IOBES or BILOU, since rows are converted to IOB2."""
    others = [label for label in labels if in_iob2(label) != label]
    if others and are_spans(labels):
        raise ValueError(
            f"{name}: the tags {', '.join(others[:4])} are in IOBES or BILOU, but rows are converted to IOB2. Write S- "
            "and U- as B-, and E-, L- and M- as I-, each label once."
        )


def check_beginnings(labels: Collection[str], name: str) -> None:
    """Refuse a list of labels that has `I-X` but not `B-X`, with which every span of X begins."""
    missing = sorted({f"B-{tag[2:]}" for tag in labels if tag.startswith("I-")} - set(labels))
    if missing:
        raise ValueError(f"{name}: spans begin with B- (IOB2), but the labels lack {', '.join(missing)}. Add them.")
