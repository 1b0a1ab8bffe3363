"""What a run shows while it trains: its header, and a bar that stays whole."""

import re

import pytest
import tiny
from datasets import Dataset

from retort import DistillTrainer, DistillTrainingArguments
from retort.data import tokenize
from retort.trainers.stages import ScoreOnDev

BATCH = {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 2, "max_steps": 6, "logging_steps": 2}


@pytest.fixture(scope="module")
def tokenizer():
    return tiny.tokenizer()


def trained(tokenizer, folder, *, resume=None, collator=None, **settings):
    args = DistillTrainingArguments(
        output_dir=str(folder), report_to=[], use_cpu=True, embedding_weight=1.0, **BATCH | settings
    )
    rows = tokenize(Dataset.from_dict({"text": tiny.sentences(64)}), tokenizer)
    trainer = DistillTrainer(
        tiny.model("bert", layers=1),
        tiny.model("bert"),
        args,
        data_collator=collator,
        train_dataset=rows,
        eval_dataset=rows.select(range(16)),
        processing_class=tokenizer,
        callbacks=[ScoreOnDev(lambda student: {"sts": 0.5})],
    )
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def test_a_run_begins_with_how_it_runs(tokenizer, tmp_path, capsys):
    trained(tokenizer, tmp_path, save_steps=4, bf16=True)
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("Training: "))
    assert re.fullmatch(
        r"Training: device cpu \(\d+ threads?\); precision bfloat16; attention runs; batch 16 rows \(8 x 2 x 1\); "
        r"steps 6",
        line,
    )
    trained(tokenizer, tmp_path, save_steps=4, bf16=True, resume=f"{tmp_path}/checkpoint-4")
    assert "steps 6, from step 4" in capsys.readouterr().out


def test_a_budget_of_tokens_is_told_as_such(tokenizer, tmp_path, capsys):
    trained(tokenizer, tmp_path, tokens_per_batch=100)
    assert "batch 200 tokens (100 x 2 x 1)" in capsys.readouterr().out


def test_means_at_the_end_are_those_of_all_steps(tokenizer, tmp_path):
    """Whatever the log has taken in between."""
    often = trained(tokenizer, tmp_path / "often", logging_steps=1).state.log_history[-1]
    rarely = trained(tokenizer, tmp_path / "rarely", logging_steps=100).state.log_history[-1]
    assert often["train_loss_embedding"] == pytest.approx(rarely["train_loss_embedding"], rel=1e-5)


def test_a_users_collator_says_nothing_of_attention(tokenizer, tmp_path, capsys):
    from retort.collators import DistillationCollator, InputFormat

    trained(tokenizer, tmp_path, collator=DistillationCollator(InputFormat(tokenizer.pad_token_id)))
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("Training: "))
    assert "attention" not in line
    assert "precision float32" in line


def test_losses_are_in_the_bar_and_an_evaluation_is_a_line(tokenizer, tmp_path, capsys):
    trainer = trained(tokenizer, tmp_path, disable_tqdm=False, eval_strategy="steps", eval_steps=4, logging_steps=2)
    out, err = capsys.readouterr()
    assert "{" not in out + err  # no dict of a log
    bars = [line for line in re.split(r"[\r\n]", err) if re.search(r"\| \d/6 ", line)]
    logged = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert len(logged) == 3
    assert re.search(rf"6/6 .*, loss {logged[-1]:.4g}\]", bars[-1])
    lines = [line for line in out.splitlines() if line.startswith("Step 4: ")]
    told = ", ".join(lines)
    last = [line for line in out.splitlines() if line.startswith("Step 6: ")][-1]
    assert last.startswith(f"Step 6: train_loss {trainer.state.log_history[-1]['train_loss']:.4g}")
    assert "eval_loss " in told
    assert "eval_sts 0.5" in told
    assert not re.search(r"epoch|runtime|per_second|learning_rate|grad_norm", told + "".join(bars))


def test_the_bar_of_a_resumed_run_begins_where_the_run_does(tokenizer, tmp_path, capsys):
    trained(tokenizer, tmp_path, disable_tqdm=False, save_steps=4)
    capsys.readouterr()
    trained(tokenizer, tmp_path, disable_tqdm=False, save_steps=4, resume=f"{tmp_path}/checkpoint-4")
    bars = re.findall(r"(\d)/6 \[", capsys.readouterr().err)
    assert bars[0] == "4"
    assert bars[-1] == "6"


def test_several_objectives_are_told_apart():
    from retort.trainers.steps.progress import shown

    one = {"loss": 0.5, "loss_embedding": 0.5, "learning_rate": 1e-3, "epoch": 1.0, "grad_norm": 2.0}
    assert shown(one) == "loss 0.5"
    assert shown(one | {"loss": 1.5, "loss_hidden": 1.0}) == "loss 1.5, loss_embedding 0.5, loss_hidden 1"
    assert shown({"eval_sts": 0.81234, "eval_runtime": 3.0, "epoch": 1.0, "note": "text"}) == "eval_sts 0.8123"
