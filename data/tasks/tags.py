"""Tags of words: which scheme they follow, and the one they are brought into (IOB2)."""

import re
from collections.abc import Collection, Sequence

OUTSIDE = "O"

_SPAN = re.compile(r"[BIESLUM]-.+")
# What the tags of IOBES and BILOU say of a span: whether it begins, and whether it ends.
_IOB2 = {"S": "B", "U": "B", "E": "I", "L": "I", "M": "I"}
_ENDS = "ESLU"
# What is so near to the tags of spans that a class of words can hardly be called so.
_NEAR = (
    re.compile(r"[BIESLUM]_.+"),
    re.compile(r".+[-_][BIESLUM]"),
    re.compile(r"[bieslum][-_].+"),
    re.compile(r"[BI]"),
)
# Only before what can be a tag of a span: the colon of `acl:relcl` is the tag's own.
_WITH_LANGUAGE = re.compile(r"([a-z]{2,3}(?:[-_]\w+)*):(O|[BIESLUM]-.+)")


def split_languages(tags: Sequence[str]) -> tuple[set[str], list[str]]:
    """`["fr:B-PER", "O"]` -> `({"fr"}, ["B-PER", "O"])`: the languages that tags begin with, and the tags without."""
    matches = [_WITH_LANGUAGE.fullmatch(tag) for tag in tags]
    bare = [match[2] if match else tag for match, tag in zip(matches, tags, strict=True)]
    return {match[1] for match in matches if match}, bare


def in_iob2(tag: str) -> str:
    """A tag of IOBES or BILOU as IOB2 has it: `S-` and `U-` begin a span, `E-`, `L-` and `M-` are inside."""
    return f"{_IOB2.get(tag[0], tag[0])}{tag[1:]}" if _SPAN.fullmatch(tag) else tag


def to_iob2(tags: Sequence[str]) -> tuple[list[str], int, int]:
    """Let every span begin with `B-` and go on with `I-`. Tags without such prefixes stay as they are.

    IOB1 writes `B-` only where a span follows another of its type (Ramshaw & Marcus 1995), so both IOB1 and faulty
    IOB2 show in an `I-` that continues nothing. In IOBES and BILOU, the tag after the last of a span continues nothing.

    Returns:
        The tags; the number of `I-` that became `B-`; the number of `B-` that IOB1 would have written as `I-`. A text
        with the first and without the second is in IOB1.
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
    """Whether tags mark spans of words (`B-PER`), and not a class of each word (`NOUN`)."""
    inside = [tag for tag in tags if tag != OUTSIDE]
    return any(tag[:2] in ("B-", "I-") and len(tag) > 2 for tag in inside) or (
        bool(inside) and all(map(_SPAN.fullmatch, inside))
    )


def check_scheme(tags: Collection[str], name: str) -> None:
    """Refuse tags that are neither spans in IOB1, IOB2, IOBES or BILOU, nor classes of single words.

    Args:
        tags: all that occur.
        name: of the file or dataset that holds them, for the message.

    Raises:
        ValueError: tags with and without prefixes side by side; tags that are nearly those of spans: `B_PER`, `PER-B`,
            `b-PER`, or `B` and `I` alone.
    """
    inside = sorted(tag for tag in tags if tag.upper() != OUTSIDE)
    for near in _NEAR:
        if inside and all(map(near.fullmatch, inside)):
            raise ValueError(
                f"{name}: the tags {', '.join(inside[:4])} are nearly those of spans. Write them in IOB2: {OUTSIDE}, "
                "B-PER, I-PER, with a type behind every B- and I-."
            )
    plain = [tag for tag in inside if not _SPAN.fullmatch(tag)]
    if plain and are_spans(tags):
        raise ValueError(
            f"{name}: some tags have the prefix B- or I-, others haven't ({', '.join(plain[:4])}). Expected IOB2 "
            "(O, B-X, I-X), or one class per word without such prefixes."
        )


def check_list(labels: Collection[str], name: str) -> None:
    """Refuse a list of labels in IOBES or BILOU, whose ids would not be those of the rows in IOB2."""
    others = [label for label in labels if in_iob2(label) != label]
    if others and are_spans(labels):
        raise ValueError(
            f"{name}: the tags {', '.join(others[:4])} are those of IOBES or BILOU, expected IOB2: rows are brought "
            "into it. Write S- and U- as B-, and E-, L- and M- as I-, each label once."
        )


def check_beginnings(labels: Collection[str], name: str) -> None:
    """Refuse a list of labels that has `I-X` without `B-X`, which every span of X begins with."""
    missing = sorted({f"B-{tag[2:]}" for tag in labels if tag.startswith("I-")} - set(labels))
    if missing:
        raise ValueError(f"{name}: spans begin with B- (IOB2), but the labels lack {', '.join(missing)}. Add them.")
