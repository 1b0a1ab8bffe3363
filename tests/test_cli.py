"""The command `retort`: its help by the standard library alone, its errors in one line, and what it runs."""

import configparser
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import test_examples
import tiny
import yaml
from datasets import Dataset
from processes import run
from ranks import free_port
from safetensors.torch import load_file

from retort.cli import main, parse
from retort.data import STS_TASKS, TRANSFER_TASKS, read_groups
from retort.modeling.encoding import POOLERS, SentenceEncoder
from retort.recipes import packaged_recipes

REPOSITORY = Path(__file__).parents[1]
COMMANDS = ("distill", "recipes", "eval", "predict", "export", "vocabulary", "cache", "curvature", "env")
folder = test_examples.folder


@pytest.fixture
def recipe(folder):
    """Two stages of two steps, of the tiny teacher."""
    settings = {
        "teacher": str(folder / "teacher"),
        "student": {"layers": 2},
        "data": {"train_files": [str(folder / "corpus.txt")], "max_length": 32},
        "arguments": {"use_cpu": True, "disable_tqdm": True, "per_device_train_batch_size": 8, "max_steps": 2},
        "stages": [
            {"name": "first", "arguments": {"embedding_weight": 1}},
            {"name": "second", "cache_teacher": True, "arguments": {"embedding_weight": 1, "similarity_weight": 1}},
        ],
        "output_dir": str(folder / "commanded"),
    }
    (folder / "commanded.yaml").write_text(yaml.safe_dump(settings))
    return str(folder / "commanded.yaml")


def refused(arguments, capsys):
    """The one line that a command line ends with."""
    try:
        code = main(list(map(str, arguments)))
    except SystemExit as refusal:
        code = refusal.code
    (line,) = capsys.readouterr().err.splitlines()[-1:]
    assert code == 2
    assert "error: " in line
    return line


# --- Help -------------------------------------------------------------------------------------------------------------


def test_no_help_imports_what_takes_seconds():
    code = """
import sys
from retort.cli import parse
for arguments in ([], *([name] for name in sys.argv[1:])):
    try:
        parse([*arguments, "--help"])
    except SystemExit as end:
        assert end.code == 0
heavy = {"torch", "transformers", "datasets", "numpy", "yaml", "pydantic", "retort.recipes", "retort.commands"}
print("heavy:", sorted(heavy & sys.modules.keys()))
"""
    printed = run([sys.executable, "-c", code, *COMMANDS])
    assert printed.splitlines()[-1] == "heavy: []"
    for name in COMMANDS:
        assert f"usage: retort {name} [-h]" in printed


@pytest.mark.parametrize("name", COMMANDS)
def test_help_says_what_is_required_and_what_happens_otherwise(name, capsys):
    with pytest.raises(SystemExit, match=r"^0$"):
        parse([name, "--help"])
    told = " ".join(capsys.readouterr().out.split())
    parser = options_of(name).parser
    for action in parser._actions:
        assert action.help, f"{name} {action.dest} has no help"
        if action.required and action.option_strings:
            assert f"{' '.join(action.help.split())} (required)" in told
    assert parser.description.splitlines()[0] in told


def options_of(name):
    """The options of a command with its required flags filled in."""
    files = ["--model", "m", "--teacher", "t", "--text", "x", "--train_files", "x", "--output_dir", "o", "--train", "5"]
    needed = {
        "distill": ["quickstart"],
        "eval": ["--model", "m"],
        "predict": files[:2],
        "export": files[:2],
        "vocabulary": [*files[2:6], *files[8:]],
        "cache": [*files[2:4], *files[6:10]],
        "curvature": [*files[:2], *files[4:6]],
    }
    return parse([name, *needed.get(name, [])])


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    "command",
    [
        "eval --model runs/gone --sts toy={folder}/sts.tsv",
        "predict --model runs/gone --input {folder}/corpus.txt",
        "vocabulary --teacher runs/gone --train 50 --text {folder}/corpus.txt --output_dir {folder}/no",
        "cache --teacher ./runs/gone --train_files {folder}/corpus.txt --output_dir {folder}/no",
        "cache --teacher runs/gone --miner x --negatives 2 --train_files {folder}/corpus.txt --output_dir {folder}/no",
        "curvature --model ./runs/gone --text {folder}/corpus.txt",
        "export --model runs/gone --output_dir {folder}/no",
    ],
)
def test_a_model_that_is_not_there_is_named(command, folder, capsys):
    assert main(command.format(folder=folder).split()) == 2
    assert "runs/gone', but there is no such folder, and no such model can be reached" in capsys.readouterr().err


def test_help_names_the_poolers_and_tasks_that_there_are():
    help_of = {action.dest: action.help for action in options_of("eval").parser._actions}
    named = help_of["pooler"].partition(": ")[2].partition(" (")[0]
    assert set(named.split(", ")) == set(POOLERS)
    assert {"STS12", "MR"} <= {*STS_TASKS, *TRANSFER_TASKS}


def test_the_command_is_installed_and_is_a_module_too():
    setup = configparser.ConfigParser()
    setup.read(REPOSITORY / "setup.cfg")
    assert setup["options.entry_points"]["console_scripts"].strip() == "retort = retort.cli:main"
    assert "usage: retort env" in run([sys.executable, "-m", "retort", "env", "--help"])


# --- The command line -------------------------------------------------------------------------------------------------


def test_changes_may_stand_behind_flags_and_a_launchers_rank_before_the_command():
    options = parse(["--local_rank=1", "distill", "x", "a=1", "--dry_run", "b.c=2", "--only", "s", "d=3"])
    assert (options.recipe, options.changes) == ("x", ["a=1", "b.c=2", "d=3"])
    assert (options.dry_run, options.only, options.traceback) == (True, "s", False)
    assert parse(["--traceback", "env"]).traceback
    assert parse(["env", "--traceback"]).traceback


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["distil"], "invalid choice: 'distil'"),
        ([], "the following arguments are required: COMMAND"),
        (["distill", "x", "--dryrun"], "there is no flag --dryrun. Did you mean --dry_run?"),
        (["distill", "x", "--learning_rte=1"], "there is no flag --learning_rte. Pass changes as key=value."),
        (["env", "x"], "unexpected 'x'"),
        (["predict"], "the following arguments are required: --model"),
        (["export", "--model", "."], ". has no config.json"),
        (["eval", "--model", "x"], "Nothing to score"),
        (["eval"], "pass --model, or --state_dict with --base_model"),
        (["eval", "--model", "x", "--sts", "a=b.tsv+./c.tsv", "--output", "c.tsv"], "--output is a file of --sts or"),
        (
            ["predict", "--model", "x", "--input", "y", "--output", f"{__file__}/of/mine.json"],
            f"mine.json can't be written: {__file__} is not a folder",
        ),
        (
            ["cache", "--teacher", "x", "--train_files", "y", "--output_dir", f"{os.devnull}/mine"],
            f"mine can't be written: {os.devnull} is not a folder",
        ),
        (
            ["predict", "--model", "x", "--input", "y", "--output", "./y"],
            "--output is the file of --input, which would",
        ),
        (
            ["vocabulary", "--teacher", "x", "--trim", "--text", "y", "--output_dir", "./x"],
            "--output_dir is the teacher's folder, whose tokenizer would be lost",
        ),
        (
            ["vocabulary", "--teacher", "x", "--trim", "0", "--text", "y", "--output_dir", "z"],
            "'0' is not a whole number",
        ),
        (
            ["cache", "teacher_cache=a", "--teacher", "x", "--train_files", "y", "--output_dir", "z"],
            "teacher_cache=a: --output_dir names the folder: leave it out",
        ),
        (["eval", "--model", "x", "--tasks", "STS12"], "need --senteval FOLDER"),
        (
            ["eval", "--model", "x", "--senteval", "y", "--tasks", "STS99"],
            "--tasks STS99: unknown. Choose from STS12, ",
        ),
        (["eval", "--model", "x", "--pooler", "avg"], "--pooler avg: unknown. Choose from mean, "),
        (
            ["export", "--model", "some/id"],
            "no folder some/id. For a model on the Hub, set --output_dir",
        ),
        (["eval", "--model", "x", "--sts", "toy=gone.tsv"], "--sts toy: there is no gone.tsv (in "),
        (["eval", "--model", "x", "--sts", "a=b.tsv+c.tsv"], "--sts a: there is no b.tsv and no c.tsv (in "),
        (["eval", "--model", "x", "--probe", "a=./gone"], "--probe a: there is no ./gone (in "),
        (["eval", "--model", "x", "--sts", "en="], "'en=' names no file"),
        (["curvature", "--model", "x", "--text", "y", "--samples", "3"], "--samples is 3, but must be at least 4"),
        (["vocabulary", "--teacher", "x", "--text", "y", "--output_dir", "z"], "one of the arguments --train --trim"),
        (
            ["cache", "--teacher", "x", "--train_files", "y", "--output_dir", "./x"],
            "--output_dir is the teacher's folder",
        ),
        (["cache", "--teacher", __file__, "--train_files", "y", "--output_dir", "z"], f"--teacher is '{__file__}',"),
        (["--dry_run", "distill", "small_ner"], "--dry_run belongs behind the command: retort distill ... --dry_run"),
        (
            ["distill", "small_ner", "learning_rate=1e-4"],
            "of one stage under its arguments (stages.NAME.arguments.learning_rate)",
        ),
        (["distill", "small_ner", "stages.logits.learning_rate=-1"], "learning_rate=-1.0: it must be 0 or above"),
        (["recipes", "small_nre"], "no recipe small_nre. Did you mean small_ner?"),
        (["distill", "gone.yaml"], "There is no recipe gone.yaml. The packaged recipes are"),
        (["predict", "--model", "x", "--input", "gone.txt"], "--input is gone.txt, but there is no such file"),
        (["distill", "small_ner", "student.layer=2"], "student.layer: there is no such key. Did you mean layers?"),
        (["distill", "rubert_tiny"], "files don't exist"),
        (["distill", "quickstart", "teacher=all-MniLM-L6"], "teacher is 'all-MniLM-L6', but there is no such folder"),
        (
            ["cache", "embeding_weight=1", "--teacher", "x", "--train_files", "y", "--output_dir", "z"],
            "arguments.embeding_weight: DistillTrainingArguments has no such argument. Did you mean embedding_weight?",
        ),
    ],
)
def test_what_is_wrong_is_one_line_and_ends_with_2(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert message in refused(arguments, capsys)


def test_a_script_without_a_folder_to_write_to_is_refused(monkeypatch, capsys):
    from retort import DistillTrainingArguments, ScriptParser

    monkeypatch.setattr(sys, "argv", ["script.py", "--max_steps", "1"])
    with pytest.raises(SystemExit):
        ScriptParser((DistillTrainingArguments,), description="").parse_args_into_dataclasses()
    assert "the following arguments are required: --output_dir" in capsys.readouterr().err


def test_a_traceback_only_where_it_is_asked_for(capsys):
    assert main(["recipes", "no_such"]) == 2
    assert "Traceback" not in capsys.readouterr().err
    assert main(["recipes", "no_such", "--traceback"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_an_error_that_nobody_foresaw_says_its_type_and_its_place(capsys, monkeypatch):
    monkeypatch.setattr("retort.commands.recipes.packaged_recipes", lambda: {}["key"])
    assert main(["recipes"]) == 2
    assert capsys.readouterr().err.startswith(f"retort recipes: error: KeyError: 'key' ({__file__}, line ")


# --- What it runs -----------------------------------------------------------------------------------------------------


def test_recipes_are_listed_with_a_line_each_and_printed_as_they_are(capsys):
    assert main(["recipes"]) == 0
    listed = capsys.readouterr().out
    assert [line.split()[0] for line in listed.splitlines() if not line.startswith(" ")] == list(packaged_recipes())
    for name, file in packaged_recipes().items():
        assert main(["recipes", name]) == 0
        assert capsys.readouterr().out == file.read_text()


def test_env_names_versions_device_and_back_end(capsys):
    assert main(["env"]) == 0
    told = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert {"retort", "Python", "torch", "transformers", "sentence-transformers", "device"} <= told.keys()
    assert any(name in told["attention"] for name in ("varlen", "runs", "padded"))


def test_stages_are_run_one_by_one_and_make_the_student_that_all_at_once_make(recipe, folder, capsys):
    assert "--only second: first run the stages before it: first." in refused(
        ["distill", recipe, "--only", "second"], capsys
    )
    assert "no such stage. Its stages are first, second." in refused(["distill", recipe, "--only", "third"], capsys)
    assert main(["distill", recipe, "--only", "first"]) == 0
    assert not (folder / "commanded/model.safetensors").exists()
    assert "Stage 1 of 1: first" in capsys.readouterr().out
    assert main(["distill", recipe, "--only", "second"]) == 0
    printed = capsys.readouterr().out
    assert "Stage 1 of 2" not in printed
    assert "Stage 2 of 2: second" in printed
    whole = folder / "commanded-whole"
    assert main(["distill", recipe, f"output_dir={whole}"]) == 0
    one_by_one, at_once = (load_file(path / "model.safetensors") for path in (folder / "commanded", whole))
    assert one_by_one.keys() == at_once.keys()
    assert all((one_by_one[name] == at_once[name]).all() for name in at_once)


@pytest.mark.promise(9)
def test_the_teachers_folder_is_not_written_to(recipe, folder, capsys):
    for place in ("teacher", "teacher/1_Pooling"):
        message = refused(["distill", recipe, f"output_dir={folder}/{place}"], capsys)
        assert "has files of teacher, which the student's would replace" in message
        assert not (folder / place / "stages").exists()


@pytest.mark.parametrize("change", ["max_length=32", "student.tokenizer={trim_to: 48}"])
def test_a_dry_run_writes_nothing(change, recipe, folder, capsys):
    there = folder / "dry"
    change = change if "." in change else f"data.{change}"
    assert main(["distill", recipe, "--dry_run", f"output_dir={there}", change]) == 0
    assert "second" in capsys.readouterr().out
    assert not there.exists()


def test_a_dry_run_knows_the_stages_that_are_finished_under_a_new_tokenizer(recipe, folder, capsys):
    changes = ["student.tokenizer={vocab_size: 60}", f"output_dir={folder}/new-tokenizer"]
    assert main(["distill", recipe, *changes, "--only", "first"]) == 0
    capsys.readouterr()
    assert main(["distill", recipe, *changes, "--dry_run", "--only", "second"]) == 0
    assert re.search(r"^first +finished ", capsys.readouterr().out, re.MULTILINE)


def test_a_cache_serves_a_run(recipe, folder, capsys):
    files = ["--teacher", folder / "teacher", "--train_files", folder / "corpus.txt", "--max_length", "32"]
    command = ["cache", "embedding_weight=1", "teacher_cache_dtype=float32", "use_cpu=true", *files, "--layers", "2"]
    assert main(list(map(str, [*command, "--output_dir", folder / "commanded-cache"]))) == 0
    assert "48 rows of teacher outputs" in capsys.readouterr().out
    written = {path: path.stat().st_mtime_ns for path in (folder / "commanded-cache").rglob("*.arrow")}
    assert written
    changes = ["teacher_cache_dtype=float32", f"teacher_cache={folder}/commanded-cache"]
    arguments = [f"stages.first.{change}" for change in changes]
    assert main(["distill", recipe, *arguments, f"output_dir={folder}/from-cache", "--only", "first"]) == 0
    assert written == {path: path.stat().st_mtime_ns for path in (folder / "commanded-cache").rglob("*.arrow")}


def test_a_rerankers_scores_of_mined_negatives_are_written(folder, capsys, monkeypatch):
    encoder = SentenceEncoder(tiny.model(), tiny.tokenizer(), tiny.surrounding())
    encoder.save_pretrained(folder / "miner")
    tiny.model(task="sequence", labels=1).save_pretrained(folder / "reranker")
    tiny.tokenizer().save_pretrained(folder / "reranker")
    pairs = zip(tiny.sentences(9, seed=1), tiny.sentences(9, seed=2), strict=True)
    (folder / "pairs.tsv").write_text("".join(f"{query}\t{document}\n" for query, document in pairs))
    command = ["cache", "--teacher", folder / "reranker", "--train_files", folder / "pairs.tsv", "--output_dir"]
    mined = ["--negatives", "3", "--miner", folder / "miner", "use_cpu=true"]
    assert main(list(map(str, [*command, folder / "scores", *mined]))) == 0
    assert "9 queries with scored documents" in capsys.readouterr().out
    scored = read_groups([folder / "scores" / "groups.parquet"])
    assert [len(row["documents"]) for row in scored] == [len(row["scores"]) for row in scored] == [4] * 9
    files = {file: file.read_bytes() for file in (folder / "scores").glob("*.parquet")}
    fewer = [*command, folder / "scores", *mined[:1], "2", *mined[2:]]
    assert "scores has documents of other --negatives. Name another --output_dir" in refused(fewer, capsys)
    monkeypatch.setattr("retort.commands.cache.mine_negatives", None)
    assert main(list(map(str, [*command, folder / "scores", *mined]))) == 0  # nothing is mined again
    assert files == {file: file.read_bytes() for file in (folder / "scores").glob("*.parquet")}
    (folder / "scores/mined.parquet").write_bytes(files[folder / "scores/mined.parquet"][:-9])
    assert "scores: mined.parquet has" in refused([*command, folder / "scores", *mined], capsys)
    (folder / "scores/mined.parquet.json").write_text("{")
    assert "scores: mined.parquet.json is not valid JSON" in refused([*command, folder / "scores", *mined], capsys)
    (folder / "scores/mined.parquet.json").unlink()
    assert "scores has scores of other documents" in refused([*command, folder / "scores", *mined], capsys)
    for wrong, message in (
        (["--negatives", "3"], "needs --miner"),
        (["--negatives", "3", "--miner", folder / "reranker"], f"--miner {folder}/reranker: has no modules.json"),
        (["embedding_weight=1"], "embedding_weight: this argument doesn't change a reranker's scores"),
        (["pooler=cls"], "pooler: this argument doesn't change a reranker's scores"),
        (["--prompt", "query: "], "A reranker takes no --pooler, --prompt"),
        (["--teacher", folder / "teacher", "--negatives", "3"], "are for rerankers"),
    ):
        assert message in refused([*command, folder / "no", *wrong], capsys)


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    "source", ["groups.parquet", "mined.parquet", "link.parquet", "groups.parquet:query", "g*.parquet"]
)
def test_groups_are_not_replaced_by_their_own_scores(source, tmp_path, capsys):
    tiny.model(task="sequence", labels=1).save_pretrained(tmp_path / "reranker")
    tiny.tokenizer().save_pretrained(tmp_path / "reranker")
    file = tmp_path / "data" / ("mined.parquet" if source == "mined.parquet" else "groups.parquet")
    Dataset.from_dict({"query": ["a cat"], "documents": [["a dog", "the mat"]]}).to_parquet(file)
    (tmp_path / "data" / "link.parquet").symlink_to(file)
    before = file.read_bytes()
    command = [
        "cache",
        "--teacher",
        tmp_path / "reranker",
        "--train_files",
        f"{tmp_path}/data/{source}",
        "use_cpu=true",
    ]
    message = refused([*command, "--output_dir", f"{tmp_path}/reranker/../data"], capsys)
    assert f"data/{source} would be replaced by the groups in --output_dir" in message
    assert file.read_bytes() == before


def test_a_stage_of_a_recipe_learns_from_scores(recipe, folder, capsys):
    settings = yaml.safe_load(Path(recipe).read_text())
    texts = tiny.sentences(40)
    rows = [
        {
            "query": texts[row],
            "documents": texts[row + 1 : row + 3 + row % 3],
            "scores": [3.0, 1.5, 0.5, -2.0][: 2 + row % 3],
        }
        for row in range(16)
    ]
    (folder / "scored.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings["data"] = {"group_files": [str(folder / "scored.jsonl")], "max_length": 32}
    weights = {"contrastive_weight": 0, "margin_weight": 1, "listwise_weight": 0.5}
    stage = {"name": "scores", "trainer": "ContrastiveTrainer", "data": "groups", "arguments": weights}
    settings |= {"stages": [stage], "output_dir": str(folder / "from-scores")}
    (folder / "scores.yaml").write_text(yaml.safe_dump(settings))
    assert main(["distill", str(folder / "scores.yaml")]) == 0
    card = (folder / "from-scores" / "README.md").read_text()
    assert "MarginMSE" in card
    assert "KL divergence over the documents of a query" in card
    assert "scored.jsonl" in card


@pytest.mark.parametrize("launcher", ["torchrun", "accelerate", "deepspeed"])
def test_it_runs_under_the_launchers(launcher, recipe):
    flags = {
        "torchrun": ["--standalone", "--nproc_per_node=2", "-m"],
        "accelerate": [
            *(
                "launch",
                "--cpu",
                "--num_processes=2",
                "--num_machines=1",
                "--mixed_precision=no",
                "--dynamo_backend=no",
            ),
            *(f"--main_process_port={free_port()}", "-m"),
        ],
        "deepspeed": ["--num_accelerators=2", f"--master_port={free_port()}", "--module"],
    }
    command = [Path(sys.executable).with_name(launcher), *flags[launcher], "retort", "distill", recipe, "--dry_run"]
    printed = run(command, environment=os.environ | {"DS_ACCELERATOR": "cpu"})
    assert printed.count("Stages of the student") == 1, "each rank would have printed it if they had not met"


@pytest.mark.promise(9)
@pytest.mark.parametrize("command", [["eval", "--sts", "a=b.tsv"], ["predict", "--input", "x.txt"]])
def test_no_file_of_a_model_is_overwritten(command, folder, capsys):
    file = folder / "teacher" / "config.json"
    before = file.read_text()
    message = refused([*command, "--model", folder / "teacher", "--output", file], capsys)
    assert "--output is a file in the model's folder, which would be lost" in message
    assert file.read_text() == before


@pytest.mark.promise(9)
@pytest.mark.parametrize("command", [["vocabulary", "--teacher", "x", "--train", "90", "--text", "y"], ["export"]])
def test_no_other_model_is_overwritten(command, folder, tmp_path, capsys):
    other = shutil.copytree(folder / "teacher", tmp_path / "other")
    source = ["--model", folder / "teacher"] if command == ["export"] else []
    assert re.search(r"has (another|a) model, whose", refused([*command, *source, "--output_dir", other], capsys))
    assert {path.name for path in other.iterdir()} == {path.name for path in (folder / "teacher").iterdir()}


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    "file",
    ["model-00001-of-00002.safetensors", "pytorch_model.bin", "modules.json", "0_Transformer/model.safetensors"],
)
def test_an_export_replaces_no_other_model_however_it_is_saved(file, folder, tmp_path, capsys):
    (tmp_path / file).parent.mkdir(exist_ok=True)
    for name in (file, "config.json"):
        (tmp_path / name).write_text("[]")
    arguments = ["export", "--model", folder / "teacher", "--output_dir", tmp_path]
    assert "has another model, whose files would be replaced" in refused(arguments, capsys)
    assert (tmp_path / "config.json").read_text() == "[]"


def test_an_interrupted_command_says_how_it_goes_on(monkeypatch, capsys):
    def interrupted(options):
        raise KeyboardInterrupt

    monkeypatch.setattr("retort.commands.distill.run", interrupted)
    assert main(["distill", "quickstart"]) == 130
    assert capsys.readouterr().err == ("retort distill: error: interrupted. Start it again to continue.\n")


def test_output_that_nobody_reads_any_more_is_no_error():
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "retort", "recipes"], stdout=write, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")
