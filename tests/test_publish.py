"""What a run publishes, what it unpickles (nothing), whom it calls (nobody), and which student it ends with."""

import json
import os
import re
import sys
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.error import URLError

import pytest
import tiny
import torch
from datasets import Dataset
from hub_server import USER, LocalHub
from huggingface_hub import HfApi
from processes import run
from ranks import run_on_ranks
from safetensors.torch import load_file, save_file
from test_hub import USE
from transformers import TrainerCallback
from without_retort import run_without_retort

from retort import DistillTrainer, shrink, tokenize
from retort.data import read_texts
from retort.modeling.encoding import OutputRequest, encode
from retort.trainers.saving import MANIFEST_FILE, describe_files, read_sealed, write_sealed

SENTENCES = tiny.sentences(9, seed=2)
TEACHER, AT_THE_END, WHILE_TRAINING = f"{USER}/teacher", f"{USER}/at-the-end", f"{USER}/while-training"
UNNAMED = f"{USER}/run-without-a-name"


def arguments(folder, **settings):
    return tiny.arguments(folder, **{"max_steps": 4, "save_steps": 2, "learning_rate": 1e-2} | settings)


def sentence_trainer(folder, teacher, **settings):
    """A narrower sentence student with a projector."""
    tokenizer = tiny.tokenizer()
    return DistillTrainer(
        shrink(tiny.model("bert", layers=4), layers=2, hidden_size=24),
        teacher,
        arguments(folder, embedding_weight=1.0, hidden_weight=0.5, **settings),
        train_dataset=tokenize(Dataset.from_dict({"text": tiny.sentences(32)}), tokenizer),
        processing_class=tokenizer,
    )


def run_in_a_process(function: str, folder: Path, environment: dict[str, str]) -> None:
    """Call a function of this module where the environment is in force before anything is imported."""
    code = f"import sys; sys.path.insert(0, sys.argv[1]); import test_publish; test_publish.{function}(sys.argv[2])"
    run([sys.executable, "-c", code, Path(__file__).parent, folder], environment)


# --- Pushed, and loaded without retort --------------------------------------------------------------------------------


def publish(folder: str) -> None:
    """Run by a process that takes the local server for the Hub: a teacher, and three students of it."""
    folder = Path(folder)
    tiny.model("bert", layers=4).save_pretrained(folder / "teacher")
    tiny.tokenizer().save_pretrained(folder / "teacher")
    (folder / "teacher" / "README.md").write_text("---\nlicense: mit\n---\n")
    HfApi().create_repo(TEACHER)
    HfApi().upload_folder(repo_id=TEACHER, folder_path=folder / "teacher")

    ended = sentence_trainer(folder / "end", TEACHER, push_to_hub=True, hub_model_id=AT_THE_END, keep_projector=True)
    ended.train()
    ended.create_model_card(results="| model | score |\n|---|---|\n| student | 0.5 |", measured="On nothing at all.")
    ended.push_to_hub(tags="of-a-push")
    outputs(ended, folder / "end.safetensors")

    settings = {"hub_strategy": "every_save", "hub_always_push": True}
    saved = sentence_trainer(folder / "saves", TEACHER, push_to_hub=True, hub_model_id=WHILE_TRAINING, **settings)
    saved.train()
    outputs(saved, folder / "saves.safetensors")

    unnamed = sentence_trainer(folder / UNNAMED.split("/")[1], TEACHER, push_to_hub=True, max_steps=1)
    unnamed.train()
    unnamed.save_model()
    outputs(unnamed, folder / "unnamed.safetensors")


def outputs(trainer, file) -> None:
    """What the student in this process makes of the sentences."""
    encoded = trainer.processing_class(SENTENCES, padding=True, return_tensors="pt", return_token_type_ids=False)
    student = trainer.student.eval()
    with torch.no_grad():
        states = student(**encoded).last_hidden_state
    rows = trainer.processing_class(SENTENCES)["input_ids"]
    batch = trainer.data_collator([{"input_ids": ids} for ids in rows])
    with torch.inference_mode():
        output = encode(student, batch.student, batch.layout, OutputRequest(pooler="mean"))
    embeddings = output.embedding[batch.order.argsort()]
    if trainer.args.keep_projector:
        embeddings = trainer.model.projector(embeddings)
    embeddings = torch.nn.functional.normalize(embeddings).detach().contiguous()
    save_file({"states": states, "embeddings": embeddings}, file)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """The Hub, and the folder in which the students were trained."""
    folder = tmp_path_factory.mktemp("published")
    with LocalHub() as hub:
        run_in_a_process("publish", folder, hub.environment(folder / "mine"))
        loads = ";".join(
            f"sys.argv[1:] = {[name, json.dumps(SENTENCES), str(folder / file)]!r}; exec(USE)"
            for name, file in ((AT_THE_END, "theirs-0"), (WHILE_TRAINING, "theirs-1"), (UNNAMED, "theirs-2"))
        )
        run_without_retort(f"USE = {USE!r}\n{loads}", environment=hub.environment(folder / "theirs"))
        yield hub, folder


@pytest.mark.promise(5)
@pytest.mark.parametrize(("mine", "theirs"), [("end", 0), ("saves", 1), ("unnamed", 2)])
def test_a_pushed_student_gives_equal_outputs_to_people_without_retort(mine, theirs, published):
    _, folder = published
    expected, seen = load_file(folder / f"{mine}.safetensors"), load_file(folder / f"theirs-{theirs}")
    torch.testing.assert_close(seen["states"], expected["states"], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(seen["embeddings"], expected["embeddings"], rtol=1e-4, atol=1e-5)
    # What the card's own example gave: embeddings of two sentences, of the teacher's width if the projector was kept.
    assert seen["example"].shape == (2, 32 if mine == "end" else 24)


@pytest.mark.promise(7)
@pytest.mark.parametrize("name", [AT_THE_END, WHILE_TRAINING, UNNAMED])
def test_no_pickle_and_nothing_of_the_trainers_own_is_pushed(name, published):
    hub, _ = published
    pushed = set(hub.files(name)) - {".gitattributes"}
    assert {os.path.splitext(file)[1] for file in pushed} == {".json", ".md", ".safetensors"}
    assert {"model.safetensors", "config.json", "tokenizer.json", "modules.json", "README.md"} <= pushed
    assert not any("heads" in file or "trainer_state" in file or "checkpoint" in file for file in pushed)


def test_every_save_is_a_commit_of_a_whole_student(published):
    hub, folder = published
    commits = [files for files in hub.repositories[WHILE_TRAINING].commits.values() if "model.safetensors" in files]
    assert len(commits) == 2
    for step, files in zip((2, 4), commits, strict=True):
        saved = folder / "saves" / f"checkpoint-{step}"
        assert files["model.safetensors"].content == (saved / "model.safetensors").read_bytes()
        assert "1_Pooling/config.json" in files


def test_the_pushed_card_tells_what_the_student_is_made_of_and_how_good_it_is(published):
    hub, folder = published
    card = hub.files(AT_THE_END)["README.md"].decode()
    files = [folder / "end/model.safetensors", *(folder / "end").glob("[0-9]_*/model.safetensors")]
    size = sum(tensor.numel() for file in files for tensor in load_file(file).values())
    assert len(files) == 2  # the encoder and the projector
    header, text = card.removeprefix("---\n").split("\n---\n", 1)
    assert "license: mit" in header
    assert re.search(rf"base_model:\n- {TEACHER}", header)
    assert "library_name: sentence-transformers" in header
    assert "- of-a-push" in header
    for fact in (
        f"distilled from [{TEACHER}](https://huggingface.co/{TEACHER})",
        f'SentenceTransformer("{AT_THE_END}")',
        "| student | 0.5 |",
        "On nothing at all.",
        "Embeddings: 32 numbers, pooled by mean.",
        "| distance of pooled embeddings | 1.0 |",
        "| distance of hidden states | 0.5 |",
        "| training rows | 32 |",
        f"| this model | {size:,} |",
        "The teacher's, as its model card names it: mit",
        "- `learning_rate`: `0.01`",
    ):
        assert fact in text, fact
    assert str(folder) not in card


def test_a_run_without_a_name_is_pushed_and_described_by_its_folders_name(published):
    hub, folder = published
    card = hub.files(UNNAMED)["README.md"].decode()
    assert f'SentenceTransformer("{UNNAMED}")' in card
    assert str(folder) not in card


class Release(TrainerCallback):
    """Lets the uploads go on after a step."""

    def __init__(self, step, event):
        self.step, self.event = step, event

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            self.event.set()


def test_a_checkpoint_is_not_deleted_while_it_is_uploaded(tmp_path, monkeypatch):
    network, uploads = threading.Event(), []

    def upload(folder_path, **_):
        network.wait(60)
        return sorted(os.listdir(folder_path))

    class SlowHub:
        def upload_folder(self, **arguments):
            uploads.append(pool.submit(upload, **arguments))
            return uploads[-1]

    monkeypatch.setattr("retort.trainers.student_trainer.HfApi", SlowHub)
    monkeypatch.setattr(DistillTrainer, "init_hf_repo", lambda self: setattr(self, "push_in_progress", None))
    with ThreadPoolExecutor(1) as pool:
        settings = {"push_to_hub": True, "hub_strategy": "every_save", "hub_always_push": True, "save_total_limit": 1}
        trainer = sentence_trainer(tmp_path, tiny.model("bert", layers=4), max_steps=8, **settings)
        trainer.add_callback(Release(7, network))
        trainer.train()
        # Training ends when all uploads have.
        assert [upload.done() for upload in uploads] == [True] * 4
    for upload in uploads:
        assert "model.safetensors" in upload.result()


# --- Nothing is unpickled, nobody is called ---------------------------------------------------------------------------


def whole_run(folder: str) -> None:
    """A run from a text file to a student, resumed, cached and evaluated, in a process that notes what Python is up to.

    Unpickling anything but plain values looks a class up, and Python says so to audit hooks, as it does of connections.
    """
    folder = Path(folder)
    unpickled, called = [], []

    def note(event, details):
        if event == "pickle.find_class":
            unpickled.append(f"{details[0]}.{details[1]}")
        if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
            called.append(str(details))
            raise ConnectionRefusedError(f"no network here: {event} {details}")

    sys.addaudithook(note)
    tokenizer = tiny.tokenizer()
    teacher = tiny.model("bert", layers=4)
    teacher.save_pretrained(folder / "teacher")
    tokenizer.save_pretrained(folder / "teacher")
    (folder / "text.txt").write_text("\n".join(tiny.sentences(40)))
    data = tokenize(read_texts([str(folder / "text.txt")]), tokenizer).train_test_split(8, seed=0)
    for resume in (False, True):
        trainer = DistillTrainer(
            shrink(folder / "teacher", layers=2, hidden_size=24),
            folder / "teacher",
            arguments(
                folder / "run",
                max_steps=6 if resume else 4,
                embedding_weight=1.0,
                hidden_weight=1.0,
                teacher_cache=str(folder / "cache"),
                eval_strategy="steps",
                eval_steps=2,
                load_best_model_at_end=resume,
            ),
            train_dataset=data["train"],
            eval_dataset=data["test"],
            processing_class=tokenizer,
        )
        trainer.train(resume_from_checkpoint=resume or None)
    trainer.evaluate()
    trainer.save_model()
    trainer.create_model_card()
    seen = {"unpickled": unpickled.copy(), "called": called.copy()}
    # That the hook would have noticed:
    torch.load(folder / "run" / "checkpoint-6" / "optimizer.pt", weights_only=False)
    try:
        urllib.request.urlopen("http://127.0.0.1:9")
    except URLError:
        seen["would notice"] = [len(unpickled) > len(seen["unpickled"]), len(called) > len(seen["called"])]
    (folder / "seen.json").write_text(json.dumps(seen))


def check_whole_run(folder):
    seen = json.loads((folder / "seen.json").read_text())
    assert seen == {"unpickled": [], "called": [], "would notice": [True, True]}
    assert (folder / "run" / "model.safetensors").exists()


@pytest.mark.promise(7)
@pytest.mark.promise(8)
def test_a_run_offline_unpickles_nothing_and_calls_nobody(tmp_path):
    assert run_on_ranks(whole_run, 1, folder=str(tmp_path)) == [0]
    check_whole_run(tmp_path)


@pytest.mark.promise(8)
def test_a_run_calls_nobody_though_it_might(tmp_path):
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_OFFLINE")}
    run_in_a_process("whole_run", tmp_path, environment | {"HF_HOME": str(tmp_path / "home")})
    check_whole_run(tmp_path)


class Payload:
    """What it does when it is unpickled, it must never do."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return os.mkdir, (str(self.file),)


@pytest.mark.promise(7)
@pytest.mark.parametrize("file", ["optimizer.pt", "scheduler.pt", "rng_state.pth"])
def test_a_pickle_in_a_checkpoint_is_refused_and_not_run(file, tmp_path):
    sentence_trainer(tmp_path / "run", tiny.model("bert", layers=4), max_steps=2).train()
    checkpoint = tmp_path / "run" / "checkpoint-2"
    torch.save({"state": Payload(tmp_path / "harm")}, checkpoint / file)
    # Whoever writes a payload writes its checksum, too.
    files = [path for path in checkpoint.rglob("*") if path.is_file() and path.name != MANIFEST_FILE]
    sealed = read_sealed(checkpoint / MANIFEST_FILE)
    write_sealed(checkpoint / MANIFEST_FILE, {**sealed, "files": describe_files(files, folder=checkpoint)})
    trainer = sentence_trainer(tmp_path / "run", tiny.model("bert", layers=4))
    with pytest.raises(Exception, match=r"(?i)weights.only"):
        trainer.train(resume_from_checkpoint=True)
    assert not (tmp_path / "harm").exists()


@pytest.mark.promise(7)
def test_a_pickle_in_a_teachers_folder_is_refused_and_not_run(tmp_path):
    teacher = tiny.model("bert", layers=4)
    teacher.config.save_pretrained(tmp_path / "teacher")
    torch.save(teacher.state_dict() | {"x": Payload(tmp_path / "harm")}, tmp_path / "teacher" / "pytorch_model.bin")
    with pytest.raises(Exception, match=r"(?i)weights.only"):
        sentence_trainer(tmp_path / "run", tmp_path / "teacher")
    assert not (tmp_path / "harm").exists()
    torch.save(teacher.state_dict(), tmp_path / "teacher" / "pytorch_model.bin")
    sentence_trainer(tmp_path / "run", tmp_path / "teacher")


# --- The student that a run ends with ---------------------------------------------------------------------------------


class Spoil(TrainerCallback):
    """Makes a student of noise of what the fifth step made."""

    def on_step_end(self, args, state, control, model=None, **kwargs):
        if state.global_step == 5:
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.normal_()


class LastWeight(TrainerCallback):
    """Keeps what the last step made of the classifier."""

    def on_step_end(self, args, state, control, model=None, **kwargs):
        self.weight = model.student.classifier.weight.detach().clone()


@pytest.mark.promise(6)
@pytest.mark.parametrize("save_only_model", [False, True])
def test_the_best_student_on_the_development_set_comes_back_with_its_heads(save_only_model, tmp_path):
    tokenizer = tiny.tokenizer()
    train, dev = (tokenize(Dataset.from_dict({"text": tiny.sentences(32, seed=seed)}), tokenizer) for seed in (0, 1))
    dev_scores = iter([0.2, 0.9, 0.5, 0.1])
    trainer = DistillTrainer(
        shrink(tiny.model("bert", "token", layers=4), layers=2, hidden_size=24),
        tiny.model("bert", "token", layers=4),
        arguments(
            tmp_path / "run",
            max_steps=8,
            embedding_weight=1.0,
            logits_weight=1.0,
            label_weight=1.0,
            keep_projector=True,
            eval_strategy="steps",
            eval_steps=2,
            save_total_limit=1,
            load_best_model_at_end=True,
            metric_for_best_model="f1",
            save_only_model=save_only_model,
        ),
        train_dataset=train.map(lambda row: {"labels": [1] * row["length"]}),
        eval_dataset=dev.map(lambda row: {"labels": [1] * row["length"]}),
        processing_class=tokenizer,
        compute_metrics=lambda prediction: {"f1": next(dev_scores)},
        callbacks=[last := LastWeight()],
    )
    trainer.train()
    best = Path(trainer.state.best_model_checkpoint)
    assert (best.name, trainer.state.best_metric) == ("checkpoint-4", 0.9)
    state = trainer.student.state_dict()
    saved = load_file(best / "model.safetensors")
    assert all(torch.equal(state[name], tensor) for name, tensor in saved.items())
    assert not torch.equal(last.weight, saved["classifier.weight"])
    # The exported student and the projector beside it are of the same step.
    trainer.save_model()
    for file in ("model.safetensors", "2_Dense/model.safetensors"):
        exported, kept = load_file(tmp_path / "run" / file), load_file(best / file)
        assert exported.keys() == kept.keys()
        assert all(torch.equal(exported[name], tensor) for name, tensor in kept.items()), file


@pytest.mark.promise(6)
def test_by_default_the_best_student_is_the_one_nearest_to_its_teacher_on_the_development_set(tmp_path):
    tokenizer = tiny.tokenizer()
    train, dev = (tokenize(Dataset.from_dict({"text": tiny.sentences(32, seed=seed)}), tokenizer) for seed in (0, 1))
    trainer = DistillTrainer(
        shrink(tiny.model("bert", layers=4), layers=2, hidden_size=24),
        tiny.model("bert", layers=4),
        arguments(
            tmp_path,
            embedding_weight=1.0,
            max_steps=8,
            eval_strategy="steps",
            eval_steps=2,
            load_best_model_at_end=True,
        ),
        train_dataset=train,
        eval_dataset=dev,
        processing_class=tokenizer,
        callbacks=[Spoil()],
    )
    trainer.train()
    losses = {entry["step"]: entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry}
    assert min(losses, key=losses.get) == 4
    assert trainer.state.best_model_checkpoint.endswith("checkpoint-4")
    assert trainer.evaluate()["eval_loss"] == pytest.approx(losses[4], rel=1e-6)
