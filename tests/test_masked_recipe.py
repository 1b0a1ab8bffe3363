"""A recipe for masked language models as a user starts it: a teacher from nothing, a student with its own words."""

import importlib
import json
import sys

import pytest
import test_examples
import tiny
import yaml
from datasets import Dataset
from scripts import run_script
from test_examples import EXAMPLES, RECIPES, weights
from transformers import AutoTokenizer, pipeline

from retort import VocabReducedMLMTrainer, VocabReducedMLMTrainingArguments
from retort.data import tokenize_spans
from retort.evaluation.tasks import MaskedModel
from retort.recipes import read_recipe
from retort.recipes.masked import MaskedRecipe

folder = test_examples.folder


@pytest.fixture(scope="module")
def recipe(folder):
    """The recipe of the project in small."""
    tiny.tokenizer().save_pretrained(folder / "tokenizer")
    for name, seed, count in (("train", 3, 80), ("dev", 4, 12), ("test", 5, 12)):
        (folder / f"{name}.txt").write_text("\n".join(tiny.sentences(count, seed=seed)))
    recipe = yaml.safe_load((RECIPES / "small_vocab.yaml").read_text())
    recipe["teacher"]["new"] = {"tokenizer": str(folder / "tokenizer"), "layers": 3, "hidden_size": 32}
    recipe["student"] |= {"tokenizer": {"vocab_size": 72}, "layers": 2, "hidden_size": 16, "intermediate_size": 32}
    recipe["student"]["num_attention_heads"] = 1
    del recipe["data"]["corpus"]
    recipe["data"] |= {"train_files": [str(folder / "train.txt"), str(folder / "test.txt")], "max_length": 64}
    recipe["evaluation"] = {f"{name}_files": [str(folder / f"{name}.txt")] for name in ("dev", "test")}
    recipe["arguments"] |= {"bf16": False, "per_device_train_batch_size": 16, "eval_strategy": "epoch", "use_cpu": True}
    for stage in (*recipe["teacher"]["stages"], *recipe["stages"]):
        stage["arguments"]["num_train_epochs"] = 1
    recipe["output_dir"] = str(folder / "masked")
    return recipe


def written(recipe, folder, **changes):
    path = folder / "masked.yaml"
    path.write_text(yaml.safe_dump(recipe | changes))
    return path


@pytest.mark.promise(5)
def test_a_teacher_is_trained_from_nothing_and_distilled_into_another_vocabulary(recipe, folder, run_recipe):
    path = written(recipe, folder)
    printed = run_recipe(path, "--dry_run")
    assert "Stages of the teacher" in printed
    assert "Stages of the student" in printed
    assert not list((folder / "masked").glob("*/*/stage.json"))
    printed = run_script(EXAMPLES / "run_recipe.py", path)
    for part in ("Stage 1 of 1: pretraining", "Stage 1 of 1: distillation", "bits per hidden character", "fill-mask"):
        assert part in printed
    output = folder / "masked"
    assert "eval_bits_per_character" in (next(output.glob("stages/*/stage.json"))).read_text()
    report = json.loads((output / "report.json").read_text())
    rows = {row["name"]: row["quality"] for row in report["rows"]}
    assert list(rows) == ["BERT of 30,522 tokens", "student, untrained", "student"]
    for row in rows.values():
        assert row["probability of a hidden character"] == pytest.approx(2 ** -row["bits per hidden character"])
    student = AutoTokenizer.from_pretrained(output)
    assert len(student) <= 72 < len(tiny.tokenizer())
    assert pipeline("fill-mask", model=str(output), device="cpu")(f"the cat {student.mask_token}")[0]["score"] > 0
    # What is judged by is never learnt from, even where a train file holds it.
    train, dev, test = ({*tiny.sentences(count, seed=seed)} for count, seed in ((80, 3), (12, 4), (12, 5)))
    assert f"{len(train - dev - test)} texts, {len(student)} of" in printed
    before = weights(output)
    assert run_recipe(path).count("finished") == 2
    assert all((before[name] == value).all() for name, value in weights(output).items())


def test_frozen_words_do_not_learn(recipe, folder):
    student = recipe["student"] | {"freeze_embeddings": True}
    path = written(recipe, folder, student=student)
    work = MaskedRecipe(read_recipe(path))
    run = work.staged_run(work.new_teacher())
    words = run.student.get_input_embeddings().weight.numel()
    assert run.plan[0].parameters - run.plan[0].trainable == words


def test_what_guesses_cost_is_what_the_trainer_says(tmp_path):
    tokenizer, texts = tiny.tokenizer(), Dataset.from_dict({"text": tiny.sentences(150, seed=6)})
    model = tiny.model("bert", task="masked_lm")
    args = VocabReducedMLMTrainingArguments(
        str(tmp_path), mlm_weight=1, vocabulary_weight=0, whole_words=True, use_cpu=True, report_to=[]
    )
    rows = tokenize_spans(texts, tokenizer, max_length=64)
    trainer = VocabReducedMLMTrainer(model, None, args, eval_dataset=rows, processing_class=tokenizer)
    cost = MaskedModel(model, tokenizer, 64).bits_per_character(texts)
    assert cost == pytest.approx(trainer.evaluate()["eval_bits_per_character"], rel=1e-5)


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"evaluation": {"sts_test": "x"}}, r"evaluation\.sts_test: there is no such key.*dev_files, test_files"),
        ({"data": {"task": "masked_lm"}}, "data: there is no training data: set train_files"),
        ({"data": {"task": "tagging", "folders": "x"}, "evaluation": {}}, "teacher: only masked language models"),
        ({"assistant": {"model": "x"}}, "assistant: only recipes for sentence embeddings support an assistant"),
        ({"teacher": {"new": {"tokenizer": "x"}}}, "teacher: a new teacher needs a name, and stages"),
        (
            {"teacher": {"new": {"layers": 2}, "name": "x", "stages": []}},
            r"teacher\.new\.tokenizer is missing: expected a text",
        ),
        (
            {"teacher": {"new": {"tokenizer": "x", "depth": 2}, "name": "x", "stages": []}},
            r"teacher\.new\.depth: there is no such key",
        ),
        (
            {"stages": [{"name": "a", "data": "transfer", "trainer": "VocabReducedMLMTrainer"}]},
            r"stages\.a\.data: a stage for masked language models has data: train, but not transfer",
        ),
    ],
)
def test_recipes_that_contradict_themselves_are_refused(changes, message, recipe, folder, run_recipe):
    with pytest.raises(SystemExit, match=message):
        run_recipe(written(recipe, folder, **changes))


@pytest.fixture
def run_recipe(monkeypatch, capsys):
    """Runs a recipe in this process; returns what it printed."""

    def run(path, *flags):
        monkeypatch.syspath_prepend(EXAMPLES)
        monkeypatch.setattr(sys, "argv", ["run_recipe", str(path), *flags])
        importlib.import_module("run_recipe").main()
        return capsys.readouterr().out

    return run
