"""Writes the reference of all keys into docs/recipes.md, from the types: python tests/write_recipe_reference.py"""

import inspect
import re
from dataclasses import MISSING, fields
from pathlib import Path

from transformers import TrainingArguments

from retort.recipes import (
    Assistant,
    BiLstm,
    MaskedEvaluation,
    MaskedFiles,
    NewModel,
    NewTokenizer,
    Recipe,
    SentenceEvaluation,
    SentenceFiles,
    Static,
    Student,
    TaskEvaluation,
    TaskFiles,
    Teacher,
)
from retort.recipes.schema import in_words, settable, types_of
from retort.trainers import (
    CKDTrainingArguments,
    ContrastiveTrainingArguments,
    DistillTrainingArguments,
    MCLTrainingArguments,
    Stage,
    VocabReducedMLMTrainingArguments,
)

PAGE = Path(__file__).parents[1] / "docs/recipes.md"
BEGIN, END = "<!-- written by tests/write_recipe_reference.py -->\n", "<!-- end of the reference -->"
SECTIONS = {
    "The recipe": Recipe,
    "`teacher`": Teacher,
    "`teacher.new`": NewModel,
    "`assistant`": Assistant,
    "`student`, `assistant.student`": Student,
    "`student.tokenizer`": NewTokenizer,
    "`student.bilstm`": BiLstm,
    "`student.static`": Static,
    "`data`, for sentence embeddings": SentenceFiles,
    "`evaluation`, for sentence embeddings": SentenceEvaluation,
    "`data`, for tagging and classification": TaskFiles,
    "`evaluation`, for tagging and classification": TaskEvaluation,
    "`data`, for masked language models": MaskedFiles,
    "`evaluation`, for masked language models": MaskedEvaluation,
    "A stage: of `stages`, `assistant.stages`, `teacher.stages`, and `teacher.fine_tuning`": Stage,
}
ARGUMENTS = (
    DistillTrainingArguments,
    CKDTrainingArguments,
    ContrastiveTrainingArguments,
    MCLTrainingArguments,
    VocabReducedMLMTrainingArguments,
)


# Keys without a default in their type that reading a recipe fills in.
_FILLED_IN = {"evaluation": "none"}


def reference() -> str:
    """Tables of all keys."""
    parts = [section(title, cls) for title, cls in SECTIONS.items()]
    return "\n\n".join([*parts, *map(arguments, ARGUMENTS)])


def section(title: str, cls: type) -> str:
    """The keys of one section, with what its docstring says of them."""
    meanings, types, defaults = attributes(cls), types_of(cls), {each.name: default_of(each) for each in fields(cls)}
    rows = [(name, kind_of(types[name]), defaults[name], meanings[name]) for name in settable(cls)]
    about = inspect.getdoc(cls).partition("\n\nAttributes:")[0].replace("\n", " ")
    return f"### {title}\n\n{about}\n\n{table(rows)}"


def arguments(cls: type) -> str:
    """The arguments that a class adds to those of the class above it, with their help."""
    above = cls.__mro__[1]
    inherited = {each.name for each in fields(above)}
    added = [each for each in fields(cls) if each.name not in inherited or each.name in vars(cls)["__annotations__"]]
    types = types_of(cls)
    rows = [(each.name, kind_of(types[each.name]), default_of(each), each.metadata["help"]) for each in added]
    rest = "transformers' TrainingArguments" if above is TrainingArguments else f"`{above.__name__}`"
    return f"### Arguments: `{cls.__name__}`\n\nBeside those of {rest}.\n\n{table(rows)}"


def attributes(cls: type) -> dict[str, str]:
    """What a docstring says of each attribute."""
    text = inspect.getdoc(cls).partition("Attributes:\n")[2]
    found = re.findall(r"^    (\w+): (.*(?:\n        .*)*)", text, re.MULTILINE)
    return {name: " ".join(meaning.split()) for name, meaning in found}


def kind_of(annotation: object) -> str:
    return "keys and values" if annotation in Recipe.__parameters__ else in_words(annotation)


def default_of(field) -> str:
    if field.default is MISSING:
        return "" if field.default_factory is MISSING else "none"
    if field.default is None or field.default == ():
        return "none"
    return (
        str(field.default).lower()
        if isinstance(field.default, bool)
        else getattr(field.default, "__name__", str(field.default))
    )


def table(rows: list[tuple[str, str, str, str]]) -> str:
    """Markdown; a key without a default is required."""
    lines = ["| key | value | default | |", "|---|---|---|---|"]
    for name, kind, default, meaning in rows:
        cells = (f"`{name}`", kind, default or _FILLED_IN.get(name, "**required**"), meaning[:1].upper() + meaning[1:])
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines)


def rewritten(page: str) -> str:
    """The page with the reference as the types have it now."""
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}\n{reference()}\n\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    PAGE.write_text(rewritten(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
