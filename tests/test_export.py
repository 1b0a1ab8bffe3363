"""An exported student is a stock folder: equal outputs where retort can't be imported."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import tiny
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoModel, BertModel, PreTrainedModel
from without_retort import run_without_retort

from retort.data import write_json
from retort.modeling.encoding import POOLERS, read_sentence_modules
from retort.trainers.saving import save_sentence_transformer

MAX_LENGTH = 9
SENTENCES = [*tiny.sentences(11, seed=3), "the cat " * 20]
FAMILIES_WITH_POOLER = ("bert", "roberta", "xlm-roberta", "mpnet")

# Loads every folder in each way that people load one, and writes down what comes out.
CONSUMER = """
import json, torch
from safetensors.torch import save_file
from sentence_transformers import SentenceTransformer
from transformers import AutoModel, AutoTokenizer, pipeline

torch.set_num_threads(1)
job = json.loads(sys.argv[1])
sentences, tensors, facts = job["sentences"], {}, {}
for name, folder in job["encoders"].items():
    model, report = AutoModel.from_pretrained(folder, output_loading_info=True)
    encoded = AutoTokenizer.from_pretrained(folder)(sentences, padding=True, truncation=True, return_tensors="pt")
    lengths = encoded["attention_mask"].sum(1)
    with torch.no_grad():
        states = model.eval()(**encoded).last_hidden_state
    tensors[f"{name}/AutoModel"] = torch.cat([row[:length] for row, length in zip(states, lengths)])
    extract = pipeline("feature-extraction", model=folder, tokenize_kwargs={"truncation": True})
    states = [torch.tensor(output[0]) for output in extract(sentences, batch_size=4)]
    tensors[f"{name}/pipeline"] = torch.cat([row[:length] for row, length in zip(states, lengths)])
    encoder = SentenceTransformer(folder, device="cpu")
    tensors[f"{name}/SentenceTransformer"] = torch.tensor(encoder.encode(sentences, batch_size=5))
    encoder.save(folder + "-resaved", create_model_card=False)
    facts[name] = {
        "missing": sorted(report["missing_keys"]),
        "max_seq_length": encoder.max_seq_length,
        "dimension": encoder.get_embedding_dimension(),
        "similarity": encoder.similarity_fn_name,
    }
for task, (folder, options) in job["pipelines"].items():
    facts[task] = pipeline(task, model=folder)(sentences, **options)
save_file(tensors, job["results"])
print(json.dumps(facts, default=float))
"""


@dataclass
class Exported:
    """A student's folder, and what must come out of it."""

    folder: Path
    token_vectors: Tensor
    embeddings: Tensor


def save(model: PreTrainedModel, tokenizer, folder: Path) -> Path:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def hidden_states_by_hand(model, tokenizer) -> list[tuple[list[Tensor], Tensor | None]]:
    """Hidden states and pooler output, one sentence at a time: no padding, no mask that could be forgotten."""
    results = []
    for sentence in SENTENCES:
        encoded = tokenizer(sentence, truncation=True, max_length=MAX_LENGTH, return_tensors="pt")
        with torch.no_grad():
            output = model(**encoded, output_hidden_states=True)
        pooled = output.get("pooler_output")
        results.append(([state[0].double() for state in output.hidden_states], None if pooled is None else pooled[0]))
    return results


def pool_by_hand(pooler: str, states: list[Tensor], pooler_output: Tensor | None) -> Tensor:
    if pooler == "cls":
        return pooler_output.double()
    if pooler == "cls_before_pooler":
        return states[-1][0]
    if pooler == "last_token":
        return states[-1][-1]
    if pooler == "max":
        return states[-1].amax(0)
    if pooler == "mean_first":
        return states[0].mean(0)
    other = {"mean": states[-1], "mean_last_two": states[-2], "mean_first_last": states[0]}[pooler]
    return ((states[-1] + other) / 2).mean(0)


def export(
    folder: Path, tokenizer, *, family="bert", pooler="mean", normalize=True, dim: int | None = None
) -> Exported:
    model = tiny.model(family, layers=3)
    save(model, tokenizer, folder)
    torch.manual_seed(5)
    projector = nn.Linear(32, dim) if dim else None
    save_sentence_transformer(
        folder, tiny.surrounding(pooler=pooler, max_length=MAX_LENGTH, normalize=normalize, projector=projector)
    )
    rows = hidden_states_by_hand(model, tokenizer)
    embeddings = torch.stack([pool_by_hand(pooler, *row) for row in rows])
    if projector is not None:
        embeddings = (embeddings @ projector.weight.double().T + projector.bias.double()).detach()
    if normalize:
        embeddings = embeddings / embeddings.norm(dim=1, keepdim=True)
    return Exported(folder, torch.cat([states[-1] for states, _ in rows]), embeddings)


@pytest.fixture(scope="module")
def students(tokenizer, tmp_path_factory) -> dict[str, Exported]:
    folder = tmp_path_factory.mktemp("students")
    made = {family: export(folder / family, tokenizer, family=family) for family in tiny.FAMILIES}
    for family in FAMILIES_WITH_POOLER[1:]:
        made[f"{family}-cls"] = export(folder / f"{family}-cls", tokenizer, family=family, pooler="cls")
    for pooler in POOLERS:
        made[pooler] = export(folder / pooler, tokenizer, pooler=pooler, normalize=False)
        made[f"{pooler}-projected"] = export(folder / f"{pooler}-projected", tokenizer, pooler=pooler, dim=5)
    return made


@pytest.fixture(scope="module")
def classifiers(tokenizer, tmp_path_factory) -> dict[str, tuple[Path, PreTrainedModel]]:
    folder = tmp_path_factory.mktemp("classifiers")
    models = {
        "token-classification": tiny.model("electra", "token"),
        "text-classification": tiny.model(task="sequence"),
    }
    return {task: (save(model, tokenizer, folder / task), model) for task, model in models.items()}


@pytest.fixture(scope="module")
def legacy_teacher(tokenizer, tmp_path_factory) -> Exported:
    """LaBSE as it lies on the Hub: names and flags of sentence-transformers 2, and a dense layer in a .bin file."""
    model = tiny.model(layers=3)
    folder = save(model, tokenizer, tmp_path_factory.mktemp("legacy") / "labse")
    torch.manual_seed(6)
    dense = nn.Linear(32, 7)
    kinds = ("Transformer", "Pooling", "Dense", "Normalize")
    paths = ("", "1_Pooling", "2_Dense", "3_Normalize")
    write_json(
        folder / "modules.json",
        [
            {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for i, (kind, path) in enumerate(zip(kinds, paths, strict=True))
        ],
    )
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": MAX_LENGTH, "do_lower_case": False})
    flags = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False, "pooling_mode_max_tokens": False}
    write_json(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": 32, **flags})
    sizes = {"in_features": 32, "out_features": 7, "bias": True}
    activation = {"activation_function": "torch.nn.modules.activation.Tanh"}
    write_json(folder / "2_Dense" / "config.json", sizes | activation)
    torch.save({f"linear.{k}": v for k, v in dense.state_dict().items()}, folder / "2_Dense" / "pytorch_model.bin")
    rows = hidden_states_by_hand(model, tokenizer)
    embeddings = torch.stack([states[-1][0] for states, _ in rows]) @ dense.weight.double().T + dense.bias.double()
    embeddings = nn.functional.normalize(embeddings.tanh(), dim=1).detach()
    return Exported(folder, torch.cat([states[-1] for states, _ in rows]), embeddings)


@pytest.fixture(scope="module")
def seen(students, legacy_teacher, classifiers, tmp_path_factory):
    """What a process without retort made of all those folders: tensors, and other facts."""
    results = tmp_path_factory.mktemp("results") / "tensors.safetensors"
    options = {"token-classification": {}, "text-classification": {"top_k": None}}
    job = {
        "sentences": SENTENCES,
        "encoders": {name: str(each.folder) for name, each in (students | {"legacy": legacy_teacher}).items()},
        "pipelines": {task: (str(folder), options[task]) for task, (folder, _) in classifiers.items()},
        "results": str(results),
    }
    facts = json.loads(run_without_retort(CONSUMER, json.dumps(job)))
    return load_file(results), facts


STUDENTS = (
    *tiny.FAMILIES,
    *(f"{family}-cls" for family in FAMILIES_WITH_POOLER[1:]),
    *POOLERS,
    *(f"{pooler}-projected" for pooler in POOLERS),
)


@pytest.mark.promise(5)
@pytest.mark.parametrize("name", STUDENTS)
def test_a_student_gives_equal_outputs_where_retort_is_not(students, seen, name):
    tensors, facts = seen
    student = students[name]
    torch.testing.assert_close(tensors[f"{name}/AutoModel"].double(), student.token_vectors, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(tensors[f"{name}/pipeline"].double(), student.token_vectors, atol=1e-5, rtol=1e-4)
    embeddings = tensors[f"{name}/SentenceTransformer"].double()
    torch.testing.assert_close(embeddings, student.embeddings, atol=1e-5, rtol=1e-4)
    dimension = student.embeddings.shape[1]
    expected = {"missing": [], "max_seq_length": MAX_LENGTH, "dimension": dimension, "similarity": "cosine"}
    assert facts[name] == expected


def test_the_poolers_give_embeddings_that_differ(students):
    # Else the test above could not tell one from another.
    for first in POOLERS:
        for second in POOLERS:
            distance = (students[first].embeddings - students[second].embeddings).abs().max()
            assert (distance > 0.1) == (first != second), (first, second)


@pytest.mark.promise(5)
def test_a_token_student_gives_equal_outputs_in_a_pipeline(classifiers, seen, tokenizer):
    model = classifiers["token-classification"][1]
    for sentence, entities in zip(SENTENCES, seen[1]["token-classification"], strict=True):
        with torch.no_grad():
            scores = model(**tokenizer(sentence, return_tensors="pt")).logits[0, 1:-1].softmax(-1)
        best, label = scores.max(-1)
        assert [entity["entity"] for entity in entities] == [model.config.id2label[i] for i in label.tolist()]
        assert [entity["score"] for entity in entities] == pytest.approx(best.tolist(), abs=1e-5)


@pytest.mark.promise(5)
def test_a_sequence_student_gives_equal_outputs_in_a_pipeline(classifiers, seen, tokenizer):
    model = classifiers["text-classification"][1]
    for sentence, classes in zip(SENTENCES, seen[1]["text-classification"], strict=True):
        with torch.no_grad():
            scores = model(**tokenizer(sentence, return_tensors="pt")).logits[0].softmax(-1)
        expected = {model.config.id2label[i]: score for i, score in enumerate(scores.tolist())}
        assert {entry["label"]: entry["score"] for entry in classes} == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("name", STUDENTS)
def test_the_folder_holds_what_sentence_transformers_would_have_saved(students, seen, name):
    folder = students[name].folder
    resaved = folder.with_name(folder.name + "-resaved")
    ours = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    theirs = {path.relative_to(resaved) for path in resaved.rglob("*") if path.is_file()}
    assert ours == theirs
    for path in ours - {Path("config.json"), Path("tokenizer.json"), Path("tokenizer_config.json")}:
        if path.suffix == ".json":
            written, expected = json.loads((folder / path).read_text()), json.loads((resaved / path).read_text())
            # sentence-transformers moves it into the encoder's config.json, where it changes what AutoModel returns.
            if path.name == "sentence_bert_config.json":
                written.pop("config_kwargs", None)
            assert written == expected, path
        else:
            written, expected = load_file(folder / path), load_file(resaved / path)
            assert written.keys() == expected.keys(), path
            assert all(torch.equal(written[name], expected[name]) for name in written), path


@pytest.mark.parametrize("name", STUDENTS)
def test_a_student_can_be_the_next_teacher(students, seen, name):
    folder = students[name].folder
    for version in (folder, folder.with_name(folder.name + "-resaved")):
        read = read_sentence_modules(version)
        pooler = name.removesuffix("-projected") if name.removesuffix("-projected") in POOLERS else "mean"
        assert str(read.pooling) == ("cls" if name.endswith("-cls") else pooler)
        assert read.normalizes == (name not in POOLERS)
        assert read.max_length == MAX_LENGTH
        assert read.embedding_size(32) == (5 if name.endswith("-projected") else 32)


def test_a_student_without_a_pooler_keeps_its_weights_and_is_not_exported_as_cls(tokenizer, tmp_path):
    model = BertModel(tiny.config("bert"), add_pooling_layer=False)
    folder = save(model, tokenizer, tmp_path / "student")
    save_sentence_transformer(folder, tiny.surrounding(pooler="mean", max_length=16, normalize=True))
    loaded = AutoModel.from_pretrained(folder).state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in model.state_dict().items())
    with pytest.raises(ValueError, match=r"lack pooler\.dense\.weight, pooler\.dense\.bias.*random"):
        save_sentence_transformer(folder, tiny.surrounding(pooler="cls", max_length=16, normalize=True))


@pytest.mark.promise(9)
@pytest.mark.parametrize("family", [family for family in tiny.FAMILIES if family not in FAMILIES_WITH_POOLER])
def test_the_models_own_pooler_is_refused_where_the_architecture_has_none(tokenizer, tmp_path, family):
    folder = save(tiny.model(family), tokenizer, tmp_path)
    with pytest.raises(ValueError, match=rf"{family} encoders have none.*'cls_before_pooler' or 'mean'"):
        save_sentence_transformer(folder, tiny.surrounding(pooler="cls", max_length=16, normalize=True))


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_length": 67}, "max_length=67, but the encoder has positions for 1 to 66 tokens"),
        ({"max_length": 0}, "max_length=0"),
        ({"pooler": "maximum"}, "'maximum'.*mean, cls_before_pooler, last_token, max, cls"),
        ({"projector": nn.Linear(31, 8)}, "Dense takes vectors of size 31, but its input has size 32"),
    ],
)
def test_what_does_not_fit_is_refused_and_the_folder_stays_as_it_was(tokenizer, tmp_path, options, message):
    folder = save(tiny.model(), tokenizer, tmp_path)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(ValueError, match=message):
        save_sentence_transformer(
            folder, tiny.surrounding(**{"pooler": "mean", "max_length": 16, "normalize": True} | options)
        )
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.promise(9)
def test_a_folder_without_weights_or_tokenizer_is_refused(tmp_path):
    tiny.config("bert").save_pretrained(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no \*\.safetensors and no tokenizer_config\.json.*save_pretrained"):
        save_sentence_transformer(tmp_path, tiny.surrounding(pooler="mean", max_length=16, normalize=True))


def test_a_teacher_of_sentence_transformers_2_is_read_as_it_is_run(legacy_teacher, seen, tokenizer):
    # `embeddings` are computed by hand as `read_sentence_modules` says they are made; here it meets the original.
    theirs = seen[0]["legacy/SentenceTransformer"].double()
    torch.testing.assert_close(theirs, legacy_teacher.embeddings, atol=1e-5, rtol=1e-4)
    read = read_sentence_modules(legacy_teacher.folder)
    assert (str(read.pooling), read.normalizes, read.max_length) == ("cls_before_pooler", True, MAX_LENGTH)
    rows = hidden_states_by_hand(AutoModel.from_pretrained(legacy_teacher.folder), tokenizer)
    embeddings = read.finish(torch.stack([states[-1][0] for states, _ in rows]).float())
    torch.testing.assert_close(embeddings.double(), theirs, atol=1e-5, rtol=1e-4)
