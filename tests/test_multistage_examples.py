"""Multi-stage distillation as a user starts it: by a recipe of all stages, and of one."""

import json

import pytest
import test_examples
import tiny
import yaml
from scripts import run_script, run_under_deepspeed
from test_examples import EXAMPLES, RECIPES, weights
from without_retort import run_without_retort

from retort.data.readers import read_sts
from retort.evaluation.sentences import sts_of_each
from retort.modeling.encoding import SentenceEncoder

folder = test_examples.folder


@pytest.fixture(scope="module")
def parallel(folder):
    """Sentences and their translations: half of the pairs with a tab, half in two files."""
    sides = [tiny.sentences(48, seed=seed) for seed in (6, 7)]
    (folder / "pairs.tsv").write_text("\n".join(map("\t".join, zip(*(side[:24] for side in sides), strict=True))))
    for name, side in zip(("one.txt", "other.txt"), sides, strict=True):
        (folder / name).write_text("\n".join(side[24:]))
    return [str(folder / "pairs.tsv"), f"{folder}/one.txt+{folder}/other.txt"]


@pytest.mark.promise(5)
def test_a_recipe_teaches_an_assistant_translations_and_it_a_recurrent_student(folder, parallel):
    recipe = yaml.safe_load((RECIPES / "small_multistage.yaml").read_text())
    del recipe["downloads"]
    recipe["teacher"] = str(folder / "teacher")
    recipe["assistant"]["student"]["tokenizer"]["vocab_size"] = 90
    recipe["student"] |= {"layers": [0, 3], "embedding_size": 8}
    recipe["data"] = {"parallel_files": parallel, "max_length": 32}
    tables = {"one": str(folder / "sts.tsv"), "two": f"{folder}/sts.tsv+{folder}/sts.tsv"}
    (folder / "sts-dev.tsv").write_bytes((folder / "sts.tsv").read_bytes())
    dev = {name: table.replace("sts.tsv", "sts-dev.tsv") for name, table in tables.items()}
    recipe["evaluation"] = {"sts_dev": dev, "sts_test": tables, "bitext": {"both": str(folder / "bitext.tsv")}}
    (folder / "bitext.tsv").write_text("\n".join(f"{text}\tbook {text}" for text in tiny.sentences(9, seed=8)))
    settings = {"per_device_train_batch_size": 8, "eval_strategy": "epoch", "disable_dropout": False}
    recipe["arguments"] |= {"bf16": False, **settings}
    for stage in (*recipe["assistant"]["stages"], *recipe["stages"]):
        stage["arguments"]["num_train_epochs"] = 1
    (folder / "multistage.yaml").write_text(yaml.safe_dump(recipe))
    output = folder / "multistage"
    command = EXAMPLES / "run_recipe.py", folder / "multistage.yaml", f"output_dir={output}"
    printed = run_script(*command)
    for part in (
        "Stages of the assistant",
        "Stage 3 of 3: mcl",
        "after bottleneck",
        "assistant, untrained",
        "eval_sts",
    ):
        assert part in printed
    report = json.loads((output / "report.json").read_text())
    assert report["metric"] == "mean STS Spearman"
    student = next(row for row in report["rows"] if row["name"] == "student")
    assert {"one Spearman", "bitext both", "bitext both, back"} <= student["quality"].keys()
    assert student["quality"]["one Spearman"] == student["quality"]["two Spearman"]
    finished = [json.loads(path.read_text())["result"] for path in output.glob("*/*/stage.json")]
    assert {stage["name"] for stage in finished} == {"translations", "bottleneck", "recurrent", "mcl"}
    assert all(set(stage["scores"]) == {"sts", "sts_one", "sts_two"} for stage in finished)
    embedded = run_without_retort(OPEN, output)
    assert "RecurrentBertModel 2" in embedded
    assert 'SentenceTransformer("multistage", trust_remote_code=True)' in (output / "README.md").read_text()
    assert run_script(*command).count("finished") == 4
    assert len(list(output.glob("tokenizer-*"))) == 1


# Opens a student by its code.
OPEN = """
from sentence_transformers import SentenceTransformer
student = SentenceTransformer(sys.argv[1], trust_remote_code=True)
print(type(student[0].auto_model).__name__, len(student.encode(["a cat", "a dog"])))
"""


@pytest.mark.promise(2)
def test_a_recipe_of_one_stage_serves_the_next_and_is_launched_by_deepspeed(folder, parallel):
    def stage(name, teacher, student, data="train", of_stage=None, **arguments):
        """The file of a recipe of one stage; the three of them are what run_multistage.py did by flags."""
        stage = {"name": name, "data": data, "arguments": arguments} | (of_stage or {})
        recipe = {
            "teacher": str(folder / teacher),
            "student": student,
            "data": {"parallel_files": parallel, "max_length": 32},
            "arguments": {
                "num_train_epochs": 2,
                "per_device_train_batch_size": 8,
                "save_strategy": "epoch",
                "learning_rate": 1e-3,
            },
            "stages": [stage],
            "output_dir": str(folder / name),
        }
        file = folder / f"{name}.yaml"
        file.write_text(yaml.safe_dump(recipe))
        return EXAMPLES / "run_recipe.py", file

    words = {"tokenizer": {"vocab_size": 90}}
    mcl = {"trainer": "MCLTrainer"}
    first = stage("translations", "teacher", words, "translations", mcl, mcl_weight=0)
    assert "loss_target" in run_script(*first, f"evaluation.sts_test={{own: {folder}/sts.tsv}}")
    made = {"layers": [0, 3], "recurrent_steps": 2, "embedding_size": 8}
    poolers = {"pooler": "mean_first", "teacher_pooler": "mean_first"}
    embeddings = {"embedding_weight": 1, "embedding_loss": "mse"}
    alone = {"trainable": ["embeddings"]}
    second = stage("bottleneck", "translations", made, "train", alone, **embeddings, **poolers)
    assert "loss_embedding" in run_script(*second)
    assert "finished" in run_script(*second)
    third = stage("mcl", "teacher", {"model": str(folder / "bottleneck")}, "translations", mcl)
    zero = f"arguments.deepspeed={EXAMPLES}/deepspeed/zero2.json"
    assert run_under_deepspeed(*third, zero).count("Stage 1 of 1: mcl") == 1
    assert weights(folder / "mcl").keys() == weights(folder / "bottleneck").keys()


def test_translations_are_taught_by_run_mcl_and_what_was_killed_goes_on(folder, parallel):
    tiny.model("bert", layers=2, seed=3).save_pretrained(folder / "languages")
    tiny.tokenizer().save_pretrained(folder / "languages")
    output = folder / "mcl-script"
    flags = ["--teacher", folder / "teacher", "--model", folder / "languages", "--output_dir", output]
    flags += ["--parallel_files", parallel[0], "--dev_files", parallel[1], "--eval_strategy", "epoch"]
    flags += ["--sts_test", f"{folder}/sts.tsv", "--max_length", "32", "--per_device_train_batch_size", "8"]
    flags += ["--save_strategy", "epoch", "--learning_rate", "1e-3", "--report_to", "none", "--num_train_epochs"]
    printed = run_script(EXAMPLES / "run_mcl.py", *flags, "1")
    for part in ("loss_mcl", "loss_target", "eval_loss", "STS, Spearman's correlation"):
        assert part in printed
    # The number told is that of the saved student.
    after = float(printed.partition("before, ")[2].split()[0])
    student = SentenceEncoder.from_pretrained(output)
    assert sts_of_each(student, {"own": read_sts(f"{folder}/sts.tsv")})["own"] == pytest.approx(after, abs=6e-5)
    assert "Resuming from" in run_script(EXAMPLES / "run_mcl.py", *flags, "2")
