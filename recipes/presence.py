"""Checks that the files and models of a recipe exist, before anything is loaded."""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from ..data.readers import ARRAYS, JSON, TABLES, format_of
from ..modeling import has_files_of, require_model
from ..trainers.saving import check_own_folder
from .schema import NewTokenizer, Recipe, files_of, is_there

# Keys of `data` and `evaluation` that are not files. Labels may be a file, or a list of the labels themselves.
NO_FILES = {"corpus", "task", "columns", "metric"}
MOST_NAMED = 5
ENDINGS = (*TABLES, *JSON, *ARRAYS, ".txt", ".parquet", ".arrow", ".conll", ".bio", ".iob2")


def check_presence(recipe: Recipe) -> None:
    """Refuse a recipe whose files or models don't exist, or whose output can't be written or would replace other files.

    Names that may be Hub datasets are checked by the readers.

    Raises:
        SystemExit: with the keys and names.
    """
    _check_output(recipe.output_dir)
    if empty := next((key for key, entry in _entries_of(recipe) if not entry.strip()), None):
        raise SystemExit(f"{empty} has an empty name. Name a file or a dataset, or leave it out.")
    missing = [f"{key}: {file}" for key, entry in _entries_of(recipe) for file in absent_files(entry)]
    if missing:
        more = f" and {len(missing) - MOST_NAMED} more" if len(missing) > MOST_NAMED else ""
        raise SystemExit(
            f"The recipe's files don't exist (in {Path.cwd()}): {', '.join(missing[:MOST_NAMED])}{more}. Put your "
            "files there, or set their names in a recipe that extends this one, or as KEY=FILE."
        )
    try:
        for key, source in _models(recipe):
            if source:
                require_model(key, source)
                _check_kept(key, source, recipe.output_dir)
        check_own_folder(recipe.output_dir)
    except ValueError as error:
        raise SystemExit(str(error)) from error


def _check_output(output_dir: str) -> None:
    """Refuse an output folder that can't be made, since a run would find out after it has read models and data."""
    folder = Path(output_dir).expanduser().absolute()
    there = next(each for each in (folder, *folder.parents) if each.exists())
    if not there.is_dir():
        raise SystemExit(f"output_dir: {output_dir} can't be a folder, since {there} is a file. Name another folder.")
    if not os.access(there, os.W_OK):
        raise SystemExit(f"output_dir: {output_dir} can't be written: {there} is read-only. Name another folder.")


def _check_kept(key: str, source: str, output_dir: str) -> None:
    """Refuse an output folder whose files are those of a model, which the student's would replace."""
    if has_files_of(Path(output_dir).expanduser(), source):
        raise ValueError(
            f"output_dir: {output_dir} has files of {key}, which the student's would replace. Name another folder."
        )


def hub_names(recipe: Recipe) -> list[str]:
    """Ids of the Hub datasets of a recipe, without configuration and split."""
    return [name for name in _plain_names(recipe) if not _names_a_file(name) and not is_there(name)]


def _plain_names(recipe: Recipe) -> list[str]:
    """All files, folders and datasets of a recipe, without a dataset's configuration and split."""
    names = (name for _, entry in _entries_of(recipe) for name in (*files_of(entry), entry))
    return list(dict.fromkeys(re.split(r"[:\[]", name)[0] for name in names if "+" not in name and "=" not in name))


def downloads(recipe: Recipe) -> list[str]:
    """The Hub datasets of a recipe with their sizes and licences, if the recipe has them."""
    return [f"{name}: {recipe.downloads.get(name, 'size and licence are not known')}" for name in hub_names(recipe)]


def needs(recipe: Recipe) -> str:
    """What a packaged recipe needs after a fresh installation: files, downloads, or nothing."""
    own = [e for _, entry in _entries_of(recipe) for e in files_of(entry) if not _is_declared(e, recipe)]
    teacher, assistant, student = recipe.teacher, recipe.assistant, recipe.student
    models = [m for m in (teacher.model, assistant and assistant.model, student.model) if m]
    if own:
        more = f" and {len(own) - 2} more" if len(own) > 2 else ""
        needed = [f"needs your own files: {', '.join(own[:2])}{more}"]
    else:
        needed = [f"downloads {', '.join(f'{name} ({facts})' for name, facts in recipe.downloads.items())}"]
        needed = needed if recipe.downloads else []
    needed += [f"downloads the models {', '.join(models)}"] if models else []
    return "; ".join(needed) or "needs only retort[quickstart]; nothing is downloaded"


def _is_declared(name: str, recipe: Recipe) -> bool:
    return re.split(r"[:\[]", name)[0] in recipe.downloads


def absent_files(entry: str) -> list[str]:
    """The missing files of an entry such as `a.tsv`, `da=a.tsv`, `a.tsv:text` or `a.tsv+b.tsv`.

    Names that may be Hub datasets are not counted.
    """
    return [file for file in files_of(entry) if _names_a_file(file) and not is_there(file)]


def _names_a_file(name: str) -> bool:
    """Whether a name can't be a Hub dataset."""
    return format_of(Path(name)) in ENDINGS or name.startswith((".", "/", "~")) or name.count("/") != 1


def _entries_of(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """Keys and values of all files and datasets in data and evaluation, and of a teacher's vectors."""
    yield from (("teacher.vectors", source) for source in recipe.teacher.vector_sources)
    for section in ("data", "evaluation"):
        settings = getattr(recipe, section)
        for each in fields(settings):
            value = getattr(settings, each.name)
            if each.name in NO_FILES or (each.name == "labels" and not isinstance(value, str)):
                continue
            yield from ((f"{section}.{each.name}", entry) for entry in _listed(value))


def _listed(value: Any) -> Sequence[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list | tuple) else []


def _models(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """Keys and names of the models and tokenizers that must exist.

    Raises:
        ValueError: the package of a bundled teacher isn't installed.
    """
    yield "teacher", recipe.teacher.new.tokenizer_source if recipe.teacher.new else recipe.teacher.source
    students = {"student": recipe.student}
    if recipe.assistant:
        yield "assistant.model", recipe.assistant.model or ""
        students["assistant.student"] = recipe.assistant.student
    for section, student in students.items():
        if student:
            yield f"{section}.model", student.model or ""
            tokenizer = student.tokenizer
            yield f"{section}.tokenizer", "" if isinstance(tokenizer, NewTokenizer) else tokenizer or ""
