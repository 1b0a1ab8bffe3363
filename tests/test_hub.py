"""Pushed to a Hub and loaded from there, by people who don't have retort."""

import json
import os
import sys
import urllib.request

import pytest
import tiny
import torch
from hub_server import USER, LocalHub, Repository
from processes import run
from safetensors.torch import load_file
from without_retort import run_without_retort

from retort import shrink
from retort.data import write_text
from retort.trainers.saving import CardFacts, Size, render_card, save_sentence_transformer

REPOSITORY = f"{USER}/student"
SENTENCES = tiny.sentences(9, seed=2)

PUSH = """
from huggingface_hub import HfApi
name, folder = sys.argv[1:]
HfApi().create_repo(name)
HfApi().upload_folder(repo_id=name, folder_path=folder)
"""

# Loads the model by its id, and runs the example of its card.
USE = """
import json, re, torch
from huggingface_hub import ModelCard, snapshot_download
from safetensors.torch import save_file
from sentence_transformers import SentenceTransformer
from transformers import AutoModel, AutoTokenizer

name, sentences, results = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3]
encoded = AutoTokenizer.from_pretrained(name)(sentences, padding=True, return_tensors="pt")
with torch.no_grad():
    states = AutoModel.from_pretrained(name).eval()(**encoded).last_hidden_state
example = re.search("```python\\n(.*?)```", ModelCard.load(name).text, re.DOTALL)[1]
exec(example)
save_file({
    "states": states,
    "embeddings": torch.tensor(SentenceTransformer(name).encode(sentences)),
    "example": torch.tensor(embeddings),
}, results)
"""


@pytest.fixture
def hub():
    """A Hub without any model."""
    with LocalHub() as server:
        yield server


@pytest.fixture
def student(tokenizer, tmp_path):
    """A folder with a sentence student and its card."""
    folder = tmp_path / "student"
    tiny.model("bert", layers=3).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    save_sentence_transformer(
        folder, tiny.surrounding(pooler="mean", max_length=32, normalize=True, projector=torch.nn.Linear(32, 6))
    )
    facts = CardFacts(
        name="student",
        load_as=REPOSITORY,
        architecture="A BERT encoder of 3 layers",
        pipeline_tag="sentence-similarity",
        teachers=("sentence-transformers/all-MiniLM-L6-v2",),
        base_models=("sentence-transformers/all-MiniLM-L6-v2",),
        objectives={"cosine distance of embeddings": 1.0},
        data={"sentences": 9},
        size=Size(100_000, 0.4),
        sentence_transformer=True,
        license="apache-2.0",
    )
    write_text(folder / "README.md", render_card(facts))
    return folder


def push(folder, hub: LocalHub, home) -> None:
    run_without_retort(PUSH, REPOSITORY, folder, environment=hub.environment(home))


@pytest.mark.promise(5)
def test_a_pushed_student_gives_equal_outputs_to_people_without_retort(hub: LocalHub, student, tokenizer, tmp_path):
    push(student, hub, tmp_path / "mine")
    results = tmp_path / "results.safetensors"
    sentences = json.dumps(SENTENCES)
    run_without_retort(USE, REPOSITORY, sentences, results, environment=hub.environment(tmp_path / "theirs"))

    encoded = tokenizer(SENTENCES, padding=True, return_tensors="pt")
    with torch.no_grad():
        states = tiny.model("bert", layers=3)(**encoded).last_hidden_state
    seen = load_file(results)
    torch.testing.assert_close(seen["states"], states)
    mask = encoded["attention_mask"][..., None]
    pooled = (states * mask).sum(1) / mask.sum(1)
    dense = load_file(student / "2_Dense" / "model.safetensors")
    expected = torch.nn.functional.normalize(pooled @ dense["linear.weight"].T + dense["linear.bias"])
    torch.testing.assert_close(seen["embeddings"], expected, atol=1e-5, rtol=1e-4)
    assert seen["example"].shape == (2, 6)


@pytest.mark.promise(7)
def test_what_is_pushed_holds_the_folder_and_no_pickle(hub, student, tmp_path):
    push(student, hub, tmp_path)
    pushed = hub.files(REPOSITORY)
    del pushed[".gitattributes"]
    assert pushed == {str(p.relative_to(student)): p.read_bytes() for p in student.rglob("*") if p.is_file()}
    assert {os.path.splitext(name)[1] for name in pushed} == {".json", ".md", ".safetensors"}


def test_a_teacher_on_the_hub_is_read_like_one_in_a_folder(hub, student, tmp_path):
    push(student, hub, tmp_path / "mine")
    plain = f"{USER}/plain"
    pushed = hub.repositories[REPOSITORY]
    hub.repositories[plain] = Repository(dict(pushed.commits), pushed.head)
    hub.repositories[plain].commit({"modules.json": None, "README.md": None})
    code = """
import sys
from retort.trainers.saving.license import teacher_license
from retort.modeling.encoding import read_sentence_modules
student, plain = sys.argv[1:]
read = read_sentence_modules(student)
assert (str(read.pooling), read.normalizes, read.max_length) == ("mean", True, 32), read
assert read.head[0].linear.out_features == 6, read
assert teacher_license(student) == {"license": "apache-2.0"}
assert read_sentence_modules(plain) is None
assert teacher_license(plain) == {}
"""
    environment = hub.environment(tmp_path / "theirs")
    run([sys.executable, "-c", code, REPOSITORY, plain], environment)


# Pushes a recurrent student, whose code goes with it, and the stock model that computes the same.
PUSH_RECURRENT = """
import sys
from transformers import AutoModel, AutoTokenizer
from retort import expand
folder, name = sys.argv[1:]
student = AutoModel.from_pretrained(folder)
for model, repository in ((student, name), (expand(student), f"{name}-stock")):
    model.push_to_hub(repository)
    AutoTokenizer.from_pretrained(folder).push_to_hub(repository)
"""

USE_RECURRENT = """
import json
from safetensors.torch import save_file
from sentence_transformers import SentenceTransformer

name, sentences, results = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3]
by_code = SentenceTransformer(name, trust_remote_code=True, device="cpu")
assert type(by_code[0].auto_model).__module__.startswith("transformers_modules"), type(by_code[0].auto_model)
stock = SentenceTransformer(f"{name}-stock", device="cpu")
made = {"recurrent": by_code, "stock": stock}
save_file({kind: model.encode(sentences, convert_to_tensor=True) for kind, model in made.items()}, results)
"""


@pytest.mark.promise(5)
def test_a_recurrent_student_is_pushed_with_its_code_and_its_twin_needs_none(hub, tokenizer, tmp_path):
    student = shrink(tiny.model("bert", layers=4), layers=2, recurrent_steps=2, embedding_size=8)
    student.save_pretrained(tmp_path / "student")
    tokenizer.save_pretrained(tmp_path / "student")
    name = f"{USER}/recurrent"
    mine, theirs = (hub.environment(tmp_path / who) for who in ("mine", "theirs"))
    run([sys.executable, "-c", PUSH_RECURRENT, tmp_path / "student", name], mine)
    assert {"modeling_recurrent_bert.py", "configuration_recurrent_bert.py"} <= hub.files(name).keys()
    assert not [file for file in hub.files(f"{name}-stock") if file.endswith(".py")]
    results = tmp_path / "results.safetensors"
    modules = {"HF_MODULES_CACHE": str(tmp_path / "modules")}
    run_without_retort(USE_RECURRENT, name, json.dumps(SENTENCES), results, environment=theirs | modules)
    seen = load_file(results)
    encoded = tokenizer(SENTENCES, padding=True, return_tensors="pt")
    with torch.no_grad():
        states = student(**encoded).last_hidden_state
    mask = encoded["attention_mask"][..., None]
    for embeddings in seen.values():
        torch.testing.assert_close(embeddings, (states * mask).sum(1) / mask.sum(1), atol=1e-5, rtol=1e-5)


# --- The stand-in itself: it must refuse what the Hub refuses ---------------------------------------------------------


def test_the_local_hub_refuses_writes_without_the_token(hub, student, tmp_path):
    environment = hub.environment(tmp_path) | {"HF_TOKEN": "hf_another"}
    with pytest.raises(AssertionError, match="401"):
        run_without_retort(PUSH, REPOSITORY, student, environment=environment)
    assert hub.repositories == {}


def test_the_local_hub_refuses_a_card_whose_base_model_is_a_folder(hub, student, tmp_path):
    card = (student / "README.md").read_text()
    write_text(student / "README.md", card.replace("- sentence-transformers/all", "- /home/me/models/all", 1))
    with pytest.raises(AssertionError, match="base_model"):
        push(student, hub, tmp_path)


def test_the_local_hub_serves_parts_of_files(hub, student, tmp_path):
    push(student, hub, tmp_path)
    url = f"{hub.url}/{REPOSITORY}/resolve/main/model.safetensors"
    with urllib.request.urlopen(urllib.request.Request(url, headers={"Range": "bytes=10-"})) as answer:
        assert answer.status == 206
        assert answer.read() == (student / "model.safetensors").read_bytes()[10:]
