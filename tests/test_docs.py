"""What the documentation shows is what there is."""

import ast
import configparser
import importlib
import os
import pkgutil
import re
import shlex
import sys
from pathlib import Path

import pytest
import tiny
import torch
import torch.nn.functional as F
from datasets import Dataset
from draw_architecture import PAGE, redrawn
from pages import README, REPOSITORY, Page, dead_links, pages
from processes import run
from sentence_transformers import SentenceTransformer
from transformers import AutoModel
from write_recipe_reference import PAGE as RECIPES_PAGE
from write_recipe_reference import rewritten

from retort import DistillTrainer, shrink, tokenize
from retort.cli import parse
from retort.recipes import read_recipe
from retort.trainers.objectives import projector

PAGES = pytest.mark.parametrize("page", pages(), ids=str)
EXTENDING = Page(REPOSITORY / "docs/extending.md")


def test_the_picture_of_the_architecture_is_that_of_the_imports():
    page = PAGE.read_text(encoding="utf-8")
    assert redrawn(page) == page, "Imports have changed: run python tests/draw_architecture.py"


def test_the_reference_of_a_recipes_keys_is_that_of_the_types():
    page = RECIPES_PAGE.read_text(encoding="utf-8")
    assert rewritten(page) == page, "Types or helps have changed: run python tests/write_recipe_reference.py"


# --- Links ------------------------------------------------------------------------------------------------------------


@PAGES
def test_no_link_is_dead(page):
    assert dead_links(page) == []


def test_a_dead_link_is_found(tmp_path):
    (tmp_path / "other.md").write_text("# Some `code`, and more\n\n## Twice\n\n## Twice\n")
    page = tmp_path / "page.md"
    page.write_text(
        "# Here\n\n[a](other.md) [b](other.md#some-code-and-more) [c](#here) [d](other.md#twice-1) [e](https://x.org/y)\n\n"
        "| [f](gone.md) | [g](other.md#gone) |\n|---|---|\n| [h](#gone) | [i](other.md#twice-2) |\n\n"
        "`[j](in_code.md)`\n\n```\n[k](in_code.md)\n```\n\n![l](gone.png)\n"
    )
    assert dead_links(Page(page)) == ["gone.md", "other.md#gone", "#gone", "other.md#twice-2", "gone.png"]


def test_the_site_has_all_that_its_front_page_links():
    """README is the front page of the site, which has the pages of docs/ alone."""
    assert {Path(link).parts[0] for link in Page(README).links if "://" not in link} == {"docs"}


def test_every_page_is_reached_from_the_site_and_from_the_readme():
    trees = Page(REPOSITORY / "docs/index.md").blocks("{toctree}")
    in_trees = {line for tree in trees for line in tree.split() if line.isalpha()}
    there = {page.path.stem for page in pages()} - {"README", "index"}
    assert in_trees & there == there
    assert there <= {Path(link.partition("#")[0]).stem for link in Page(README).links}


# --- Names ------------------------------------------------------------------------------------------------------------


@PAGES
def test_scripts_and_recipes_that_a_page_names_are_there(page):
    folders = "examples", "benchmarks", "tests"
    named = re.findall(rf"\b((?:{'|'.join(folders)})/\w+(?:/\w+)*(?:\.(?:py|json|yaml))?)", page.text)
    assert [name for name in named if not (REPOSITORY / name).exists()] == []


@PAGES
def test_commands_that_a_page_shows_are_understood_and_their_recipes_read(page):
    for command in [*page.commands(), *re.findall(r"`(retort [^`…]+)`", page.text)]:
        arguments = arguments_of_retort(command)
        # Those with a placeholder, as in `retort distill RECIPE`, say no more than the command's help.
        if len(arguments) < 2 or "..." in arguments or "COMMAND" in arguments:
            continue
        options = parse(arguments)
        if arguments[0] == "distill" and not options.recipe.isupper() and not options.recipe.endswith(".yaml"):
            # DeepSpeed's files, which are looked for above, would start a process group.
            read_recipe(
                options.recipe, [each for each in options.changes if not each.startswith("arguments.deepspeed")]
            )


def arguments_of_retort(command: str) -> list[str]:
    """What stands behind `retort` in a line of a shell; nothing if the line doesn't run it."""
    words = shlex.split(command, comments=True)
    at = next((at for at, word in enumerate(words) if word in ("retort", ".venv/bin/retort")), len(words))
    end = words.index(">") if ">" in words else len(words)
    return words[at + 1 : end]


@PAGES
def test_names_that_a_pages_python_imports_from_retort_are_there(page):
    for block in page.blocks("python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module.partition(".")[0] == "retort":
                module = importlib.import_module(node.module)
                assert [each.name for each in node.names if not hasattr(module, each.name)] == []


@PAGES
def test_extras_that_a_page_installs_are_there(page):
    setup = configparser.ConfigParser()
    setup.read(REPOSITORY / "setup.cfg")
    assert set(re.findall(r"(?:retort|'\.|\.whl)\[(\w+)\]", page.text)) <= setup["options.extras_require"].keys()


@PAGES
def test_dotted_names_of_retort_are_there(page):
    for name in re.findall(r"`(retort(?:\.\w+)+)", page.text):
        assert pkgutil.resolve_name(name)


# --- README -----------------------------------------------------------------------------------------------------------


def test_the_readme_is_short():
    assert len(README.read_text(encoding="utf-8").split()) <= 900


def test_the_readmes_two_commands_install_and_run():
    text, makefile = README.read_text(encoding="utf-8"), (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    for target in "quickstart", "test":
        assert re.search(rf"^make {target} ", text, re.MULTILINE)
        assert re.search(rf"^{target}: ", makefile, re.MULTILINE)


def test_the_readmes_python_runs_as_it_stands_and_its_student_nears_the_teacher(tmp_path):
    (script,) = Page(README).blocks("python")
    (tmp_path / "first.py").write_text(script)
    assert run_in(tmp_path, "first.py").splitlines()[-1] == "(2, 384)"
    source = read_recipe("quickstart").teacher.source
    teacher, untrained = SentenceTransformer(source), SentenceTransformer(source)
    untrained[0].model = shrink(AutoModel.from_pretrained(source), layers=3)
    texts = [page.text[:300] for page in pages()]
    wanted, trained = teacher.encode(texts), SentenceTransformer(str(tmp_path / "runs/first"))
    before, after = ((student.encode(texts) * wanted).sum(-1).mean() for student in (untrained, trained))
    assert after > before + 0.05


# --- A loss of one's own ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def extended(tmp_path_factory):
    """The folder in which the script of docs/extending.md has run on a small recipe, and what it printed."""
    folder = tmp_path_factory.mktemp("extending")
    tiny.model().save_pretrained(folder / "teacher")
    tiny.tokenizer().save_pretrained(folder / "teacher")
    (folder / "corpus.txt").write_text("\n".join(tiny.sentences(40)))
    (folder / "mine.yaml").write_text(
        "teacher: teacher\nstudent: {layers: 1, hidden_size: 16}\ndata: {train_files: [corpus.txt]}\n"
        "stages: [{name: embeddings, arguments: {embedding_weight: 1, num_train_epochs: 1}}]\n"
        "output_dir: student\narguments: {truncate_dims: [8]}\n"
    )
    script, _ = EXTENDING.blocks("python")
    (folder / "huber.py").write_text(script)
    return folder, run_in(folder, "huber.py")


def test_the_script_with_a_loss_of_ones_own_has_30_lines(extended):
    assert len((extended[0] / "huber.py").read_text().splitlines()) <= 30


def test_the_script_with_a_loss_of_ones_own_trains_with_it_in_a_stage_of_its_own(extended):
    folder, printed = extended
    assert re.search(r"^embeddings .*\n^huber ", printed, re.MULTILINE)
    assert "train_loss_huber" in printed
    assert "| huber: Huber loss between embeddings | 1.0 |" in (folder / "student/README.md").read_text()
    assert SentenceTransformer(str(folder / "student")).encode(["a cat"]).shape == (1, 16)
    first, last = sorted((folder / "student/stages").iterdir())
    changed = [AutoModel.from_pretrained(stage).get_input_embeddings().weight for stage in (first, last)]
    assert not torch.equal(*changed)


def test_the_objective_of_ones_own_is_used_if_its_weight_is_above_0(tmp_path):
    page = {}
    exec(EXTENDING.blocks("python")[0].partition("recipe = ")[0], page)
    student, teacher, tokenizer = tiny.model(layers=1, hidden=16), tiny.model(layers=2, seed=1), tiny.tokenizer()
    for weight, expected in ((0.0, ["embedding"]), (0.5, ["huber", "embedding"])):
        settings = {"huber_weight": weight, "embedding_weight": 1.0}
        args = tiny.arguments(tmp_path, page["HuberArguments"], **settings)
        trainer = page["HuberTrainer"](student, teacher, args, processing_class=tokenizer)
        assert [objective.name for objective in trainer.objectives] == expected


def test_the_objective_on_tokens_is_the_mean_over_tokens_of_the_loss_that_it_names(tmp_path):
    page = {}
    exec(EXTENDING.blocks("python")[1], page)

    class TopStateTrainer(DistillTrainer):
        def build_objectives(self, args, student, teacher):
            project = projector(student.config.hidden_size, teacher.hidden_size, "auto")
            return [page["TopStateObjective"](1.0, student.config.num_hidden_layers, teacher.depth, project)]

    student, teacher, tokenizer = tiny.model(layers=1, hidden=16), tiny.model(layers=2, seed=1), tiny.tokenizer()
    texts = tiny.sentences(6)
    rows = tokenize(Dataset.from_dict({"text": texts}), tokenizer)
    trainer = TopStateTrainer(
        student, teacher, tiny.arguments(tmp_path), train_dataset=rows, eval_dataset=rows, processing_class=tokenizer
    )
    inputs = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        ours = trainer.objectives[0].project(student.eval()(**inputs).last_hidden_state)
        distance = F.huber_loss(ours, teacher(**inputs).last_hidden_state, reduction="none").mean(-1)
    expected = distance[inputs["attention_mask"].bool()].double().mean().item()
    assert trainer.evaluate()["eval_loss"] == pytest.approx(expected, rel=1e-4)


def run_in(folder, script) -> str:
    """Run a script as a user would, in the script's own folder."""
    return run([sys.executable, script], environment={**os.environ, "OMP_NUM_THREADS": "1"}, folder=folder)
