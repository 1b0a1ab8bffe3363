"""Types of the values in a recipe, and their descriptions in messages and docs/recipes.md."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import is_dataclass
from difflib import get_close_matches
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import torch
from annotated_types import Ge, Le
from pydantic import Strict

# Strict, since pydantic would convert true to 1.
Count = Annotated[int, Strict(), Ge(1)]
NonNegative = Annotated[int, Strict(), Ge(0)]
Share = Annotated[float, Strict(), Ge(0), Le(1)]
Layer = Annotated[int, Strict()]
# One file, folder or dataset, or several.
Entries = str | Sequence[str]


def in_words(annotation: Any) -> str:
    """Description of a type in messages: `int | Sequence[str]` is "a whole number or a list (each: a text)"."""
    kind, parts = get_origin(annotation), get_args(annotation)
    if kind is Annotated:
        bounds = {type(each): each for each in parts[1:]}
        least, most = bounds.get(Ge), bounds.get(Le)
        if least and most:
            return f"{in_words(parts[0])} from {least.ge} to {most.le}"
        return f"{in_words(parts[0])} of at least {least.ge}" if least else in_words(parts[0])
    if kind is Literal:
        return ", ".join(map(str, parts[:-1])) + f" or {parts[-1]}" if len(parts) > 1 else str(parts[0])
    if kind in (Union, UnionType):
        return " or ".join(in_words(part) for part in parts if part is not NoneType)
    if kind in (Sequence, list) or (kind is tuple and parts):
        return f"a list (each: {in_words(parts[0])})"
    if kind is Mapping or is_dataclass(kind or annotation):
        return "keys and values"
    if kind is type:
        return "a trainer's name"
    return {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}.get(annotation, "anything")


def choices(annotation: Any) -> tuple[str, ...]:
    """The choices of a type; empty if it allows other values."""
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    return tuple(word for part in get_args(annotation) for word in choices(part))


def element_of(annotation: Any) -> Any:
    """The element type of a list, or of the list in a union; the type itself if there is no list."""
    if get_origin(annotation) is Sequence:
        return get_args(annotation)[0]
    lists = (part for part in get_args(annotation) if get_origin(part) is Sequence)
    return element_of(next(lists, None)) or annotation


def did_you_mean(name: object, known: Iterable[object]) -> str:
    """The nearest valid name, as the end of a message; empty if none is near."""
    near = get_close_matches(str(name), list(map(str, known)), n=1)
    return f" Did you mean {near[0]}?" if near else ""


def dataclass_in(annotation: Any) -> Any:
    """The dataclass in a type, such as a list or a union; None if there is none."""
    cls = get_origin(annotation) or annotation
    if isinstance(cls, type) and is_dataclass(cls):
        return annotation
    return next(filter(None, map(dataclass_in, get_args(annotation))), None)


def supports_bf16() -> bool:
    """Whether the hardware computes in bfloat16, so that it is fast."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") or capabilities.get("bf16"))
