"""Every family from teacher to exported student: shrunk, distilled, saved, loaded without retort; packed as padded."""

import json
import math

import pytest
import tiny
import torch
from datasets import Dataset
from safetensors.torch import load_file
from without_retort import run_without_retort

from retort import DistillTrainer, shrink, tokenize

PACKING_FAMILIES = ("bert", "roberta", "xlm-roberta", "distilbert", "electra", "modernbert")
WEIGHTS = {"logits_weight": 1.0, "hidden_weight": 1.0, "relation_weight": 1.0, "label_weight": 1.0}
OBJECTIVES = ("logits", "hidden", "relations", "labels")
SENTENCES = tiny.sentences(7, seed=3)

# Loads each folder by the Auto class of its head, and by its tokenizer what the student was shown.
LOAD = """
import json, torch, transformers
from safetensors.torch import load_file, save_file

torch.set_num_threads(1)
transformers.logging.set_verbosity_error()
for folder, auto_class, pipeline in json.loads(sys.argv[1]):
    model, report = getattr(transformers, auto_class).from_pretrained(folder, output_loading_info=True)
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")), (folder, report)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    sentences = json.loads(sys.argv[2])
    encoded = tokenizer(sentences, padding=True, return_tensors="pt", return_token_type_ids=False)
    with torch.no_grad():
        save_file({"logits": model(**encoded).logits}, f"{folder}/outputs.safetensors")
    answer = transformers.pipeline(pipeline, folder)("the cat sat on the [MASK]")
    assert answer and all(0 <= each["score"] <= 1 for each in answer), answer
"""


def labelled(tokenizer, task):
    """Rows with labels of the kind that a head of this task learns from."""
    rows = tokenize(Dataset.from_dict({"text": tiny.sentences(32)}), tokenizer)
    if task == "sequence":
        return rows.map(lambda row: {"labels": row["length"] % 3})
    classes = 3 if task == "token" else tiny.VOCAB_SIZE
    return rows.map(lambda row: {"labels": [-100] + [i % classes for i in row["input_ids"][1:-1]] + [-100]})


def trainer_of(family, task, tokenizer, folder, **changes):
    """A teacher of 4 layers and a student of 2 narrower ones, under every objective that compares tokens."""
    teacher = tiny.model(family, task, layers=4)
    # Not 16: that is the width of ELECTRA's word embeddings, at which it would lose their projection.
    student = shrink(teacher, layers=2, hidden_size=24)
    settings = {
        "per_device_train_batch_size": 32,
        "max_steps": 5,
        "learning_rate": 3e-3,
        "lr_scheduler_type": "constant",
        "save_strategy": "no",
        "relation_heads": 4,
    }
    args = tiny.arguments(folder, **settings | WEIGHTS | changes)
    return DistillTrainer(student, teacher, args, train_dataset=labelled(tokenizer, task), processing_class=tokenizer)


# --- From teacher to exported student -------------------------------------------------------------------------------

RUNS = [(family, "token") for family in tiny.FAMILIES] + [("mpnet", "sequence"), ("deberta-v2", "sequence")]
RUNS += [("bert", "masked_lm"), ("modernbert", "masked_lm")]
PIPELINES = {"token": "token-classification", "sequence": "text-classification", "masked_lm": "fill-mask"}


@pytest.fixture(scope="module")
def runs(tokenizer, tmp_path_factory):
    """(family, task) -> the log of a run, the student's logits at its end, and those of the exported folder."""
    folder = tmp_path_factory.mktemp("families")
    encoded = tokenizer(SENTENCES, padding=True, return_tensors="pt", return_token_type_ids=False)
    seen, exported = {}, []
    for family, task in RUNS:
        trainer = trainer_of(family, task, tokenizer, folder / f"{family}-{task}")
        before = {name: tensor.clone() for name, tensor in trainer.student.state_dict().items()}
        trainer.train()
        trainer.save_model()
        student = trainer.student.eval()
        with torch.no_grad():
            logits = student(**encoded).logits
        changed = [name for name, tensor in student.state_dict().items() if not torch.equal(tensor, before[name])]
        log = [entry for entry in trainer.state.log_history if "loss" in entry]
        seen[family, task] = {"log": log, "changed": changed, "logits": logits, "config": student.config}
        exported.append((trainer.args.output_dir, tiny.AUTO_CLASSES[task].__name__, PIPELINES[task]))
    run_without_retort(LOAD, json.dumps(exported), json.dumps(SENTENCES))
    for run, (output_dir, *_) in zip(RUNS, exported, strict=True):
        seen[run]["loaded"] = load_file(f"{output_dir}/outputs.safetensors")["logits"]
    return seen


@pytest.mark.parametrize(("family", "task"), RUNS)
def test_all_objectives_together_teach_a_shallower_and_narrower_student(runs, family, task):
    run = runs[family, task]
    assert (run["config"].num_hidden_layers, run["config"].hidden_size) == (2, 24)
    assert len(run["log"]) == 5
    first, last = run["log"][0], run["log"][-1]
    assert all(math.isfinite(entry[f"loss_{name}"]) for entry in run["log"] for name in OBJECTIVES)
    assert last["loss"] < first["loss"]
    assert len(run["changed"]) > 10
    assert torch.isfinite(run["logits"]).all()


@pytest.mark.promise(5)
@pytest.mark.parametrize(("family", "task"), RUNS)
def test_the_exported_student_gives_equal_outputs_where_retort_is_not_installed(runs, family, task):
    run = runs[family, task]
    assert torch.equal(run["loaded"], run["logits"])


# --- Packed and padded ------------------------------------------------------------------------------------------------


def loss_and_gradients(family, task, tokenizer, folder, **changes):
    """Of one batch of 16 rows, with the gradients of student and heads by name."""
    trainer = trainer_of(family, task, tokenizer, folder, embedding_weight=1.0, similarity_weight=1.0, **changes)
    batch = trainer.data_collator([trainer.train_dataset[i] for i in range(16)])
    batches, counts = trainer.get_batch_samples(iter([batch]), 1, torch.device("cpu"))
    loss = trainer.compute_loss(trainer.model, batches[0], num_items_in_batch=counts)
    loss.backward()
    gradients = {name: p.grad for name, p in trainer.model.named_parameters() if p.grad is not None}
    return trainer.data_collator.student.packed, loss.item(), gradients


@pytest.mark.promise(4)
@pytest.mark.parametrize("task", ["token", "masked_lm"])
@pytest.mark.parametrize("family", PACKING_FAMILIES)
def test_a_packed_batch_has_the_loss_and_the_gradients_of_a_padded_one(family, task, tokenizer, tmp_path):
    packed, loss, gradients = loss_and_gradients(family, task, tokenizer, tmp_path)
    padded, padded_loss, padded_gradients = loss_and_gradients(
        family, task, tokenizer, tmp_path, attention_backend="padded"
    )
    assert (packed, padded) == (True, False)
    assert loss == pytest.approx(padded_loss, rel=1e-5)
    assert gradients.keys() == padded_gradients.keys()
    assert any(name.startswith("objectives.") for name in gradients)
    largest = max(gradient.abs().max() for gradient in padded_gradients.values())
    for name, gradient in gradients.items():
        torch.testing.assert_close(
            gradient, padded_gradients[name], rtol=1e-4, atol=1e-5 * largest, msg=f"{name}: another gradient"
        )
