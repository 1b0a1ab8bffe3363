"""Bad input and full disks: an error with a way out, never a wrong number, and nothing half-written.

Bad text files are in test_readers, bad rows in test_tokenization and test_collators, teachers without weights, sdpa,
two tokenizers and two widths in test_distill_trainer, damaged and stale caches in test_cache.
"""

import importlib
import re

import pytest
import tiny
import torch
from datasets import Dataset
from safetensors.torch import load_file, save_file
from test_storage import WRITE_FAILED, contents, disk_that_fills_up
from transformers import TrainerCallback, TrainingArguments

from retort import DistillTrainer, SentenceEncoder, shrink, tokenize
from retort.modeling import load_finished

# torch.save writes small files when it closes them, and then has other words for it.
DISK_IS_FULL = f"{WRITE_FAILED}|iostream error"


@pytest.fixture(scope="module")
def rows(tokenizer):
    return tokenize(Dataset.from_dict({"text": tiny.sentences(16)}), tokenizer)


def arguments(folder, **settings):
    defaults = {"max_steps": 6, "save_steps": 2, "save_total_limit": 1, "learning_rate": 1e-2}
    return tiny.arguments(folder / "run", **defaults | settings)


# --- What does not fit is refused before the first step ---------------------------------------------------------------


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("teacher", "student", "weight", "message"),
    [
        ("encoder", "encoder", "logits_weight", "the student is a BertModel and this model a BertModel"),
        ("encoder", "token", "logits_weight", "the student is a BertForTokenClassification and this model a BertModel"),
        ("sequence", "token", "logits_weight", "this model a BertForSequenceClassification. Load both with the same"),
        ("token", "encoder", "label_weight", "label_weight need a task head on the student"),
    ],
)
def test_logits_of_models_without_the_same_kind_of_head_are_refused(teacher, student, weight, message, rows, tmp_path):
    with pytest.raises(ValueError, match=message):
        DistillTrainer(
            tiny.model("bert", student),
            tiny.model("bert", teacher, layers=4),
            arguments(tmp_path, **{weight: 1.0}),
            train_dataset=rows,
        )


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("task", "classes", "labels", "message"),
    [
        ("sequence", 3, lambda row: 3, r"has the classes 0 to 2, but the labels are 3 to 3"),
        ("sequence", 3, lambda row: -1, r"the labels are -1 to -1"),
        ("sequence", 3, lambda row: -100, r"the labels are none"),
        ("sequence", 3, lambda row: 0.5, r"type double, but the head of BertForSequenceClassification has 3 outputs"),
        ("sequence", 1, lambda row: 1, r"type int64, but .* has 1 outputs.*one output .num_labels=1. needs floats"),
        ("sequence", 3, lambda row: [1] * row["length"], r"one label for each token .* learns one for each row"),
        (
            "sequence",
            3,
            lambda row: "cat",
            r"labels must be class ids, 0 to 2 for this .*, but there is 'cat' .string.",
        ),
        ("token", 3, lambda row: ["O"] * row["length"], r"labels must be class ids, .* is 'O' .string.*label2id"),
        ("sequence", 3, lambda row: None, r"row 0 has a label that is None\. Where there is no label, write -100"),
        ("sequence", 3, lambda row: None if row["length"] < 9 else 1, r"row \d+ has a label that is None"),
        (
            "sequence",
            1,
            lambda row: float("nan") if row["length"] < 9 else 1.0,
            r"row \d+ has a label that is nan\. Leave the row out",
        ),
        ("token", 3, lambda row: [0] * (row["length"] - 1) + [None], r"row 0 has a label that is None"),
        (
            "token",
            3,
            lambda row: None if row["length"] < 9 else [0] * row["length"],
            r"row \d+ has a label that is None",
        ),
        ("token", 3, lambda row: 1, r"one label for each row .* learns one for each token"),
        ("token", 3, lambda row: [-100, 4] + [0] * (row["length"] - 2), r"the labels are 0 to 4"),
        ("token", 3, lambda row: [-100] * row["length"], r"the labels are none"),
        ("masked_lm", 3, lambda row: [tiny.VOCAB_SIZE] * row["length"], r"the classes 0 to 159"),
    ],
)
def test_labels_that_the_head_can_not_learn_are_refused(task, classes, labels, message, rows, tokenizer, tmp_path):
    teacher = tiny.model("bert", task, layers=4, labels=classes)
    data = rows.map(lambda row: {"labels": labels(row)})
    with pytest.raises(ValueError, match=message):
        DistillTrainer(
            shrink(teacher, layers=2),
            teacher,
            arguments(tmp_path, label_weight=1.0),
            train_dataset=data,
            processing_class=tokenizer,
        )


@pytest.mark.promise(9)
def test_labels_that_are_missing_are_an_error(rows, tokenizer, tmp_path):
    teacher = tiny.model("bert", "token", layers=4)
    args = arguments(tmp_path, label_weight=1.0)
    with pytest.raises(ValueError, match="no 'labels' column"):
        DistillTrainer(shrink(teacher, layers=2), teacher, args, train_dataset=rows, processing_class=tokenizer)


@pytest.fixture
def folder(tmp_path):
    """A teacher's folder."""
    tiny.model("bert", "token", layers=4).save_pretrained(tmp_path / "teacher")
    return tmp_path / "teacher"


def git_lfs_pointer(path):
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:ab12\nsize 100\n")


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("model.safetensors", lambda path: path.write_bytes(path.read_bytes()[:-100])),
        ("model.safetensors", lambda path: path.write_bytes(b"")),
        ("model.safetensors", git_lfs_pointer),
        ("config.json", lambda path: path.write_text(path.read_text()[:-9])),
        ("config.json", lambda path: path.write_text("{}")),
        ("config.json", lambda path: path.unlink()),
    ],
)
def test_a_teacher_whose_files_are_damaged_is_an_error_that_names_the_folder(file, damage, folder, tmp_path):
    damage(folder / file)
    student = tiny.model("bert", "token")
    with pytest.raises((ValueError, FileNotFoundError), match=re.escape(f"The teacher's folder {folder}")):
        DistillTrainer(student, folder, arguments(tmp_path, logits_weight=1.0))


@pytest.mark.promise(9)
def test_a_damaged_list_of_modules_is_an_error_that_names_the_file(folder):
    (folder / "modules.json").write_text('[{"idx": 0')
    with pytest.raises(ValueError, match=re.escape(f"{folder}: modules.json is damaged (")):
        SentenceEncoder.from_pretrained(folder)


@pytest.mark.promise(9)
def test_a_model_whose_weights_are_incomplete_is_not_completed_at_random(folder, tokenizer):
    tokenizer.save_pretrained(folder)
    weights = load_file(folder / "model.safetensors")
    del weights["bert.encoder.layer.1.output.dense.bias"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    refused = r"lacks 1 weights that its configuration asks for, which .*: \S*encoder.layer.1.output.dense.bias"
    with pytest.raises(ValueError, match=refused):
        SentenceEncoder.from_pretrained(folder, pooler="mean")
    with pytest.raises(ValueError, match=refused):
        load_finished(folder)


@pytest.mark.promise(9)
@pytest.mark.parametrize("name", ["/no/such/folder", "somebody/no-such-teacher"])
def test_a_teacher_that_is_not_there_is_an_error_that_names_it(name, tmp_path):
    with pytest.raises(OSError, match=f"The teacher {name} is not a folder"):
        DistillTrainer(tiny.model("bert", "token"), name, arguments(tmp_path, logits_weight=1.0))


@pytest.mark.promise(9)
def test_teachers_that_can_not_be_averaged_are_refused(tmp_path):
    teachers = [tiny.model("bert", "token", layers=layers) for layers in (3, 4)]
    with pytest.raises(ValueError, match="must agree in depth, width, heads, labels and vocabulary"):
        DistillTrainer(tiny.model("bert", "token"), teachers, arguments(tmp_path, logits_weight=1.0))


@pytest.mark.promise(9)
def test_a_teachers_folder_is_not_written_to(rows, tokenizer, tmp_path):
    student, teacher = tiny.model("bert", "token"), tiny.model("bert", "token", layers=4)
    teacher.save_pretrained(tmp_path / "run")
    args = arguments(tmp_path, logits_weight=1.0)
    loaded = type(teacher).from_pretrained(tmp_path / "run")
    teacher.save_pretrained(tmp_path / "run" / "checkpoint-1")
    for source in (tmp_path / "run", str(tmp_path / "run"), loaded, tmp_path / "run" / "checkpoint-1"):
        with pytest.raises(ValueError, match=r"the teacher is .*, whose files the student's would replace"):
            DistillTrainer(student, source, args, train_dataset=rows, processing_class=tokenizer)


@pytest.mark.promise(9)
def test_what_is_left_out_is_asked_for(rows, tokenizer, tmp_path):
    student, teacher = tiny.model("bert", "token"), tiny.model("bert", "token", layers=4)
    args = arguments(tmp_path, logits_weight=1.0)
    with pytest.raises(ValueError, match=r"No teacher for logits: pass .* teacher_cache"):
        DistillTrainer(student, None, args, processing_class=tokenizer)
    with pytest.raises(ValueError, match="Pass the student's tokenizer as processing_class"):
        DistillTrainer(student, teacher, args, train_dataset=rows)
    with pytest.raises(TypeError, match=r"must be DistillTrainingArguments.* got TrainingArguments"):
        DistillTrainer(student, teacher, TrainingArguments(str(tmp_path), use_cpu=True), processing_class=tokenizer)
    trainer = DistillTrainer(
        student, teacher, args, train_dataset=rows, data_collator=lambda rows: {"input_ids": torch.ones(2, 3).long()}
    )
    with pytest.raises(ValueError, match="returned input_ids, but no attention_mask"):
        trainer.train()


@pytest.mark.promise(9)
def test_a_checkpoint_that_is_not_there_or_of_other_objectives_is_refused(rows, tokenizer, tmp_path):
    def trainer(**weights):
        teacher = tiny.model("bert", "token", layers=4)
        args = arguments(tmp_path, max_steps=2, **weights)
        return DistillTrainer(
            shrink(teacher, layers=2, hidden_size=24), teacher, args, train_dataset=rows, processing_class=tokenizer
        )

    with pytest.raises(ValueError, match="holds no complete checkpoint to resume from"):
        trainer(logits_weight=1.0).train(resume_from_checkpoint=True)
    trainer(logits_weight=1.0).train()
    with pytest.raises(ValueError, match=r"run is the output_dir of a run, .* last checkpoint, \S*run.checkpoint-2\."):
        trainer(logits_weight=1.0).train(resume_from_checkpoint=str(tmp_path / "run"))
    with pytest.raises(
        ValueError, match=r"resume_from_checkpoint='True' is text\. In Python, pass True without quotes"
    ):
        trainer(logits_weight=1.0).train(resume_from_checkpoint="True")
    with pytest.raises(
        ValueError, match=r"from a run with other settings: logits_weight=0.0 \(was 1.0\), hidden_weight=1.0 "
    ):
        trainer(hidden_weight=1.0).train(resume_from_checkpoint=True)
    refused = r"has no heads.safetensors.*objectives.hidden.projectors.0.*other objectives"
    with pytest.raises(FileNotFoundError, match=refused):
        trainer(hidden_weight=1.0).load_heads(tmp_path / "run" / "checkpoint-2")


@pytest.mark.promise(9)
def test_a_run_with_other_settings_rows_or_layers_does_not_resume(rows, tokenizer, tmp_path):
    def trained(layers=2, data=rows, resume=True, **settings):
        teacher = tiny.model("bert", "token", layers=4)
        args = arguments(tmp_path, **{"max_steps": 2, "logits_weight": 1.0} | settings)
        student = shrink(teacher, layers=layers)
        trainer = DistillTrainer(student, teacher, args, train_dataset=data, processing_class=tokenizer)
        trainer.train(resume_from_checkpoint=resume)
        return trainer.state.global_step

    trained(resume=False)
    for change, message in (
        ({"learning_rate": 0.5}, r"other settings: learning_rate=0.5 \(was 0.01\)\. Resume with the same settings"),
        ({"data": rows.select(range(15, -1, -1))}, r"train_dataset=16 rows \(\w{8}\) \(was 16 rows \(\w{8}\)\)"),
        ({"data": rows.add_column("labels", [[1]] * 16)}, "train_dataset=16 rows"),
        ({"per_device_train_batch_size": 4}, r"rows_per_step=4 \(was 8\)"),
        ({"tokens_per_batch": 64}, "tokens_per_step=64 .was None., rows_per_step=None"),
        ({"layers": 3}, r"student=BertForTokenClassification with \d+ weights \(was"),
    ):
        with pytest.raises(ValueError, match=message):
            trained(**change)
    # What changes no step may change, and a run may be made longer.
    assert trained(max_steps=4, logging_steps=1, save_total_limit=2, load_best_model_at_end=False) == 4


# --- A disk that fills up ---------------------------------------------------------------------------------------------


def sentence_trainer(folder, rows, tokenizer, *callbacks):
    """A run whose checkpoints hold all that there can be, heads and modules of sentence-transformers among it."""
    teacher = tiny.model("bert", layers=4)
    weights = {"embedding_weight": 1.0, "hidden_weight": 1.0, "keep_projector": True}
    return DistillTrainer(
        shrink(teacher, layers=2, hidden_size=24),
        teacher,
        arguments(folder, **weights),
        train_dataset=rows,
        processing_class=tokenizer,
        callbacks=list(callbacks),
    )


# The files of a checkpoint, in the order in which they are written, and who writes them.
WRITERS = {
    "model.safetensors": "transformers.modeling_utils.safe_save_file",
    "tokenizer.json": "transformers.PreTrainedTokenizerFast.save_pretrained",
    "2_Dense/model.safetensors": "retort.modeling.encoding.sentence_files.save_file",
    "README.md": "retort.trainers.student_trainer.write_text",
    "optimizer.pt": "torch.save",
    "scheduler.pt": "torch.save",
    "rng_state.pth": "torch.save",
    "trainer_state.json": "transformers.trainer_callback.TrainerState.save_to_json",
    "heads.safetensors": "retort.trainers.student_trainer.save_file",
    "settings.json": "retort.trainers.saving.settings.write_json",
    "checkpoint.json": "retort.trainers.saving.manifest.write_json",
}


def fill_disk_at(file, monkeypatch):
    """Let the disk take 100 bytes more once `file` is being written. The kernel refuses the rest, whoever writes."""
    owner, _, name = WRITERS[file].rpartition(".")
    try:
        owner = importlib.import_module(owner)
    except ModuleNotFoundError:
        module, _, cls = owner.rpartition(".")
        owner = getattr(importlib.import_module(module), cls)
    original = getattr(owner, name)

    def write(*arguments, **named):
        paths = [str(each) for each in (*arguments, *named.values())]
        if name == "save_pretrained" or any(path.endswith(file) for path in paths):
            with disk_that_fills_up(after=100):
                return original(*arguments, **named)
        return original(*arguments, **named)

    monkeypatch.setattr(owner, name, write)


class FillDisk(TrainerCallback):
    """Fills the disk when the second checkpoint is written, and remembers what was there."""

    def __init__(self, file, monkeypatch, folder):
        self.file, self.monkeypatch, self.folder = file, monkeypatch, folder

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 4:
            self.before = contents(self.folder)
            fill_disk_at(self.file, self.monkeypatch)


def weights(trainer):
    return torch.cat([p.detach().flatten() for p in trainer.model.parameters()])


@pytest.fixture(scope="module")
def whole(rows, tokenizer, tmp_path_factory):
    """The weights of a run that nothing happened to."""
    trainer = sentence_trainer(tmp_path_factory.mktemp("whole"), rows, tokenizer)
    trainer.train()
    files = contents(tmp_path_factory.getbasetemp() / "whole0" / "run" / "checkpoint-6")
    return weights(trainer), files


def test_the_files_at_which_the_disk_fills_up_are_all_that_hold_more_than_a_few_settings(whole):
    small = {"modules.json", "config.json", "tokenizer_config.json"}
    assert {name for name in whole[1] if name.split("/")[-1] not in small and "sentence" not in name} == set(WRITERS)


@pytest.mark.promise(9)
@pytest.mark.promise(2)
@pytest.mark.parametrize("file", WRITERS)
def test_a_disk_that_fills_up_leaves_the_former_checkpoint_and_the_run_resumes(
    file, whole, rows, tokenizer, tmp_path, monkeypatch
):
    with monkeypatch.context() as patches:
        full = FillDisk(file, patches, tmp_path / "run")
        with pytest.raises(Exception, match=DISK_IS_FULL):
            sentence_trainer(tmp_path, rows, tokenizer, full).train()
    assert any(name.startswith("checkpoint-2/") for name in full.before)
    assert contents(tmp_path / "run") == full.before
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["checkpoint-2"]
    resumed = sentence_trainer(tmp_path, rows, tokenizer)
    resumed.train(resume_from_checkpoint=True)
    assert torch.equal(weights(resumed), whole[0])


@pytest.mark.promise(9)
@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json", "2_Dense/model.safetensors", "README.md"])
def test_a_disk_that_fills_up_leaves_the_former_student(file, rows, tokenizer, tmp_path, monkeypatch):
    trainer = sentence_trainer(tmp_path, rows, tokenizer)
    trainer.save_model()
    before = contents(tmp_path)
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter.zero_()
    with monkeypatch.context() as patches:
        fill_disk_at(file, patches)
        with pytest.raises(Exception, match=DISK_IS_FULL):
            trainer.save_model()
    assert contents(tmp_path) == before
    trainer.save_model()
    assert contents(tmp_path).keys() == before.keys()
    assert contents(tmp_path) != before


@pytest.mark.promise(9)
def test_a_disk_that_fills_up_while_the_teacher_is_cached_leaves_no_half_of_a_shard(rows, tokenizer, tmp_path):
    teacher = tiny.model("bert", layers=4)
    settings = {"embedding_weight": 1.0, "hidden_weight": 1.0, "teacher_cache": str(tmp_path / "cache")}

    def trainer():
        args = arguments(tmp_path, **settings)
        return DistillTrainer(shrink(teacher, layers=2), teacher, args, train_dataset=rows, processing_class=tokenizer)

    with disk_that_fills_up(after=2000), pytest.raises(OSError, match=DISK_IS_FULL):
        trainer()
    assert contents(tmp_path / "cache").keys() == {"train/cache.json"}
    trainer()
    names = ("cache.json", "shard-00000.arrow", "shard-00000.json")
    assert contents(tmp_path / "cache").keys() == {f"train/{name}" for name in names}
