"""Tags of words: which scheme they follow, and the one they are brought into (IOB2)."""

import re
from collections.abc import Collection, Sequence

OUTSIDE = "O"

_SPAN = re.compile(r"[BI]-.+")
_OTHER_SPAN = re.compile(r"[ESLUM]-.+")
# Only before what can be a tag of a span: the colon of `acl:relcl` is the tag's own.
_WITH_LANGUAGE = re.compile(r"([a-z]{2,3}(?:[-_]\w+)*):(O|[BIESLUM]-.+)")


def split_languages(tags: Sequence[str]) -> tuple[set[str], list[str]]:
    """`["fr:B-PER", "O"]` -> `({"fr"}, ["B-PER", "O"])`: the languages that tags begin with, and the tags without."""
    matches = [_WITH_LANGUAGE.fullmatch(tag) for tag in tags]
    bare = [match[2] if match else tag for match, tag in zip(matches, tags, strict=True)]
    return {match[1] for match in matches if match}, bare


def to_iob2(tags: Sequence[str]) -> tuple[list[str], int, int]:
    """Let every span begin with `B-`. Tags without such prefixes stay as they are.

    IOB1 writes `B-` only where a span follows another of its type (Ramshaw & Marcus 1995), so both IOB1 and faulty
    IOB2 show in an `I-` that continues nothing.

    Returns:
        The tags; the number of `I-` that became `B-`; the number of `B-` that IOB1 would have written as `I-`. A text
        with the first and without the second is in IOB1.
    """
    strict, opened, iob2_only = [], 0, 0
    before = OUTSIDE
    for tag in tags:
        continues = _SPAN.fullmatch(before) and before[2:] == tag[2:]
        if _SPAN.fullmatch(tag) and not continues:
            opened += tag[0] == "I"
            iob2_only += tag[0] == "B"
            tag = f"B-{tag[2:]}"
        strict.append(tag)
        before = tag
    return strict, opened, iob2_only


def are_spans(tags: Collection[str]) -> bool:
    """Whether tags mark spans of words (`B-PER`), and not a class of each word (`NOUN`)."""
    return any(_SPAN.fullmatch(tag) for tag in tags)


def check_scheme(tags: Collection[str], name: str) -> None:
    """Refuse tags that are neither IOB2, nor IOB1, nor classes of single words.

    Args:
        tags: all that occur.
        name: of the file or dataset that holds them, for the message.

    Raises:
        ValueError: tags of IOBES or BILOU; tags with and without prefixes side by side.
    """
    plain = sorted(tag for tag in tags if tag != OUTSIDE and not _SPAN.fullmatch(tag))
    others = [tag for tag in plain if _OTHER_SPAN.fullmatch(tag)]
    if others and len(others) == len(plain):
        raise ValueError(
            f"{name}: the tags {', '.join(others[:4])} are those of IOBES or BILOU, expected IOB2. Write S- and U- as "
            "B-, and E-, L- and M- as I-."
        )
    if plain and are_spans(tags):
        raise ValueError(
            f"{name}: some tags have the prefix B- or I-, others haven't ({', '.join(plain[:4])}). Expected IOB2 "
            "(O, B-X, I-X), or one class per word without such prefixes."
        )


def check_beginnings(labels: Collection[str], name: str) -> None:
    """Refuse a list of labels that has `I-X` without `B-X`, which every span of X begins with."""
    missing = sorted({f"B-{tag[2:]}" for tag in labels if tag.startswith("I-")} - set(labels))
    if missing:
        raise ValueError(f"{name}: spans begin with B- (IOB2), but the labels lack {', '.join(missing)}. Add them.")
