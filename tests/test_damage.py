"""Files that were deleted, cut or changed after they were written: a checkpoint's, a finished stage's, a cache's."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import staged
import tiny
import torch
from datasets import Dataset
from safetensors.torch import load_file

from retort import CKDTrainer, CKDTrainingArguments, DistillationCollator, Stage, tokenize
from retort.collators import InputFormat
from retort.modeling.encoding import OutputRequest
from retort.trainers.saving import DamagedFilesError, check_checkpoint
from retort.trainers.saving.checkpoints import MANIFEST_FILE
from retort.trainers.teachers import LiveTeacher, cache_teacher, open_cache

pytestmark = pytest.mark.promise(9)


def damages(path: Path) -> Iterator[str]:
    """Damage a file in twelve ways, one after the other, and mend it again."""
    content = path.read_bytes()
    path.unlink()
    yield "deleted"
    path.write_bytes(content[: len(content) // 2])
    yield "cut"
    for place in range(10):
        position = place * (len(content) - 1) // 9
        path.write_bytes(content[:position] + bytes([content[position] ^ (1 << place % 8)]) + content[position + 1 :])
        yield f"flipped at {position}"
    path.write_bytes(content)


def refusal(call: Callable[[], object]) -> str:
    """What the error says that a call raises; nothing if it raises none."""
    try:
        call()
    except (ValueError, FileNotFoundError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


# --- Checkpoints ------------------------------------------------------------------------------------------------------


def ckd(folder: Path, **settings) -> CKDTrainer:
    """With a queue and a head: all that a checkpoint can hold."""
    rows = tokenize(Dataset.from_dict({"text": tiny.sentences(32)}), tiny.tokenizer())
    settings = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2, "learn_temperature": True} | settings
    args = tiny.arguments(folder, CKDTrainingArguments, **settings)
    student, teacher = tiny.model(seed=1, hidden=16), tiny.model()
    return CKDTrainer(student, teacher, args, train_dataset=rows, processing_class=tiny.tokenizer())


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """An output folder with the checkpoints 2 and 4."""
    folder = tmp_path_factory.mktemp("trained")
    ckd(folder).train()
    return folder


@pytest.fixture
def checkpoints(trained, tmp_path) -> Path:
    """A copy of it, to be damaged."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


def test_every_damage_to_every_file_of_a_checkpoint_is_named_and_so_is_the_checkpoint_before(checkpoints):
    trainer, last = ckd(checkpoints), checkpoints / "checkpoint-4"
    names = {path.name for path in files_of(last)}
    state = {"heads.safetensors", "queue.safetensors", "trainer_state.json"}
    assert names >= {"model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", MANIFEST_FILE} | state
    for path in files_of(last):
        for damage in damages(path):
            said = refusal(lambda: trainer.train(resume_from_checkpoint=True))
            expected = (
                "DamagedFilesError",
                str(last),
                path.name,
                f"checkpoint before it, {checkpoints}/checkpoint-2",
            )
            assert all(told in said for told in expected), (path.name, damage, said)
    check_checkpoint(last)  # mended


def test_damage_to_the_only_checkpoint_says_that_there_is_none_before_it(checkpoints):
    shutil.rmtree(checkpoints / "checkpoint-2")
    (checkpoints / "checkpoint-4" / "optimizer.pt").unlink()
    with pytest.raises(DamagedFilesError, match=r"optimizer\.pt is missing.*there is no earlier checkpoint"):
        ckd(checkpoints).train(resume_from_checkpoint=True)


def test_the_checkpoint_that_the_error_names_is_resumed_from(checkpoints, trained):
    (checkpoints / "checkpoint-4" / "optimizer.pt").unlink()
    resumed = ckd(checkpoints)
    resumed.train(resume_from_checkpoint=str(checkpoints / "checkpoint-2"))
    expected = load_file(trained / "checkpoint-4" / "model.safetensors")
    assert all(torch.equal(tensor, expected[name]) for name, tensor in resumed.student.state_dict().items())


def test_a_checkpoint_without_a_manifest_is_refused_with_the_way_out(checkpoints):
    for path in checkpoints.rglob(MANIFEST_FILE):
        path.unlink()
    with pytest.raises(DamagedFilesError, match=r"no checkpoint\.json.*early version of retort.*from_pretrained"):
        ckd(checkpoints).train(resume_from_checkpoint=True)


def test_checkpoints_to_be_read_alone_are_not_resumed_from(tmp_path):
    ckd(tmp_path, save_only_model=True).train()
    said = r"checkpoint-4 was written without rng_state\.pth, optimizer\.pt, scheduler\.pt, .*save_only_model=True"
    with pytest.raises(ValueError, match=said):
        ckd(tmp_path).train(resume_from_checkpoint=True)


def test_the_best_checkpoint_is_looked_at_before_it_is_loaded(checkpoints):
    trainer = ckd(checkpoints)
    path = checkpoints / "checkpoint-2" / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    trainer.state.best_model_checkpoint = str(checkpoints / "checkpoint-2")
    with pytest.raises(DamagedFilesError, match=r"checkpoint-2 is damaged: model\.safetensors"):
        trainer._load_best_model()


def test_a_folder_that_is_not_there_is_no_checkpoint(tmp_path):
    with pytest.raises(ValueError, match=r"There is no checkpoint .*checkpoint-9 to resume from"):
        ckd(tmp_path).train(resume_from_checkpoint=str(tmp_path / "checkpoint-9"))


# --- Finished stages --------------------------------------------------------------------------------------------------

STAGES = [
    Stage("logits", {"logits_weight": 1.0, "max_steps": 2}, data="transfer"),
    Stage("labels", {"label_weight": 1.0}),
]


def test_every_damage_to_every_file_of_a_finished_stage_is_named(tmp_path):
    run = staged.staged_run(tmp_path, STAGES)
    first, _ = run.run()
    last_weights = (run.plan[-1].folder / "model.safetensors").read_bytes()
    for path in files_of(first.folder):
        for damage in damages(path):
            if (path.name, damage) == ("stage.json", "deleted"):
                continue  # then it isn't finished: see below
            said = refusal(run.run)
            expected = ("DamagedFilesError", str(first.folder), path.name, "Remove this folder and run again")
            assert all(told in said for told in expected), (path.name, damage, said)
    # As the error says; and a stage without its result is run anew, to the same weights.
    weights = (first.folder / "model.safetensors").read_bytes()
    shutil.rmtree(first.folder)
    run.run()
    assert (first.folder / "model.safetensors").read_bytes() == weights
    assert (run.plan[-1].folder / "model.safetensors").read_bytes() == last_weights


# --- Caches -----------------------------------------------------------------------------------------------------------

REQUEST = OutputRequest(logits=True, hidden_states=frozenset({2}), pooler="mean")


def write_cache(folder: Path, seed: int = 0) -> tuple[Dataset, Dataset]:
    """Rows, and their cached outputs in two shards."""
    tokenizer = tiny.tokenizer()
    rows = tokenize(Dataset.from_dict({"text": tiny.sentences(16)}), tokenizer)
    teacher = LiveTeacher([tiny.model("bert", "token", seed=seed)], REQUEST)
    collator = DistillationCollator(InputFormat.of(teacher.models[0], tokenizer))
    return rows, cache_teacher(teacher, rows, folder, collator=collator, batch_size=8, rows_per_shard=8)


def test_every_damage_to_every_file_of_a_cache_is_named(tmp_path):
    rows, _ = write_cache(tmp_path)
    for path in files_of(tmp_path):
        for damage in damages(path):
            said = refusal(lambda: open_cache(tmp_path, REQUEST, rows))
            assert path.name in said, (path.name, damage, said)
    open_cache(tmp_path, REQUEST, rows)  # mended


def test_shards_of_another_teacher_are_not_used_when_their_manifest_is_lost(tmp_path):
    write_cache(tmp_path, seed=0)
    (tmp_path / "cache.json").unlink()
    with pytest.raises(ValueError, match=r"lost its cache\.json, and shard-00000\.json was made from another teacher"):
        write_cache(tmp_path, seed=1)
    assert not (tmp_path / "cache.json").exists()
    rows, cached = write_cache(tmp_path, seed=0)  # the same again: nothing is wrong with them
    assert len(cached) == len(rows)


def test_a_manifest_of_another_cache_is_not_taken_for_the_shards_own(tmp_path):
    for seed in (0, 1):
        rows, _ = write_cache(tmp_path / str(seed), seed)
    shutil.copy(tmp_path / "1" / "cache.json", tmp_path / "0" / "cache.json")
    with pytest.raises(ValueError, match=r"cache\.json and shard-00000\.json don't belong together"):
        open_cache(tmp_path / "0", REQUEST, rows)
