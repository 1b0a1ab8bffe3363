"""Static students: token vectors from the teacher, trained by the trainers, and loaded by other libraries."""

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import test_examples
import tiny
import torch
import yaml
from datasets import Dataset
from jobs import REPOSITORY
from ranks import run_on_ranks
from safetensors.torch import load_file
from sentence_models import sentence_transformer
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from sklearn.decomposition import PCA
from tokenizers import Tokenizer
from transformers import AutoModel
from without_retort import run_without_retort

from retort import CKDTrainer, DistillTrainer, SentenceEncoder, Stage, StagedRun, shrink, static_student, tokenize
from retort.cli import main
from retort.modeling import static_tokenizer
from retort.modeling.encoding import Packing, SentenceModules, TokenLayout
from retort.modeling.onnx import OnnxModel, embedding_inputs, export_embeddings
from retort.modeling.shrinking.static import SIF
from retort.recipes import parse_recipe
from retort.trainers import write_vectors

folder = test_examples.folder
EXACT = {"atol": 1e-6, "rtol": 0}
UNKNOWN, WIDTH = tiny.SPECIAL.index("[UNK]"), 8
TEXTS = [
    *tiny.sentences(30, seed=4, longest=30),
    "the cat é 你 sat",
    "你",
]  # some are truncated, some have unknown tokens


def teacher_of(tokenizer, **modules):
    return SentenceEncoder(tiny.model(), tokenizer, tiny.surrounding(**modules))


def rows_of(student, teacher, count=24):
    texts = Dataset.from_dict({"text": tiny.sentences(count, seed=2)})
    own = {"teacher_tokenizer": teacher.tokenizer, "teacher_prompt": teacher.modules.prompt()}
    return tokenize(texts, student.tokenizer, max_length=16, **own)


def trainer_of(folder, student, teacher, rows, kind=DistillTrainer, theirs=None, **settings):
    settings = {"save_strategy": "no", "max_steps": 4, "learning_rate": 0.05} | settings
    args = tiny.arguments(folder / "run", kind.arguments_class, **settings)
    tokenizers = {"processing_class": student.tokenizer, "teacher_processing_class": theirs or teacher.tokenizer}
    return kind(student, teacher, args, train_dataset=rows, **tokenizers)


# --- The first vectors ------------------------------------------------------------------------------------------------


def zipf_weights(tokens):
    share = 1 / np.arange(2, tokens + 2)
    return SIF / (SIF + share / share.sum())


def test_a_token_has_the_teachers_embedding_of_it_alone_weighted_by_its_rank(tokenizer, tmp_path):
    theirs = SentenceEncoder.of(sentence_transformer(tmp_path, tokenizer, "prompt not pooled, cls"))
    student = static_student(theirs)
    vectors, vocabulary = student.model.embeddings.detach(), tokenizer.get_vocab()
    words = [word for word in tiny.WORDS if word in vocabulary]
    assert len(words) > 10
    weights = torch.tensor(zipf_weights(len(vocabulary)))[[vocabulary[word] for word in words], None].float()
    expected = theirs.encode(words) * weights  # after the default prompt
    torch.testing.assert_close(vectors[[vocabulary[word] for word in words]], expected, atol=1e-6, rtol=0)
    assert not vectors[UNKNOWN].any()
    assert not student.modules.normalizes
    assert static_student(teacher_of(tokenizer)).modules.normalizes


def test_narrower_vectors_are_the_principal_components(tokenizer):
    whole, narrow = (static_student(teacher_of(tokenizer), hidden_size=size).model for size in (None, WIDTH))
    weights = zipf_weights(len(whole.embeddings))[:, None]
    known = np.arange(len(weights)) != UNKNOWN
    alone = whole.embeddings.detach().double().numpy() / weights
    alone[UNKNOWN] = teacher_of(tokenizer).encode(["你"]).double().numpy()
    expected = PCA(WIDTH, svd_solver="full").fit_transform(alone)
    found = narrow.embeddings.detach().double().numpy() / weights
    found *= np.sign((found * expected).sum(0))
    np.testing.assert_allclose(found[known], expected[known], atol=1e-5)


def test_tokens_without_a_spelling_are_zero_and_change_no_principal_component(tokenizer):
    own = tiny.tokenizer("wordpiece, other words")
    expected = static_student(teacher_of(tokenizer), tokenizer=own, hidden_size=WIDTH).model.embeddings.detach()
    own.add_tokens(["你", "好"])
    found = static_student(teacher_of(tokenizer), tokenizer=own, hidden_size=WIDTH).model.embeddings.detach()
    assert not found[-2:].any()
    shares = (torch.tensor(zipf_weights(len(each))).float()[:, None] for each in (found, expected))
    found, expected = (each / share for each, share in zip((found, expected), shares, strict=True))
    torch.testing.assert_close(found[:-2].abs(), expected.abs(), atol=1e-5, rtol=0)


def test_tokens_of_another_tokenizer_are_spelled_by_the_teachers(tokenizer):
    own = tiny.tokenizer("wordpiece, other words")
    teacher = teacher_of(tokenizer)
    student = static_student(teacher, tokenizer=own)
    shared = next(word for word in tiny.WORDS if word in own.get_vocab() and word not in tokenizer.get_vocab())
    vector = student.model.embeddings[own.get_vocab()[shared]].detach()
    direction = torch.nn.functional.normalize(vector, dim=0)
    torch.testing.assert_close(direction, teacher.encode([shared])[0], atol=1e-5, rtol=0)


def train_on_this_rank(folder: str, rows: int, zero: int) -> None:
    """Train a static student on this rank, with this many rows a step, and save it."""
    place, teacher = Path(folder), teacher_of(tiny.tokenizer())
    student = static_student(teacher, hidden_size=WIDTH)
    settings = {"deepspeed": str(REPOSITORY / f"examples/deepspeed/zero{zero}.json")} if zero else {}
    settings |= {"embedding_weight": 1.0, "per_device_train_batch_size": rows}
    trainer = trainer_of(place, student, teacher, rows_of(student, teacher), **settings)
    trainer.train()
    trainer.save_model(place / "student")
    trainer.end()


@pytest.mark.promise(3)
@pytest.mark.parametrize("zero", [0, 2, 3], ids=["DDP", "ZeRO-2", "ZeRO-3"])
def test_two_ranks_make_the_student_that_one_makes(zero, tmp_path):
    vectors = []
    for world, stage in ((1, 0), (2, zero)):
        folder = tmp_path / str(world)
        ended = run_on_ranks(train_on_this_rank, world, folder=str(folder), rows=8 // world, zero=stage)
        assert ended == [0] * world
        vectors += load_file(folder / "student/model.safetensors").values()
    torch.testing.assert_close(vectors[1], vectors[0], rtol=1e-3, atol=1e-5)


# --- Embeddings and files ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["wordpiece", "bpe", "unigram"])
def trained(request, tmp_path_factory):
    """A folder with a student of each kind of tokenizer after some steps, and its embeddings in float64."""
    place, teacher = tmp_path_factory.mktemp("trained"), teacher_of(tiny.tokenizer(request.param))
    student = static_student(teacher, hidden_size=WIDTH)
    before = student.model.embeddings.detach().clone()
    trainer = trainer_of(place, student, teacher, rows_of(student, teacher), embedding_weight=1.0)
    trainer.train()
    trainer.save_model(place / "student")
    vectors = trainer.student.embeddings.detach()
    assert not torch.equal(vectors, before)
    assert not vectors[student.tokenizer.unk_token_id].any()
    ids = [student.tokenizer(text, truncation=True, max_length=16)["input_ids"] for text in TEXTS]
    means = torch.stack([vectors[each].double().mean(0) for each in ids])
    return place / "student", torch.nn.functional.normalize(means, dim=-1).float()


def test_a_trained_student_has_the_mean_of_its_tokens_vectors_here_and_in_sentence_transformers(trained):
    saved, expected = trained
    torch.testing.assert_close(SentenceEncoder.from_pretrained(saved).encode(TEXTS), expected, **EXACT)
    theirs = SentenceTransformer(str(saved), device="cpu").encode(TEXTS, convert_to_tensor=True)
    torch.testing.assert_close(theirs, expected, **EXACT)


@pytest.mark.promise(5)
@pytest.mark.parametrize("trained", ["wordpiece"], indirect=True)
def test_the_same_embeddings_without_retort_and_in_onnx_runtime(trained, tmp_path):
    saved, expected = trained
    code = """
import json
import numpy as np
from sentence_transformers import SentenceTransformer
model = SentenceTransformer(sys.argv[1], device="cpu")
np.save(sys.argv[2], model.encode(json.loads(sys.argv[3])))
"""
    run_without_retort(code, saved, tmp_path / "found.npy", json.dumps(TEXTS))
    torch.testing.assert_close(torch.from_numpy(np.load(tmp_path / "found.npy")), expected, **EXACT)
    read = SentenceEncoder.from_pretrained(saved)
    export_embeddings(read, saved)
    by_onnx = OnnxModel(saved)(**embedding_inputs(read, TEXTS)).sentence_embedding
    torch.testing.assert_close(by_onnx, expected, **EXACT)


def test_the_folder_is_in_model2vecs_format(trained):
    """model2vec is not installed: this does what its StaticModel does (model2vec/model.py)."""
    saved, expected = trained
    tokenizer = Tokenizer.from_file(str(saved / "tokenizer.json"))
    config = json.loads((saved / "config.json").read_text())
    tensors = load_file(saved / "model.safetensors")
    assert tensors.keys() == {"embeddings"}
    vectors = tensors["embeddings"].double().numpy()
    assert len(tokenizer.get_vocab()) == len(vectors)
    assert config["normalize"] is True
    unknown = getattr(tokenizer.model, "unk_token", None)
    for text, wanted in zip(TEXTS, expected, strict=True):
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        ids = [token for token in ids if unknown is None or token != tokenizer.token_to_id(unknown)]
        mean = vectors[ids].mean(0) if ids else np.zeros(WIDTH)
        np.testing.assert_allclose(mean / (np.linalg.norm(mean) + 1e-32), wanted, atol=1e-6)


def test_a_tokenizer_without_a_limit_is_saved_and_read(tokenizer, tmp_path):
    teacher = teacher_of(tokenizer)
    student = static_student(teacher)
    student.tokenizer.model_max_length = int(1e30)  # of a tokenizer without model_max_length
    plain = {"processing_class": student.tokenizer, "teacher_processing_class": tokenizer}
    args = tiny.arguments(tmp_path / "run", embedding_weight=1.0)
    DistillTrainer(student.model, teacher, args, train_dataset=rows_of(student, teacher), **plain).save_model()
    theirs = SentenceTransformer(str(tmp_path / "run"), device="cpu").encode(TEXTS, convert_to_tensor=True)
    torch.testing.assert_close(SentenceEncoder.from_pretrained(tmp_path / "run").encode(TEXTS), theirs, **EXACT)


def test_packed_and_padded_batches_give_equal_embeddings(tokenizer):
    student = static_student(teacher_of(tokenizer))
    lengths = [3, 5, 2]
    ids = torch.arange(5, 15)
    packed, padded = (TokenLayout.from_lengths(lengths, packed=way) for way in (True, False))
    inputs = {"input_ids": ids[None], "attention_mask": Packing.from_layout(packed)}
    one = student.embed(inputs, packed)
    two = student.embed({"input_ids": padded.pad(ids), "attention_mask": padded.mask.long()}, padded)
    torch.testing.assert_close(one, two)


@pytest.mark.parametrize("trained", ["wordpiece"], indirect=True)
def test_a_command_reads_a_student_and_it_can_teach(trained, folder, tmp_path, capsys):
    saved = str(trained[0])
    assert main(["eval", "--model", saved, "--sts", f"toy={folder / 'sts.tsv'}"]) == 0
    assert "toy" in capsys.readouterr().out
    teacher = SentenceEncoder.from_pretrained(saved)
    student = SentenceEncoder(tiny.model(layers=1), teacher.tokenizer, tiny.surrounding())
    settings = {"theirs": teacher.tokenizer, "embedding_weight": 1.0, "max_steps": 1}
    losses = []
    for source in (teacher, saved):
        trainer = trainer_of(tmp_path, student, source, rows_of(student, teacher), **settings)
        losses.append(trainer.train().training_loss)
        student.model.load_state_dict(tiny.model(layers=1).state_dict())
    assert losses[0] == losses[1] > 0


# --- Training ---------------------------------------------------------------------------------------------------------


def test_it_learns_alike_from_a_live_teacher_a_cache_and_vectors(tokenizer, tmp_path):
    weights = {"embedding_weight": 1.0, "similarity_weight": 1.0, "contrastive_weight": 1.0}
    settings = {"queue_size": 8, "fill_queue": True} | weights
    teacher = teacher_of(tokenizer)
    rows = rows_of(static_student(teacher), teacher)
    texts = Dataset.from_dict({"text": tiny.sentences(24, seed=2)})
    write_vectors(teacher, texts, tmp_path / "vectors")
    made = Dataset.from_parquet(str(next((tmp_path / "vectors").rglob("*.parquet"))))
    vectors = next(name for name in made.column_names if name != "text")
    given = tokenize(made, static_tokenizer(tokenizer), max_length=16, vectors=vectors)
    ways = {
        "live": (teacher, rows, {}),
        "cache": (teacher, rows, {"teacher_cache": str(tmp_path / "cache"), "teacher_cache_dtype": "float32"}),
        "vectors": (None, given, {}),
    }
    losses = {}
    for way, (source, data, more) in ways.items():
        student = static_student(teacher, hidden_size=WIDTH)
        trainer = trainer_of(tmp_path / way, student, source, data, CKDTrainer, tokenizer, **settings, **more)
        trainer.train()
        losses[way] = [log["loss"] for log in trainer.state.log_history if "loss" in log]
    assert losses["cache"] == pytest.approx(losses["live"], abs=1e-5)
    assert losses["vectors"] == pytest.approx(losses["live"], abs=1e-5)
    assert losses["live"][-1] < losses["live"][0]


@pytest.mark.promise(2)
def test_a_killed_run_ends_with_the_same_weights(tokenizer, tmp_path):
    teacher = teacher_of(tokenizer)

    def run(place, **settings):
        student = static_student(teacher, hidden_size=WIDTH)
        more = {"save_strategy": "steps", "save_steps": 2, "embedding_weight": 1.0}
        return trainer_of(place, student, teacher, rows_of(student, teacher), **more | settings)

    whole = run(tmp_path / "whole")
    whole.train()
    killed = run(tmp_path / "killed")
    shutil.copytree(tmp_path / "whole/run/checkpoint-2", tmp_path / "killed/run/checkpoint-2")
    killed.train(resume_from_checkpoint=True)
    assert torch.equal(killed.student.embeddings, whole.student.embeddings)


# --- Refused ----------------------------------------------------------------------------------------------------------


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hidden_weight": 1.0}, "hidden_weight compares layers, but a static student has none"),
        ({"attention_weight": 1.0}, "attention_weight compares layers"),
        ({"relation_weight": 1.0}, "relation_weight compares layers"),
        ({"embedding_weight": 1.0, "keep_projector": True}, "model2vec's format has none"),
        (
            {"embedding_weight": 1.0, "pooler": "last_token"},
            "pools by mean over all tokens, not by last_token",
        ),
        ({"label_weight": 1.0}, "need a task head on the student"),
    ],
)
def test_objectives_and_exports_that_need_more_than_a_mean_are_refused(settings, message, tokenizer, tmp_path):
    teacher = teacher_of(tokenizer)
    student = static_student(teacher)
    args = tiny.arguments(tmp_path, **settings)
    with pytest.raises(ValueError, match=message):
        DistillTrainer(student.model, teacher, args, processing_class=student.tokenizer)


def test_special_tokens_heads_and_files_of_others_are_refused(tokenizer, tmp_path):
    teacher = teacher_of(tokenizer)
    student = static_student(teacher)
    mean = SentenceModules.plain("mean", 16, normalize=True)
    with pytest.raises(ValueError, match=r"adds 2 special tokens .* static_tokenizer"):
        SentenceEncoder(student.model, tokenizer, mean)
    args = tiny.arguments(tmp_path, embedding_weight=1.0)
    with pytest.raises(ValueError, match=r"adds 2 special tokens"):
        DistillTrainer(student.model, teacher, args, processing_class=tokenizer)
    with pytest.raises(ValueError, match="has a Dense after its mean"):
        SentenceEncoder(student.model, student.tokenizer, tiny.surrounding(projector=torch.nn.Linear(32, 4)))
    with pytest.raises(ValueError, match=r"hidden_size=33, but .* 32 dimensions. Choose 1 to 32"):
        static_student(teacher, hidden_size=33)
    with pytest.raises(ValueError, match="has static token vectors itself"):
        static_student(student)
    with pytest.raises(ValueError, match=r"Text 1, ' ', has no tokens"):
        student.encode(["the cat", " "])
    theirs = SentenceTransformer(modules=[StaticEmbedding(tokenizer.backend_tokenizer, embedding_dim=4)], device="cpu")
    with pytest.raises(ValueError, match="Save it, and load its folder"):
        SentenceEncoder.of(theirs)
    theirs.save(str(tmp_path / "theirs"), create_model_card=False)
    with pytest.raises(ValueError, match="loads only the static models that it trained"):
        SentenceEncoder.from_pretrained(tmp_path / "theirs")


@pytest.mark.promise(9)
def test_texts_of_unknown_tokens_are_counted_and_refused_if_there_are_no_others(tokenizer, tmp_path, caplog):
    teacher = teacher_of(tokenizer)
    student = static_student(teacher)

    def train_on(texts):
        rows = tokenize(
            Dataset.from_dict({"text": texts}), student.tokenizer, max_length=16, teacher_tokenizer=tokenizer
        )
        trainer_of(tmp_path, student, teacher, rows, embedding_weight=1.0)

    with caplog.at_level(logging.WARNING, logger="retort"):
        train_on(["the cat", "你 é", "the cat sat", "你"])
    assert "2 of 4 texts of the training rows have only unknown tokens (first: row 1)" in caplog.text
    with pytest.raises(ValueError, match="The training rows: all tokens of all texts are unknown"):
        train_on(["你 é", "你"])


@pytest.mark.promise(9)
def test_no_student_is_shrunk_from_token_vectors(tokenizer):
    with pytest.raises(
        ValueError, match=r"StaticModel has token vectors and no layers.*set student\.model to an encoder"
    ):
        shrink(static_student(teacher_of(tokenizer)).model, layers=1)


def test_adapters_are_refused(tokenizer, tmp_path):
    teacher = teacher_of(tokenizer)
    student = static_student(teacher)
    stage = Stage("adapters", lora={"r": 2}, arguments={"embedding_weight": 1.0, "max_steps": 1, "use_cpu": True})
    more = {"processing_class": student.tokenizer, "teacher_processing_class": tokenizer}
    rows = {"train": rows_of(student, teacher)}
    run = StagedRun([stage], student.model, teacher, folder=tmp_path, data=rows, **more)
    with pytest.raises(ValueError, match=r"StaticModel has none\. Leave out lora"):
        run.run()


# --- Recipes ----------------------------------------------------------------------------------------------------------


def recipe(folder, **changes):
    return {
        "teacher": {"model": str(folder / "teacher")},
        "student": {"static": {"hidden_size": WIDTH}},
        "data": {"train_files": [str(folder / "corpus.txt")], "max_length": 32},
        "arguments": {"use_cpu": True, "disable_tqdm": True, "per_device_train_batch_size": 8, "max_steps": 2},
        "stages": [{"name": "embeddings", "cache_teacher": True, "arguments": {"embedding_weight": 1.0}}],
        "evaluation": {"sts_test": {"toy": str(folder / "sts.tsv")}},
        "output_dir": str(folder / "static"),
    } | changes


def test_a_recipe_runs_to_its_report_and_begins_with_the_vectors_it_saved(folder, capsys, monkeypatch):
    (folder / "static.yaml").write_text(yaml.safe_dump(recipe(folder)))
    with monkeypatch.context() as patch:  # a dry run embeds no token
        patch.setattr("retort.recipes.sentences.static.static_student", None)
        assert main(["distill", str(folder / "static.yaml"), "--dry_run"]) == 0
        assert main(["distill", str(folder / "static.yaml"), "student.static.hidden_size=99", "--dry_run"]) != 0
        assert "hidden_size=99, but the teacher's embeddings have" in capsys.readouterr().err
        wrong = "stages.embeddings.hidden_weight=1"  # nor does a run that is refused
        assert main(["distill", str(folder / "static.yaml"), wrong]) != 0
        assert "The stage 'embeddings': hidden_weight compares layers" in capsys.readouterr().err
    assert not list((folder / "static").glob("_static-*"))
    assert main(["distill", str(folder / "static.yaml")]) == 0
    report = json.loads((folder / "static/report.json").read_text())
    assert [row["name"] for row in report["rows"]] == ["teacher", "student, untrained", "student"]
    sizes = report["rows"][-1]["footprint"]
    assert (sizes["parameters_without_embeddings"], report["rows"][-1]["layers"]) == (0, None)
    assert "Static token vectors of width 8" in (folder / "static/README.md").read_text()
    assert SentenceTransformer(str(folder / "static"), device="cpu").get_sentence_embedding_dimension() == WIDTH
    assert AutoModel.from_pretrained(folder / "static").config.hidden_size == WIDTH
    # Other sums of the same numbers must not start a finished run anew.
    monkeypatch.setattr("retort.recipes.sentences.static.static_student", None)
    assert main(["distill", str(folder / "static.yaml")]) == 0
    assert "finished" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"student": {"static": {}, "layers": 2}}, "layers can't be combined with static"),
        ({"student": {"static": {"hidden_size": 0}}}, "student.static.hidden_size"),
        (
            {"assistant": {"student": {"static": {}}, "stages": recipe(folder=test_examples.Path())["stages"]}},
            "no student can be made from token vectors",
        ),
    ],
)
def test_recipes_that_contradict_themselves_are_refused_when_they_are_read(changes, message, tmp_path):
    changes = {"student": {"layers": 1}} | changes if "assistant" in changes else changes
    with pytest.raises((ValueError, SystemExit), match=message):
        parse_recipe(recipe(tmp_path, **changes))
