"""The scripts as a user starts them: plainly, under the deepspeed launcher, killed and started again."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
import torch
import yaml
from processes import run
from safetensors.torch import load_file
from scripts import run_command, run_script, run_under_deepspeed
from without_retort import run_without_retort

from retort import SentenceEncoder, last_complete_checkpoint, read_sts, score_sts
from retort.trainers.saving import save_sentence_transformer

EXAMPLES = Path(__file__).parents[1] / "examples"
RECIPES = EXAMPLES.parent / "recipes/configs"
# Three whole steps of 16: of an incomplete one, several ranks would repeat rows.
SENTENCES = list(dict.fromkeys(tiny.sentences(80, seed=3)))[:48]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A sentence-transformers teacher, text to learn from, and scored pairs."""
    folder = tmp_path_factory.mktemp("examples")
    teacher = tiny.model("bert", layers=4)
    teacher.save_pretrained(folder / "teacher")
    tiny.tokenizer().save_pretrained(folder / "teacher")
    save_sentence_transformer(
        folder / "teacher", tiny.surrounding(pooler="mean", max_length=32, normalize=True, projector=None)
    )
    (folder / "corpus.txt").write_text("\n".join(SENTENCES))
    pairs = zip(tiny.sentences(40, seed=4), tiny.sentences(40, seed=5), strict=True)
    pairs = [pair for pair in pairs if not set(pair) & set(SENTENCES)][:20]
    (folder / "leaked.txt").write_text("\n".join(first for first, _ in pairs))
    table = [f"{first}\t{second}\t{score / 4}" for score, (first, second) in enumerate(pairs)]
    (folder / "sts.tsv").write_text("\n".join(["sentence1\tsentence2\tscore", *table]))
    return folder


def flags_of(folder: Path, name: str, *more: str) -> list[str]:
    """A run of three steps of 16 sentences."""
    flags = {
        "teacher": folder / "teacher",
        "train_files": folder / "corpus.txt",
        "layers": 2,
        "embedding_weight": 1,
        "disable_dropout": True,
        "max_steps": 3,
        "learning_rate": 1e-3,
        # With less, Adam would blow up the rounding of gradients that are zero, as those of the keys' biases.
        "adam_epsilon": 1e-4,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "output_dir": folder / name,
    }
    return [part for flag, value in flags.items() for part in (f"--{flag}", str(value))] + list(more)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def assert_close(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, weight in ours.items():
        torch.testing.assert_close(weight, theirs[name], rtol=1e-5, atol=1e-6, msg=lambda text, n=name: f"{n}: {text}")


@pytest.fixture(scope="module")
def plain(folder):
    """The student of a plain run. It learns from the same text as the others: that of --sts_test is left out."""
    leaked = ["--train_files", folder / "corpus.txt", folder / "leaked.txt", "--sts_test", folder / "sts.tsv"]
    flags = [*flags_of(folder, "plain", "--per_device_train_batch_size", "16"), *leaked]
    # Here, if nowhere else, with imports of its own.
    printed = run([sys.executable, EXAMPLES / "run_distill.py", *flags])
    assert re.search(r"STS, Spearman's correlation: teacher -?0\.\d{4}, student -?0\.\d{4}", printed)
    return folder / "plain"


def test_a_plain_run_leaves_a_student_and_its_card_with_its_score(plain, folder):
    student, pairs = SentenceEncoder.from_pretrained(plain), read_sts(f"{folder}/sts.tsv")
    assert f"student {score_sts(student, pairs)['sts']:.4f}" in (plain / "README.md").read_text()
    use = "from sentence_transformers import SentenceTransformer as S; print(S(sys.argv[1]).encode('a cat').shape)"
    assert run_without_retort(use, plain) == "(32,)\n"
    untrained = tiny.model("bert", layers=4).state_dict()
    trained = weights(plain)["encoder.layer.0.output.dense.weight"]
    assert not torch.allclose(trained, untrained["encoder.layer.0.output.dense.weight"])


@pytest.mark.promise(3)
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_the_deepspeed_launcher_trains_the_same_student_on_two_ranks(stage, plain, folder):
    name = f"zero{stage}"
    flags = flags_of(folder, name, "--per_device_train_batch_size", "8")
    run_under_deepspeed(EXAMPLES / "run_distill.py", *flags, "--deepspeed", EXAMPLES / f"deepspeed/{name}.json")
    assert_close(weights(folder / name), weights(plain))


def test_a_run_from_the_written_cache_trains_the_same_student(plain, folder):
    flags = flags_of(folder, "cached", "--per_device_train_batch_size", "16")
    flags += ["--teacher_cache", str(folder / "cache"), "--teacher_cache_dtype", "float32"]
    command = ["cache", "embedding_weight=1", "teacher_cache_dtype=float32", "--teacher", folder / "teacher"]
    command += ["--train_files", folder / "corpus.txt", "--layers", 2, "--output_dir", folder / "cache"]
    assert "48 rows of teacher outputs" in run_command(*command)
    written = {path: path.stat().st_mtime_ns for path in (folder / "cache").rglob("*.arrow")}
    assert written
    run_script(EXAMPLES / "run_distill.py", *flags)
    assert written == {path: path.stat().st_mtime_ns for path in (folder / "cache").rglob("*.arrow")}
    assert_close(weights(folder / "cached"), weights(plain))


@pytest.mark.promise(3)
def test_contrastive_distillation_is_the_same_on_two_ranks_with_a_queue(folder):
    def student(name, rows, start):
        flags = flags_of(folder, name, "--per_device_train_batch_size", rows, "--queue_size", "32")
        flags += ["--learn_temperature", "True"]
        start(EXAMPLES / "run_ckd.py", *flags)
        return weights(folder / name)

    alone = student("ckd", "16", run_script)
    torchrun = Path(sys.executable).with_name("torchrun"), "--standalone", "--nproc_per_node=2"
    assert_close(student("ckd-two", "8", lambda *command: run([*torchrun, *command])), alone)
    assert "InfoNCE" in (folder / "ckd/README.md").read_text()


def test_a_student_is_fine_tuned_on_triplets_and_goes_on_where_it_was(plain, folder):
    texts = [tiny.sentences(48, seed=seed) for seed in (1, 2, 3)]
    (folder / "nli.tsv").write_text(
        "anchor\tpositive\tnegative\n" + "\n".join(map("\t".join, zip(*texts, strict=True)))
    )
    flags = [
        "--model",
        plain,
        "--train_files",
        folder / "nli.tsv",
        "--output_dir",
        folder / "tuned",
        "--max_steps",
        "4",
    ]
    flags += ["--per_device_train_batch_size", "8", "--gradient_accumulation_steps", "2", "--save_steps", "2"]
    flags += ["--save_strategy", "steps", "--eval_strategy", "steps", "--eval_steps", "2", "--report_to", "none"]
    flags += [
        "--dev_files",
        folder / "nli.tsv",
        "--sts_dev",
        folder / "sts.tsv",
        "--sts_test",
        folder / "sts.tsv",
        "--logging_steps",
        "1",
    ]
    printed = run_script(EXAMPLES / "run_contrastive.py", *flags)
    for part in (
        "loss_positives",
        "eval_loss_positives",
        "Step 4: eval_sts",
        "Training: device cpu",
        "before",
        "after",
    ):
        assert part in printed
    assert "trained with retort" in (folder / "tuned/README.md").read_text()
    flags[flags.index("4")] = "6"
    assert "Resuming from" in run_script(EXAMPLES / "run_contrastive.py", *flags)


def test_a_recipe_distils_contrastively_and_fine_tunes_on_triplets(folder):
    recipe = yaml.safe_load((RECIPES / "small_ckd.yaml").read_text())
    recipe["teacher"] = str(folder / "teacher")
    recipe["student"] = {"layers": 2, "hidden_size": 16}
    triplets = zip(*(tiny.sentences(24, seed=seed) for seed in (1, 2, 3)), strict=True)
    (folder / "triplets.csv").write_text("\n".join(["sent0,sent1,hard_neg", *map(",".join, triplets)]))
    del recipe["data"]["corpus"]
    recipe["data"] |= {"train_files": [str(folder / "corpus.txt")], "group_files": [str(folder / "triplets.csv")]}
    (folder / "sts-dev.tsv").write_bytes((folder / "sts.tsv").read_bytes())
    recipe["evaluation"] = {"sts_dev": str(folder / "sts-dev.tsv"), "sts_test": {"own": str(folder / "sts.tsv")}}
    recipe["arguments"] |= {"bf16": False, "eval_strategy": "epoch"}
    for stage in recipe["stages"]:
        stage["arguments"] |= {"num_train_epochs": 1, "per_device_train_batch_size": 8, "report_to": "none"}
    recipe["stages"][0]["arguments"]["queue_size"] = 16
    (folder / "ckd.yaml").write_text(yaml.safe_dump(recipe))
    output = folder / "ckd-recipe"
    printed = run_script(EXAMPLES / "run_recipe.py", folder / "ckd.yaml", f"output_dir={output}")
    for part in ("loss_contrastive", "loss_positives", "Stage 2 of 2: pairs"):
        assert part in printed
    finished = [json.loads(path.read_text())["result"] for path in output.glob("stages/*/stage.json")]
    assert {stage["name"]: list(stage["scores"]) for stage in finished} == {
        "distillation": ["sts"],
        "pairs": ["sts"],
    }
    report = json.loads((output / "report.json").read_text())
    assert report["metric"] == "own Spearman"
    assert [row["role"] for row in report["rows"]][:3] == ["teacher", "untrained", "student"]
    assert (output / "report.png").stat().st_size > 10_000
    assert "corpus.txt" in (output / "README.md").read_text()


def test_objectives_are_compared_on_the_same_students_and_only_once(folder):
    script = EXAMPLES.parent / "benchmarks/sentence_objectives.py"
    flags = ["--train_files", folder / "corpus.txt", "--sts", f"own={folder}/sts.tsv", "--teacher", folder / "teacher"]
    flags += ["--students", "0,1", "--seeds", "0", "--batch_size", "16", "--output_dir", folder / "objectives"]
    flags += ["--epochs", "10", "--learning_rate", "0.005", "--objectives", "none", "simcse", "cosine", "ckd"]
    printed = run_script(script, *flags)
    runs = json.loads((folder / "objectives/objectives.json").read_text())["runs"]
    assert [run["objective"] for run in runs] == ["none", "simcse", "cosine", "ckd"]
    assert len({run["scores"]["own"] for run in runs}) == 4
    assert all(f"{run['scores']['own']:.4f}" in printed for run in runs)
    assert "ckd, layers 0,1, seed 0" not in run_script(script, *flags)


@pytest.mark.promise(2)
def test_the_quickstart_killed_and_started_again_goes_on_and_says_so(folder):
    recipe = yaml.safe_load((RECIPES / "quickstart.yaml").read_text())
    assert recipe["student"]["layers"] == [0, 2, 5]
    recipe["student"]["layers"] = 2
    recipe["data"]["max_length"] = 16
    recipe["stages"][0]["arguments"] |= {"max_steps": 40, "save_steps": 2, "logging_steps": 1, "bf16": False}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    output = folder / "recipe"
    teacher = [f"teacher={folder}/teacher", f"output_dir={output}"]
    command = list(map(str, [sys.executable, EXAMPLES / "run_recipe.py", folder / "recipe.yaml", *teacher]))

    unbuffered = os.environ | {"PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=unbuffered
    ) as process:
        shown = (line for line in process.stderr if re.search(r"\b([3-9]|\d\d)/40 .*, loss ", line))  # of the bar
        assert next(shown, None), "the run ended before its third step"
        process.kill()
    assert process.returncode == -signal.SIGKILL
    (stage,) = (output / "stages").glob("01-embeddings-*")
    assert last_complete_checkpoint(stage), "the second step's checkpoint comes before the third step"
    printed = run_script(*command[1:])
    assert re.search(r"Resuming from \S*checkpoint-\d+", printed)
    assert "MRR@10, % of teacher" in printed
    assert re.search(r'SentenceTransformer\(".*recipe"\)', printed)
    steps = [entry["step"] for entry in json.loads((output / "report.json").read_text())["losses"]]
    assert steps[-1] == 40
