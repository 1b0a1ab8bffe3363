"""The small recipes for someone who has just installed retort: their data, what they say of it, and a second start."""

import json
import sys
from pathlib import Path

import pytest
import test_examples
import tiny
import yaml
from datasets import Dataset

from retort.cli import main
from retort.data.readers.docstrings import read_docstrings
from retort.data.tasks import code_words, library_parts
from retort.data.tasks import docstrings as tasks
from retort.recipes import packaged_recipes, parse_recipe, read_recipe
from retort.recipes.presence import check_presence, downloads, hub_names, needs
from retort.recipes.schema import SentenceEvaluation, SentenceFiles
from retort.recipes.schema.read import settings_of
from retort.recipes.sentences.corpora import Files
from retort.recipes.student_recipe import show_scores
from retort.trainers.stages import StageResult

folder = test_examples.folder
BENCHMARKS = Path(__file__).parents[1] / "benchmarks/recipes"
AT_ONCE = (
    *(
        "small_ckd",
        "small_leaf",
        "small_static",
        "small_classification",
        "small_ner",
        "small_ner_bilstm",
        "small_trimmed",
    ),
    "small_vocab",
)


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """A library of 24 modules, six functions each, whose docstrings name their parameters now and then."""
    root = tmp_path_factory.mktemp("library")
    said = iter(sentence.capitalize() for sentence in dict.fromkeys(tiny.sentences(3000, seed=9)) if " " in sentence)
    for number in range(24):
        code = [f'"""{next(said)} and more of it."""']
        for each in range(6):
            code += [
                f"def f{each}(self, letter, *, words=None, **others):",
                f'    """{next(said)} of the letter.',
                "",
                f"    {next(said)} where words is None and all.",
                "",
                f"    {next(said)}, or a ValueError is raised.",
                '    """',
            ]
        (root / f"module{number}.py").write_text("\n".join(code))
    return root


@pytest.fixture
def here(library, tmp_path, monkeypatch):
    """Where `library` is the standard library, in an empty folder."""
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(library))
    monkeypatch.setattr(tasks, "_FEWEST_SENTENCES", 5)
    monkeypatch.chdir(tmp_path)
    return tmp_path


# --- Labelled docstrings ----------------------------------------------------------------------------------------------


def test_words_are_tagged_by_the_signatures_of_functions(library):
    task = code_words(library)
    assert task.labels == ("O", "B-PARAMETER", "B-EXCEPTION", "B-CONSTANT")
    rows = [row for split in task.splits.values() for row in split]
    tagged = {
        (word, task.labels[label])
        for row in rows
        for word, label in zip(row["words"], row["labels"], strict=True)
        if label
    }
    assert {("letter", "B-PARAMETER"), ("words", "B-PARAMETER"), ("None", "B-CONSTANT")} <= tagged
    assert {("ValueError", "B-EXCEPTION")} <= tagged
    assert not {word for word, _ in tagged} - {"letter", "words", "None", "ValueError"}
    texts = {split: {" ".join(words) for words in rows["words"]} for split, rows in task.splits.items()}
    assert all(texts.values())
    assert not texts["train"] & texts["test"]
    assert texts["train"] < set(task.transfer["text"])
    # What describes a module has no signature, and no tags: it is in the transfer set alone.
    assert all(not text.endswith("more of it .") for text in texts["train"])


def test_methods_parameters_leave_out_the_object(tmp_path):
    lines = [
        '"""A module."""',
        "class Box:",
        '    """A box."""',
        "    def put(self, thing, *, at=0):",
        '        """Puts it."""',
    ]
    code = "\n".join(lines)
    (tmp_path / "box.py").write_text(code)
    parameters = {each.text: each.parameters for each in read_docstrings(tmp_path)}
    assert parameters == {"A module.": frozenset(), "A box.": frozenset(), "Puts it.": {"thing", "at"}}


def test_parts_of_the_library_share_no_docstring_between_splits(library, monkeypatch):
    with pytest.raises(ValueError, match="Only 0 parts of the library have 150 sentences or more"):
        library_parts(library)
    monkeypatch.setattr(tasks, "_FEWEST_SENTENCES", 5)
    task = library_parts(library)
    assert set(task.labels) <= {f"module{number}" for number in range(24)}
    assert len(task.labels) > 10
    of_text = {each.module: each.text for each in read_docstrings(library)}
    for row in list(task.splits["test"])[:20]:
        assert task.labels[row["labels"]] in of_text
    texts = {split: set(rows["text"]) for split, rows in task.splits.items()}
    docstrings = [each.text.replace("\n", " ") for each in read_docstrings(library)]
    for text in docstrings:
        sides = {split for split, found in texts.items() if any(sentence in text for sentence in found)}
        assert len(sides) <= 1


# --- The recipes ------------------------------------------------------------------------------------------------------


def written(name, folder, output):
    """A packaged recipe with the tiny teacher and two steps for each stage."""
    recipe = settings_of(packaged_recipes()[name])
    if name == "small_vocab":
        tiny.tokenizer().save_pretrained(folder / "words")
        recipe["teacher"]["new"] = {"tokenizer": str(folder / "words"), "layers": 2, "hidden_size": 32}
        recipe["student"] = {"tokenizer": {"vocab_size": 72}, "layers": 1}
    else:
        recipe["teacher"] = {**recipe["teacher"], "model": str(folder / "teacher")}
        del recipe["teacher"]["bundled"]
    if "layers" in recipe["student"] and name != "small_multistage":
        recipe["student"]["layers"] = 1
    if name == "small_trimmed":
        recipe["student"]["tokenizer"]["trim_to"] = 80
    if name == "small_ner_bilstm":
        recipe["student"]["bilstm"] = {"embedding_size": 4, "lstm_hidden_size": 6}
    if name == "small_static":
        recipe["student"]["static"] = {"hidden_size": 8}
    recipe["data"]["max_length"] = 32
    recipe["arguments"] |= {"use_cpu": True, "bf16": False, "disable_tqdm": True}
    sections = [recipe, recipe.get("assistant", {}), recipe["teacher"]]
    stages = [stage for section in sections for stage in section.get("stages", ())]
    stages += [recipe["teacher"]["fine_tuning"]] if "fine_tuning" in recipe["teacher"] else []
    for stage in stages:
        stage["arguments"] |= {"max_steps": 2, "per_device_train_batch_size": 8}
        if "queue_size" in stage["arguments"]:
            stage["arguments"]["queue_size"] = 64
    if "evaluation" in recipe:
        recipe["evaluation"].pop("onnx", None)
    recipe["output_dir"] = str(output)
    (output.parent / f"{name}.yaml").write_text(yaml.safe_dump(recipe))
    return str(output.parent / f"{name}.yaml")


@pytest.mark.parametrize("name", AT_ONCE)
def test_most_of_them_need_no_file_and_no_network(name, here, folder, capsys):
    assert needs(read_recipe(name)).endswith("nothing is downloaded")
    assert main(["distill", written(name, folder, here / "student"), "--dry_run"]) == 0
    printed = capsys.readouterr().out
    assert "Stages of the student" in printed
    assert printed.splitlines()[-1] == "Dry run: no errors were found, and nothing was trained."
    assert not list((here / "student").glob("stages/*"))


@pytest.mark.parametrize("name", ["small_ckd", "small_ner", "small_classification", "small_vocab"])
def test_they_run_to_their_report_and_a_second_start_measures_nothing_anew(name, here, folder, capsys, monkeypatch):
    recipe = written(name, folder, here / "student")
    assert main(["distill", recipe]) == 0
    first = capsys.readouterr().out
    assert "easuring" in first
    report, picture = (here / "student/report.json").read_bytes(), (here / "student/report.png").read_bytes()
    card = (here / "student/README.md").read_text()
    assert "model-index" in card
    assert str(here) not in card
    assert str(folder) not in card
    assert main(["distill", recipe]) == 0
    second = capsys.readouterr().out
    assert "easuring" not in second
    assert (here / "student/report.json").read_bytes() == report
    assert (here / "student/report.png").read_bytes() == picture
    assert (here / "student/README.md").read_text() == card
    table = first[first.rindex("layers ") - 400 : first.rindex("Student, model card")]
    assert table.splitlines()[-4:] == second[: second.rindex("Student, model card")].splitlines()[-4:]
    if name == "small_ner":
        (here / "student/report.png").unlink()  # a lost picture is drawn again
        assert main(["distill", recipe]) == 0
        assert "easuring" in capsys.readouterr().out
        assert main(["distill", recipe, "teacher.name=my-teacher"]) == 0  # the name is in the report and in the card
        assert "easuring" in capsys.readouterr().out
        assert "my-teacher" in (here / "student/README.md").read_text()


def test_the_eighth_says_what_it_downloads_before_anything_is_loaded(here, folder, capsys):
    assert main(["distill", written("small_multistage", folder, here / "student")]) == 2  # there is no network
    printed, refused = capsys.readouterr()
    assert printed.splitlines()[0].startswith("Downloads from the Hub")
    assert "- sentence-transformers/parallel-sentences-tatoeba: 26.1 MB, CC BY 2.0 FR" in printed
    assert "- sentence-transformers/stsb: 0.7 MB" in printed
    assert "no dataset of that name can be loaded" in refused


def test_the_eighth_runs_on_its_datasets(here, folder, capsys):
    # Folders of the datasets' names take the place of the Hub.
    parallel = here / "sentence-transformers/parallel-sentences-tatoeba"
    for pair, seed in (("en-de", 21), ("en-es", 23)):
        for split, count in (("train", 40), ("dev", 8)):
            sides = tiny.sentences(count, seed=seed + count), tiny.sentences(count, seed=seed + count + 1)
            rows = Dataset.from_dict(dict(zip(("english", "non_english"), sides, strict=True)))
            rows.to_parquet(parallel / pair / f"{split}.parquet")
    configs = [
        {
            "config_name": pair,
            "data_files": [{"split": split, "path": f"{pair}/{split}.parquet"} for split in ("train", "dev")],
        }
        for pair in ("en-de", "en-es")
    ]
    (parallel / "README.md").write_text(f"---\n{yaml.safe_dump({'configs': configs})}---\n")
    for split, count in (("train", 6), ("validation", 9), ("test", 12)):
        columns = {"sentence1": tiny.sentences(count, seed=31), "sentence2": tiny.sentences(count, seed=32)}
        scores = Dataset.from_dict(columns | {"score": [float(number) for number in range(count)]})
        scores.to_parquet(here / f"sentence-transformers/stsb/{split}.parquet")
    recipe = yaml.safe_load(Path(written("small_multistage", folder, here / "student")).read_text())
    recipe["assistant"]["student"]["tokenizer"]["vocab_size"] = 90
    recipe["student"] |= {"layers": [0, 3], "embedding_size": 8}
    Path("small.yaml").write_text(yaml.safe_dump(recipe))
    assert main(["distill", "small.yaml"]) == 0
    printed = capsys.readouterr().out
    assert "Downloads" not in printed
    student = json.loads((here / "student/report.json").read_text())["rows"][-1]
    assert {"STS-B Spearman", "bitext de", "bitext de, back", "bitext es"} <= student["intervals"].keys()
    assert hub_names(read_recipe("small.yaml")) == []


def test_a_card_names_the_datasets_of_the_hub():
    assert hub_names(read_recipe("small_multistage")) == [
        "sentence-transformers/parallel-sentences-tatoeba",
        "sentence-transformers/stsb",
    ]
    assert hub_names(read_recipe("small_ner")) == []


# --- What is said -----------------------------------------------------------------------------------------------------


def test_each_recipe_says_what_it_needs():
    told = {name: needs(read_recipe(name)) for name in packaged_recipes()}
    assert {name for name, words in told.items() if words.startswith("needs only retort[quickstart];")} == {
        "quickstart",
        *AT_ONCE,
    }
    assert "stsb (0.7 MB" in told["small_multistage"]
    assert told["rubert_tiny"] == (
        "needs your own files: corpora/ru.txt, corpora/ru-dev.txt and 1 more; downloads the models "
        "DeepPavlov/rubert-base-cased"
    )


def test_listing_recipes_marks_each(capsys):
    assert main(["recipes"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("-> ") == len(packaged_recipes())
    assert printed.count("nothing is downloaded") == len({"quickstart", *AT_ONCE})


def test_the_best_stage_is_named_where_there_are_several(capsys):
    first, second = (
        StageResult(name, Path(name), {"f1": score}, 1, (), {}) for name, score in (("a", 0.5), ("b", 0.3))
    )
    show_scores([], [first])
    assert "Best on dev" not in capsys.readouterr().out
    show_scores([], [first, second])
    assert "Best on dev: a." in capsys.readouterr().out


PLAIN = {
    "teacher": "x",
    "student": {"layers": 2},
    "data": {"train_files": ["some/dataset[train[:10]]:text", "gone.txt"]},
    "stages": [{"name": "first", "arguments": {"embedding_weight": 1.0}}],
    "output_dir": "y",
}


def test_datasets_without_a_word_are_said_to_be_unknown(tmp_path):
    (tmp_path / "plain.yaml").write_text(yaml.safe_dump(PLAIN))
    assert downloads(read_recipe(tmp_path / "plain.yaml")) == ["some/dataset: size and licence are not known"]


def test_datasets_that_ones_own_files_replace_are_not_named(folder, tmp_path):
    (tmp_path / "own.txt").write_text("a\n")
    own = {"teacher": str(folder / "teacher"), "data": {"train_files": [str(tmp_path / "own.txt")]}}
    recipe = parse_recipe(PLAIN | own | {"downloads": {"a/b": "1 MB"}})
    check_presence(recipe)
    assert downloads(recipe) == []


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": {"corpus": "docstrings", "train_files": ["a.txt"]}}, "leave out train_files, or corpus"),
        ({"data": {"task": "tagging", "corpus": "docstrings", "folders": "a"}}, "leave out folders, or corpus"),
        ({"data": {"task": "masked_lm"}}, "no training data: set train_files"),
        (
            {"data": {"corpus": "docstrings"}, "evaluation": {"sts_test": {"a": "b.tsv"}}},
            "models are evaluated on the corpus",
        ),
    ],
)
def test_what_contradicts_itself_is_refused(change, message, tmp_path, capsys):
    (tmp_path / "plain.yaml").write_text(yaml.safe_dump(PLAIN | change))
    with pytest.raises(SystemExit) as refusal:
        sys.exit(main(["distill", str(tmp_path / "plain.yaml")]))
    assert refusal.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("path", sorted(BENCHMARKS.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_recipes_behind_the_figures_can_be_read(path):
    recipe = read_recipe(path)
    assert not recipe.data.corpus
    assert not recipe.downloads


def test_groups_that_hold_a_text_to_evaluate_on_are_left_out(tmp_path):
    (tmp_path / "sts.tsv").write_text("sentence1\tsentence2\tscore\na cat\tA dog.\t1\na bird\ta fox\t2\n")
    rows = ["anchor\tpositive", "a cat\ta kitten", "a house\ta hut", "a hound\ta  DOG."]
    (tmp_path / "groups.tsv").write_text("\n".join(rows) + "\n")
    files = SentenceFiles(group_files=[str(tmp_path / "groups.tsv")])
    groups = Files(files, SentenceEvaluation(sts_test={"toy": str(tmp_path / "sts.tsv")})).groups
    assert groups.to_list() == [{"anchor": "a house", "positive": "a hut"}]
