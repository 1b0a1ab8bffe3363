"""Tagging and classification as a user starts them: recipes from a bare encoder to a student, and a script for each."""

import json
import sys
from pathlib import Path

import pytest
import tiny
import yaml
from hub_server import USER, LocalHub
from processes import run
from safetensors.torch import load_file
from scripts import run_command, run_script, run_under_deepspeed
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification, AutoTokenizer
from without_retort import run_without_retort

from retort import read_task, score_task
from retort.recipes import Recipe, Student, TaskEvaluation, TaskFiles, Teacher, read_recipe, run_recipe
from retort.recipes.tasks import TaskRecipe, with_head
from retort.recipes.tasks.students import TaskData

EXAMPLES = Path(__file__).parents[1] / "examples"
BENCHMARKS = EXAMPLES.parent / "benchmarks"
RECIPES = EXAMPLES.parent / "recipes/configs"
SELECTING = {"eval_strategy": "epoch", "save_strategy": "epoch", "save_total_limit": 1, "load_best_model_at_end": True}
BY_SCORE = SELECTING | {"metric_for_best_model": "eval_score", "greater_is_better": True}
BY_LOSS = SELECTING | {"metric_for_best_model": "eval_loss", "greater_is_better": False}


def task_recipe(
    folder: Path, output: Path, data: dict, student: dict, unfreezing: str | None = None, **sections
) -> Path:
    """The file of a recipe in XtremeDistil's stages, for the bare teacher of a folder."""
    representations = (
        {"features_weight": 1.0} if student.get("projector") else {"hidden_weight": 1.0, "layer_map": "last"}
    )
    transfer = {"data": "transfer", "patience": 15}
    fine_tuning = {"num_train_epochs": 15, "learning_rate": 3e-3, "warmup_steps": 0.1} | BY_SCORE
    recipe = {
        "teacher": {"model": str(folder / "teacher"), "fine_tuning": {"patience": 15, "arguments": fine_tuning}},
        "student": student,
        "data": data,
        "arguments": {
            "per_device_train_batch_size": 16,
            "learning_rate": 5e-3,
            "num_train_epochs": 4,
            "use_cpu": True,
            "report_to": "none",
        },
        "stages": [
            {"name": "representations", "arguments": BY_LOSS | representations, **transfer},
            {
                "name": "logits",
                "arguments": BY_LOSS | {"logits_weight": 1.0, "logits_loss": "mse"},
                "gradual_unfreezing": unfreezing,
                "cache_teacher": True,
                **transfer,
            },
            {
                "name": "labels",
                "arguments": BY_SCORE | {"label_weight": 1.0},
                "gradual_unfreezing": unfreezing,
                "patience": 15,
            },
        ],
        "output_dir": str(output),
    }
    file = output.with_suffix(".yaml")
    file.write_text(yaml.safe_dump(recipe | sections))
    return file


def launch(script: str, *flags: object) -> str:
    return run_script(EXAMPLES / script, *flags, environment={"CUDA_VISIBLE_DEVICES": ""})


def predict(*flags: object) -> str:
    return run_command("predict", *flags, environment={"CUDA_VISIBLE_DEVICES": ""})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A bare encoder as teacher, and two languages of sentences in which some words are names."""
    folder = tmp_path_factory.mktemp("tasks")
    tiny.model("bert", layers=4).save_pretrained(folder / "teacher")
    tiny.tokenizer().save_pretrained(folder / "teacher")
    for language, seed in (("xx", 0), ("yy", 10)):
        home = folder / language
        home.mkdir()
        for split, count in (("train", 64), ("dev", 16), ("test", 16)):
            seed += 1
            sentences = [sentence.split() for sentence in tiny.sentences(count, seed=seed)]
            lines = ["".join(f"{word}\t{tag_of(word)}\n" for word in words) for words in sentences]
            (home / f"{split}.conll").write_text("\n".join(lines))
            rows = [f"{' '.join(words)}\t{'long' if len(words) > 6 else 'short'}\n" for words in sentences]
            (folder / f"{language}-classes").mkdir(exist_ok=True)
            (folder / f"{language}-classes/{split}.tsv").write_text("".join(rows))
    return folder


def tag_of(word: str) -> str:
    """Of words that the tiny tokenizer leaves whole."""
    return "B-PER" if word in ("cat", "bird", "man", "child") else "B-LOC" if word in ("tree", "mat", "red") else "O"


@pytest.fixture(scope="module")
def tagger(folder):
    """What a recipe for tagging printed, where it wrote, and its file."""
    output = folder / "tagger"
    data = {"task": "tagging", "folders": [f"xx={folder}/xx", f"yy={folder}/yy"]}
    student = {"layers": 2, "hidden_size": 16, "embedding_init": "svd", "projector": True}
    recipe = task_recipe(folder, output, data, student, "encoder", evaluation={"onnx": True})
    return launch("run_recipe.py", recipe), output, recipe


def test_a_bare_encoder_is_fine_tuned_and_distilled_in_seven_stages(tagger):
    printed, output, _ = tagger
    stages = [path.name[:2] for path in sorted((output / "stages").iterdir())]
    assert stages == [f"0{index}" for index in range(1, 8)]
    assert len(list((output / "teacher").iterdir())) == 1
    for heading in ("Fine-tuning of", "Stages of the student", "dev score", "by language", "F1, mean of languages"):
        assert heading in printed
    report = json.loads((output / "report.json").read_text())
    names = [row["name"] for row in report["rows"]]
    assert names == ["teacher", "student, untrained", "student", "student, ONNX", "student, ONNX int8"]
    assert (output / "report.png").stat().st_size > 10_000


def test_the_student_learnt_something_that_the_untrained_one_does_not_know(tagger):
    rows = {row["name"]: row["quality"] for row in json.loads((tagger[1] / "report.json").read_text())["rows"]}
    metric = "F1, mean of languages"
    assert rows["teacher"][metric] > 0.8
    assert rows["student"][metric] > rows["student, untrained"][metric] + 0.3
    assert rows["student, ONNX"][metric] == pytest.approx(rows["student"][metric])


def test_started_again_nothing_is_trained(tagger):
    printed, output, recipe = tagger
    before = {path: path.stat().st_mtime_ns for path in (output / "stages").rglob("*")}
    with (output / "README.md").open("a") as card:
        card.write("By us.\n")
    again = launch("run_recipe.py", recipe)
    assert before == {path: path.stat().st_mtime_ns for path in (output / "stages").rglob("*")}
    assert (output / "README.md").read_text().endswith("By us.\n")
    assert "Stage 7 of 7" in printed
    assert "Stage" not in again.replace("Stages of the student", "")


def test_a_dry_run_shows_the_stages_and_writes_nothing(folder):
    output = folder / "dry"
    data = {"task": "tagging", "folders": str(folder / "xx")}
    student = {"bilstm": {"embedding_size": 8, "lstm_hidden_size": 12}}
    recipe = task_recipe(folder, output, data, student, "layers")
    chunks = [f"stages.{stage}.chunk_rows=40" for stage in ("representations", "logits")]
    printed = launch("run_recipe.py", recipe, *chunks, "--dry_run")
    assert not output.exists()
    for name in ("fine-tuning", "representations-rows-0-40", "logits-layer.0-rows-40-64", "labels-embeddings"):
        assert name in printed


@pytest.mark.promise(9)
def test_a_dry_run_checks_the_stages_after_a_teacher_that_is_not_fine_tuned_yet(folder):
    output = folder / "wrong"
    recipe = task_recipe(folder, output, {"task": "tagging", "folders": str(folder / "xx")}, {"layers": 2})
    with pytest.raises(ValueError, match="The stage 'representations': The layer map '1:9'"):
        run_recipe(read_recipe(recipe, ["stages.representations.layer_map='1:9'"]), dry_run=True)
    with pytest.raises(SystemExit, match="--only logit: the recipe has no such stage"):
        run_recipe(read_recipe(recipe), dry_run=True, only="logit")
    run_recipe(read_recipe(recipe, ["stages.representations.attention_weight=1.0"]), dry_run=True)
    assert not output.exists()


@pytest.mark.promise(5)
def test_the_pipeline_finds_what_run_predict_finds(tagger, folder):
    _, student, _ = tagger
    sentences = [f"{sentence.replace(' the ', ', the-')}." for sentence in tiny.sentences(40, seed=77)]
    (folder / "sentences.txt").write_text("\n".join(sentences) + "\n")
    output = folder / "predicted.jsonl"
    predict(
        "--model",
        student,
        "--input",
        folder / "sentences.txt",
        "--output",
        output,
        "--format",
        "jsonl",
    )
    rows = map(json.loads, output.read_text().splitlines())
    ours = [[[e["type"], e["start"], e["end"]] for e in row["entities"]] for row in rows]
    code = """
import json, sys
from transformers import pipeline
tag = pipeline("token-classification", model=sys.argv[1], aggregation_strategy="first", device="cpu")
found = [tag(line) for line in open(sys.argv[2], encoding="utf-8").read().splitlines()]
json.dump([[(e["entity_group"], e["start"], e["end"]) for e in row] for row in found], open(sys.argv[3], "w"))
"""
    run_without_retort(code, student, folder / "sentences.txt", folder / "theirs.json")
    theirs = json.loads((folder / "theirs.json").read_text())
    assert ours == theirs
    assert sum(map(len, theirs)) > 5


def test_a_classifier_is_distilled_by_a_recipe_with_a_bilstm(folder):
    recipe = {
        "teacher": {
            "model": str(folder / "teacher"),
            "fine_tuning": {"arguments": {"max_steps": 40, "learning_rate": 3e-3}},
        },
        "student": {"bilstm": {"embedding_size": 8, "lstm_hidden_size": 12}},
        "data": {"task": "classification", "folders": [f"xx={folder}/xx-classes", f"yy={folder}/yy-classes"]},
        "arguments": {"learning_rate": 1e-2, "max_steps": 20, "use_cpu": True, "disable_tqdm": True},
        "stages": [
            {"name": "logits", "data": "transfer", "arguments": {"logits_weight": 1.0}},
            {"name": "labels", "arguments": {"label_weight": 1.0}},
        ],
        "output_dir": str(folder / "classifier"),
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    printed = launch("run_recipe.py", folder / "recipe.yaml", "arguments.seed=3")
    assert "accuracy xx" in printed
    assert "macro_f1" in printed
    student = folder / "classifier"
    assert "bilstm.projector.weight" in load_file(student / "model.safetensors")
    assert (student / "modeling_bilstm.py").exists()
    (folder / "texts.txt").write_text("the cat sat\n\nthe dog ran over the old blue house by a river in the wind\n")
    lines = predict("--model", student, "--input", folder / "texts.txt").splitlines()
    assert len(lines) == 3
    assert {lines[0].split("\t")[1], lines[2].split("\t")[1]} <= {"short", "long"}


def test_strategies_are_compared_from_the_same_teacher_over_seeds(tagger, folder):
    recipe = {
        "teacher": str(next((tagger[1] / "teacher").iterdir())),
        "student": {"layers": 2},
        "data": {"task": "tagging", "folders": [f"xx={folder}/xx", f"yy={folder}/yy"]},
        "arguments": {"learning_rate": 5e-3, "per_device_train_batch_size": 16, "use_cpu": True, "disable_tqdm": True},
        "stages": [
            {"name": "features", "data": "transfer", "arguments": {"hidden_weight": 1.0, "layer_map": "last"}},
            {"name": "labels", "arguments": {"label_weight": 1.0}},
        ],
        "output_dir": "unused",
    }
    for stage in recipe["stages"]:
        stage["arguments"] |= {"num_train_epochs": 4, "learning_rate": 5e-3}
    (folder / "strategies.yaml").write_text(yaml.safe_dump(recipe))
    output = folder / "strategies"
    command = [BENCHMARKS / "distillation_strategies.py", folder / "strategies.yaml", "--output_dir", output]
    command += ["--seeds", "0", "1", "--scale", "0.5", "--strategies", "unfreezing", "joint", "labels"]
    printed = launch(*command)
    found = json.loads((output / "strategies.json").read_text())
    batches = 2 * 64 // 16
    steps = {"unfreezing": 2 * 3 * batches, "joint": 2 * 2 * batches, "labels": 2 * 2 * batches}
    assert [(run["strategy"], run["seed"]) for run in found["runs"]] == [(s, seed) for seed in (0, 1) for s in steps]
    assert all(run["steps"] == steps[run["strategy"]] for run in found["runs"])
    assert sorted(path.name for path in (output / "teacher-outputs").iterdir()) == [
        "train+transfer-hidden_weight-label_weight",
        "transfer-hidden_weight",
    ]
    joint = [run["test"]["F1, mean of languages"] for run in found["runs"] if run["strategy"] == "joint"]
    assert " ".join(f"{score:.4f}" for score in joint) in printed
    assert found["teacher"]["F1"] > 0.8


def test_the_sentence_benchmark_takes_the_quickstarts_teacher(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import sentence_distillation

    monkeypatch.setattr(sys, "argv", ["sentence_distillation.py", "--rows", "8"])
    assert (Path(sentence_distillation.parse_options().teacher) / "config.json").exists()


def test_a_recipe_for_classification_takes_pairs(folder):
    for split in ("train", "dev", "test"):
        (folder / "pairs").mkdir(exist_ok=True)
        lines = (folder / "xx-classes" / f"{split}.tsv").read_text().splitlines()
        rows = [
            "\t".join([one.split("\t")[0], other.split("\t")[0], one.split("\t")[1]])
            for one, other in zip(lines, lines[::-1], strict=True)
        ]
        (folder / "pairs" / f"{split}.tsv").write_text("\n".join(rows) + "\n")
    data = {"task": "classification", "folders": str(folder / "pairs"), "pairs": True}
    recipe = task_recipe(folder, folder / "pairwise", data, {"layers": 2}, evaluation={"metric": "mrpc"})
    printed = launch("run_recipe.py", recipe)
    assert "f1, % of teacher" not in printed
    assert "accuracy, % of teacher" in printed
    assert "\nf1 " in printed


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("teacher", "labels", "message"),
    [
        ("teacher", None, r"has no head for tagging, but the labels are O, B-LOC, B-PER.*teacher.fine_tuning"),
        ("finished", ["O", "B-PER", "B-LOC"], r"has a head for O, B-LOC, B-PER, but the labels are O, B-PER, B-LOC"),
    ],
)
def test_a_teacher_of_other_labels_and_no_fine_tuning_is_refused(teacher, labels, message, folder, tagger):
    recipe = {
        "teacher": str({"teacher": folder / "teacher", "finished": tagger[1]}[teacher]),
        "student": {"layers": 2},
        "data": {"task": "tagging", "folders": str(folder / "xx")} | ({"labels": labels} if labels else {}),
        "stages": [{"name": "labels", "arguments": {"label_weight": 1.0}}],
        "output_dir": str(folder / "nothing"),
    }
    (folder / "refused.yaml").write_text(yaml.safe_dump(recipe))
    with pytest.raises(AssertionError, match=message):
        launch("run_recipe.py", folder / "refused.yaml")


def test_a_teacher_that_knows_the_labels_says_in_which_order(folder, tmp_path):
    names = ("B-PER", "O", "B-LOC")
    teacher = tiny.model("bert", "token")
    teacher.config.id2label, teacher.config.label2id = dict(enumerate(names)), {n: i for i, n in enumerate(names)}
    teacher.save_pretrained(tmp_path)
    data = {"task": "tagging", "folders": str(folder / "xx")}
    work = TaskRecipe(Recipe(Teacher(str(tmp_path)), Student(), TaskFiles(**data), (), TaskEvaluation(), "unused"))
    assert work.task.labels == names
    assert not work.needs_fine_tuning


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"stages": [{"name": "a", "epochs": 3}]},
            r"stages\.a\.epochs: there is no such key\. Here are name, arguments",
        ),
        ({"stages": [{"arguments": {}}]}, r"stages\.0\.name is missing"),
        ({"stages": [{"name": "a", "trainer": "Trainer"}]}, r"stages\.a\.trainer: .*no trainer called 'Trainer'"),
        ({"stages": {"name": "a"}}, "stages: expected a list"),
        ({"stages": []}, "stages: a recipe needs at least one stage"),
        ({"studnet": {}}, r"studnet: there is no such key\. Did you mean student\?"),
        ({"teacher": {"fine_tuning": {}}}, "teacher: a teacher needs one of model"),
        ({"assistant": {"student": {}}}, "assistant: an assistant is a trained model .*here are student"),
        ({"stages": [{"name": "a", "teacher": "somebody"}]}, r"stages\.a\.teacher: expected teacher or assistant"),
    ],
)
def test_a_recipe_with_a_slip_in_it_is_refused(change, message, tmp_path):
    plain = {
        "teacher": "x",
        "student": {},
        "data": {"train_files": ["x"]},
        "stages": [{"name": "b"}],
        "output_dir": "y",
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(plain | change))
    with pytest.raises(SystemExit, match=message):
        read_recipe(tmp_path / "recipe.yaml")


@pytest.mark.promise(9)
def test_a_recipe_that_does_not_exist_is_refused_with_the_nearest():
    with pytest.raises(SystemExit, match=r"no recipe quickstrat\. Did you mean quickstart\? .*small_ner.*YAML file"):
        read_recipe("quickstrat")


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_can_be_read_and_every_argument_in_it_exists(path):
    recipe = read_recipe(path)
    stages = [stage for stages in recipe.stages_by_section().values() for stage in stages]
    assert len(stages) >= len(yaml.safe_load(path.read_text())["stages"])
    for stage in stages:
        stage.trainer.arguments_class(output_dir="unused", **{**recipe.arguments, **stage.arguments, "use_cpu": True})


def test_tags_that_are_no_entities_are_scored_word_by_word(folder, tmp_path):
    for split in ("train", "dev"):
        (tmp_path / f"{split}.tsv").write_text("the cat sat\tDET NOUN VERB\na dog ran\tDET NOUN VERB\n")
    data = TaskData(read_task("tagging", folders=str(tmp_path)), tiny.tokenizer(), 16)
    model = with_head(folder / "teacher", data.task)
    judged = data.judge(model, "dev")
    expected = sum(
        prediction.tag == tag
        for words in data.predictor(model)([["the", "cat", "sat"], ["a", "dog", "ran"]])
        for prediction, tag in zip(words, ("DET", "NOUN", "VERB"), strict=True)
    )
    assert judged.quality.scores["accuracy"] == pytest.approx(expected / 6)
    assert data.dev_score(model) == {"score": judged.quality.scores["accuracy"]}


# --- The scripts ------------------------------------------------------------------------------------------------------

SCRIPT = "--max_steps 20 --per_device_train_batch_size 16 --learning_rate 5e-3 --use_cpu True --report_to none".split()


@pytest.fixture(scope="module")
def finished(tagger):
    """The teacher that the recipe for tagging has fine-tuned."""
    return next((tagger[1] / "teacher").iterdir())


def test_run_ner_distils_a_tagger_and_tells_its_score_and_goes_on_where_it_was(finished, folder):
    output = folder / "ner"
    flags = ["--teacher", finished, "--folders", f"xx={folder}/xx", f"yy={folder}/yy", "--layers", 2, *SCRIPT]
    flags += ["--eval_strategy", "steps", "--eval_steps", 10, "--save_steps", 10, "--output_dir", output]
    flags += ["--load_best_model_at_end", "True", "--metric_for_best_model", "F1", "--greater_is_better", "True"]
    printed = launch("run_ner.py", *flags)
    for part in ("loss_logits", "loss_hidden", "loss_label", "eval_F1", "teacher metrics", "student metrics"):
        assert part in printed
    task = read_task("tagging", folders=[f"xx={folder}/xx", f"yy={folder}/yy"])
    student = AutoModelForTokenClassification.from_pretrained(output)
    scores = score_task(student, AutoTokenizer.from_pretrained(output), task)
    assert student.config.num_hidden_layers == 2
    assert list(scores)[:2] == ["F1, mean of languages", "F1"]
    assert scores["F1"] > 0.5
    assert f"student {scores['F1']:.4f}" in (output / "README.md").read_text()
    flags[flags.index("--max_steps") + 1] = 30
    assert f"Resuming from {output}/checkpoint-20" in launch("run_ner.py", *flags)


def test_run_ner_pushes_its_student_with_its_card(finished, folder):
    with LocalHub() as hub:
        flags = ["--teacher", finished, "--train", folder / "xx/train.conll", "--test", folder / "xx/test.conll"]
        flags += ["--layers", 2, "--push_to_hub", "True", "--output_dir", folder / "pushed", *SCRIPT]
        run([sys.executable, EXAMPLES / "run_ner.py", *flags], environment=hub.environment(folder / "home"))
        files = hub.files(f"{USER}/pushed")
    assert "model.safetensors" in files
    assert "F1: teacher" in files["README.md"].decode()


def test_run_ner_is_launched_by_deepspeed_on_two_ranks(finished, folder):
    output = folder / "ner-zero3"
    flags = ["--teacher", finished, "--folders", folder / "xx", "--layers", 2, *SCRIPT, "--output_dir", output]
    run_under_deepspeed(EXAMPLES / "run_ner.py", *flags, "--deepspeed", EXAMPLES / "deepspeed/zero3.json")
    student, tokenizer = AutoModelForTokenClassification.from_pretrained(output), AutoTokenizer.from_pretrained(output)
    scores = score_task(student, tokenizer, read_task("tagging", folders=folder / "xx"))
    assert f"F1: teacher {1:.4f}, student {scores['F1']:.4f}".partition(",")[2] in (output / "README.md").read_text()


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("script", "data", "message"),
    [
        ("run_ner.py", "xx", "has no weights for classifier"),
        (
            "run_classification.py",
            "xx-classes",
            "The model has 3 classes without names, but the task has 2: long, short",
        ),
    ],
)
def test_a_teacher_without_a_head_is_refused(script, data, message, folder):
    """Of as many classes as the task by chance, a head that is missing is found where the teacher is loaded."""
    flags = ["--teacher", folder / "teacher", "--folders", folder / data, "--layers", 2, *SCRIPT]
    flags += ["--output_dir", folder / "refused"]
    with pytest.raises(AssertionError, match=message):
        launch(script, *flags)


@pytest.mark.parametrize("pairs", [False, True])
def test_run_classification_distils_a_classifier(pairs, folder, tmp_path):
    for split in ("train", "dev", "test"):
        rows = [line.split("\t") for line in (folder / f"xx-classes/{split}.tsv").read_text().splitlines()]
        made = [
            [text, *([other] if pairs else []), label]
            for (text, label), (other, _) in zip(rows, rows[::-1], strict=True)
        ]
        (tmp_path / f"{split}.tsv").write_text("".join("\t".join(row) + "\n" for row in made))
    teacher = tiny.model("bert", "sequence", layers=4, labels=2)
    teacher.config.id2label, teacher.config.label2id = {0: "short", 1: "long"}, {"short": 0, "long": 1}
    teacher.save_pretrained(tmp_path / "teacher")
    tiny.tokenizer().save_pretrained(tmp_path / "teacher")
    flags = ["--teacher", tmp_path / "teacher", "--folders", tmp_path, "--layers", 2, "--output_dir", tmp_path / "out"]
    flags += [
        "--logits_weight",
        0,
        "--hidden_weight",
        0,
        "--num_train_epochs",
        25,
        *SCRIPT[2:],
        "--learning_rate",
        3e-3,
    ]
    printed = launch("run_classification.py", *flags, *(["--pairs", "True", "--metric", "mrpc"] if pairs else []))
    assert "train_loss" in printed
    student = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    assert student.config.id2label == {0: "short", 1: "long"}  # the teacher's order, not the alphabet's
    task = read_task("classification", folders=tmp_path, labels=student.config, pairs=pairs)
    scores = score_task(student, tiny.tokenizer(), task, metric="mrpc" if pairs else None)
    assert ("f1" in scores) == pairs
    assert score_task(student, tiny.tokenizer(), task, "train")["accuracy"] > 0.9
    card = (tmp_path / "out/README.md").read_text()
    assert all(f"student {value:.4f}" in card for value in scores.values())
