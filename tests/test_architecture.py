"""The house as docs/architecture.md draws it: imports run one way, folders know each other's faces, none is crammed."""

import ast
import configparser
from pathlib import Path
from statistics import median

import pytest

REPOSITORY = Path(__file__).parents[1]
# Each folder imports from those before it. `trainers` and `evaluation` don't know each other.
ORDER = (("modeling",), ("data",), ("collators",), ("trainers", "evaluation"), ("recipes",), ("retort",))
RANK = {folder: rank for rank, folders in enumerate(ORDER) for folder in folders}
FILES = sorted(file for folder in RANK for file in (REPOSITORY / folder).rglob("*.py"))
SCRIPTS = sorted(file for folder in ("examples", "benchmarks") for file in (REPOSITORY / folder).rglob("*.py"))
MOST_ENTRIES, MOST_LINES = 14, 350


def path_of(module):
    """("retort", "trainers", "saving") -> trainers/saving, and ("retort", "commands") -> retort/commands."""
    inside = len(module) > 1 and module[1] in RANK
    return REPOSITORY.joinpath(*module[1:]) if inside else REPOSITORY.joinpath(*module)


def package_of(file):
    """The reverse, of the folder that a file lies in."""
    folders = file.parent.relative_to(REPOSITORY).parts
    return folders if folders[0] == "retort" else ("retort", *folders)


def imports(file, package=()):
    """What a file imports from: module -> names."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from ((tuple(alias.name.split(".")), set()) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else ()
            yield (*above, *(node.module or "").split(".")) if node.module else above, {a.name for a in node.names}


def offered(module):
    """The names that a folder's __init__ imports or lists."""
    tree = ast.parse((path_of(module) / "__init__.py").read_text())
    imported = {alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    return imported | {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}


def check_face(module, names):
    assert path_of(module).is_dir(), f"{'.'.join(module)} is an inner module: import {names} from its folder"
    assert names <= offered(module), f"{'.'.join(module)} does not offer {names - offered(module)}"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(REPOSITORY)))
def test_imports_run_one_way_and_ask_the_other_folders_face(file):
    own = package_of(file)
    for module, names in imports(file, own):
        if module[0] != "retort" or module == own[: len(module)]:
            continue
        theirs, ours = (each[1] if each[1] in RANK else "retort" for each in (module, (*own, "")))
        assert theirs == ours or RANK[theirs] < RANK[ours], f"{ours} must not import from {theirs}"
        beside_or_above = module[:-1] == own[: len(module) - 1]
        if path_of(module).is_dir() or not beside_or_above:
            check_face(module, names)


@pytest.mark.parametrize("file", SCRIPTS, ids=lambda file: str(file.relative_to(REPOSITORY)))
def test_scripts_import_from_retort_and_from_nothing_beside_them(file):
    is_one_script = (file.parent / "__main__.py").exists()  # a folder that is run as one
    for module, names in imports(file):
        assert is_one_script or not (file.parent / f"{module[0]}.py").exists()
        if module[0] == "retort":
            check_face(module, names)
    assert "sys.path" not in file.read_text()


def test_examples_import_retort_alone_and_are_read_in_a_minute():
    examples = [file for file in SCRIPTS if file.parent.name == "examples"]
    inner = {(file.name, module) for file in examples for module, _ in imports(file) if len(module) > 1}
    assert {module for _, module in inner if module[0] == "retort"} == set()
    lines = [len(file.read_text().splitlines()) for file in examples]
    assert max(lines) <= 90
    assert median(lines) <= 80
    assert sum(lines) <= 900


def test_no_folder_is_crammed_and_no_file_is_long():
    for folder in {file.parent for file in (*FILES, *SCRIPTS)}:
        entries = [path for path in folder.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()]
        assert len([path for path in entries if path.name != "__init__.py"]) <= MOST_ENTRIES, f"{folder} is crammed"
    long = [str(file) for file in (*FILES, *SCRIPTS) if len(file.read_text().splitlines()) > MOST_LINES]
    assert not long


def test_every_folder_is_in_the_wheel():
    setup = configparser.ConfigParser()
    setup.read(REPOSITORY / "setup.cfg")
    listed = set(setup["options"]["packages"].split()) - {"retort.recipes.configs", "retort.recipes.deepspeed"}
    assert listed == {".".join(package_of(file)) for file in FILES}
