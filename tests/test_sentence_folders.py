"""Folders of sentence-transformers in all their layouts are read, or refused by name; what is written says it all."""

import json
import shutil

import pytest
import tiny
import torch
from sentence_models import EXACT, KINDS, TEXTS, encoded, saved, sentence_transformer, transformer
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize, Router
from sentence_transformers.sentence_transformer.modules import CNN, Pooling
from torch import nn

from retort.evaluation.sentences import load_embedder, load_sentence_teacher
from retort.modeling.encoding import SentenceEncoder, read_sentence_modules
from retort.trainers.arguments import DistillTrainingArguments
from retort.trainers.teachers import load_teacher

# --- The encoder in a folder of its own -------------------------------------------------------------------------------


def move_encoder(folder, name):
    """Lay a folder out as sentence-transformers did before version 2: its encoder in a folder beside the modules."""
    entries = json.loads((folder / "modules.json").read_text())
    modules = {entry["path"].split("/")[0] for entry in entries if entry["path"]}
    (folder / name).mkdir()
    for file in list(folder.iterdir()):
        if file.name not in {*modules, name, "modules.json", "config_sentence_transformers.json"}:
            shutil.move(file, folder / name / file.name)
    entries[0]["path"] = name
    (folder / "modules.json").write_text(json.dumps(entries))
    return folder


@pytest.mark.promise(9)
@pytest.mark.parametrize("name", ["cls, dense, tanh, normalize", "prompt not pooled, mean", "qwen3"])
def test_an_encoder_in_a_folder_of_its_own_is_read_there(name, tokenizer, tmp_path):
    theirs = sentence_transformer(tmp_path / "encoder", tokenizer, name)
    folder = move_encoder(saved(theirs, tmp_path / "saved"), "0_Transformer")
    assert not (folder / "config.json").exists()
    expected = torch.tensor(SentenceTransformer(str(folder), device="cpu").encode(TEXTS))
    torch.testing.assert_close(expected, encoded(theirs), **EXACT)
    ours = SentenceEncoder.from_pretrained(folder)
    assert ours.max_length == 20
    torch.testing.assert_close(encoded(ours), expected, **EXACT)
    torch.testing.assert_close(encoded(load_sentence_teacher(folder, 64)), expected, **EXACT)
    teacher = load_teacher(folder, tiny.model(seed=9), DistillTrainingArguments(str(tmp_path), embedding_weight=1.0))
    torch.testing.assert_close(encoded(teacher), expected, **EXACT)


def test_a_pooler_of_ones_choice_goes_over_an_encoder_in_a_folder_of_its_own(tokenizer, tmp_path):
    theirs = sentence_transformer(tmp_path / "encoder", tokenizer, "cls, dense, tanh, normalize")
    folder = saved(theirs, tmp_path / "saved")
    expected = encoded(SentenceEncoder.with_pooler(folder, "max", max_length=20))
    found = encoded(load_embedder(move_encoder(folder, "transformer"), None, 20))
    assert found.shape == (len(TEXTS), 16)
    torch.testing.assert_close(encoded(SentenceEncoder.with_pooler(folder, "max", max_length=20)), expected, **EXACT)


# --- Routers ----------------------------------------------------------------------------------------------------------


def two_towers(tmp_path, tokenizer, **settings):
    """Queries and documents have encoders of their own, and share what comes last."""
    query = transformer(tmp_path / "query", tokenizer)
    document = transformer(tmp_path / "document", tokenizer, model=tiny.model(layers=3, seed=5))
    routes = {
        "query": [query, Pooling(32, "cls"), Dense(32, 32, activation_function=nn.Tanh())],
        "document": [document, Pooling(32, "mean")],
    }
    return SentenceTransformer(modules=[Router(routes, **settings), Normalize()], device="cpu")


def two_heads(tmp_path, tokenizer, **settings):
    """Queries and documents share an encoder, and have maps of their own."""
    torch.manual_seed(3)
    routes = {task: [Dense(32, 8, activation_function=nn.Identity())] for task in ("query", "document")}
    first = transformer(tmp_path / "encoder", tokenizer)
    return SentenceTransformer(modules=[first, Pooling(32, "mean"), Router(routes, **settings)], device="cpu")


@pytest.mark.promise(9)
@pytest.mark.parametrize("make", [two_towers, two_heads])
def test_each_route_of_a_router_embeds_as_sentence_transformers(make, tokenizer, tmp_path):
    theirs = make(tmp_path, tokenizer)
    folder = saved(theirs, tmp_path / "saved")
    made = {}
    for route in ("query", "document", None):
        made[route] = torch.tensor(theirs.encode(TEXTS, task=route))
        torch.testing.assert_close(encoded(SentenceEncoder.of(theirs, route=route)), made[route], **EXACT)
        torch.testing.assert_close(encoded(SentenceEncoder.from_pretrained(folder, route=route)), made[route], **EXACT)
    assert (made["query"] - made["document"]).abs().max() > 0.1
    assert torch.equal(made[None], made["query"])
    # Alone, a route is a model like any other.
    alone = saved_alone(SentenceEncoder.from_pretrained(folder, route="document"), tmp_path / "alone")
    torch.testing.assert_close(encoded(SentenceTransformer(alone, device="cpu")), made["document"], **EXACT)


def saved_alone(encoder, folder):
    encoder.save_pretrained(folder)
    return str(folder)


@pytest.mark.promise(9)
def test_a_default_route_and_mapped_tasks_are_those_of_sentence_transformers(tokenizer, tmp_path):
    mappings = {("search", "text"): "query", ("passage", None): "document", (None, "text"): "document"}
    for name, settings in (("default", {"default_route": "document"}), ("mapped", {"route_mappings": mappings})):
        theirs = two_heads(tmp_path / name, tokenizer, **settings)
        folder = saved(theirs, tmp_path / name / "saved")
        tasks = (None, "search", "passage") if name == "mapped" else (None, "query")
        for task in tasks:
            expected = torch.tensor(theirs.encode(TEXTS, task=task))
            torch.testing.assert_close(encoded(SentenceEncoder.of(theirs, route=task)), expected, **EXACT)
            found = encoded(SentenceEncoder.from_pretrained(folder, route=task))
            torch.testing.assert_close(found, expected, **EXACT)


@pytest.mark.promise(9)
def test_a_route_that_is_missing_or_not_named_is_refused_with_those_there_are(tokenizer, tmp_path):
    theirs = two_heads(tmp_path, tokenizer, allow_empty_key=False)
    folder = saved(theirs, tmp_path / "saved")
    for load in (lambda **route: SentenceEncoder.of(theirs, **route), lambda **r: read_sentence_modules(folder, **r)):
        with pytest.raises(
            ValueError,
            match=r"has no default route\. Its routes are: query, document\. Choose one with SentenceEncoder",
        ):
            load()
        with pytest.raises(ValueError, match=r"has no route 'qery'\. Its routes are: query, document"):
            load(route="qery")
    plain = sentence_transformer(tmp_path / "plain", tokenizer, "mean")
    with pytest.raises(ValueError, match=r"has no routes, but route='query' was given"):
        SentenceEncoder.of(plain, route="query")
    with pytest.raises(ValueError, match=r"has no routes, but route='query' was given"):
        SentenceEncoder.from_pretrained(saved(plain, tmp_path / "plain-saved"), route="query")


@pytest.mark.promise(9)
def test_a_teacher_with_routes_is_its_default_one_or_refused(tokenizer, tmp_path):
    arguments = DistillTrainingArguments(str(tmp_path / "run"), embedding_weight=1.0)
    theirs = two_heads(tmp_path / "a", tokenizer, default_route="document")
    teacher = load_teacher(saved(theirs, tmp_path / "a" / "saved"), tiny.model(seed=9), arguments)
    torch.testing.assert_close(encoded(teacher), encoded(theirs), **EXACT)
    folder = saved(two_towers(tmp_path / "b", tokenizer, allow_empty_key=False), tmp_path / "b" / "saved")
    with pytest.raises(ValueError, match=r"has no default route\. Its routes are: query, document"):
        load_teacher(folder, tiny.model(seed=9), arguments)


@pytest.mark.promise(9)
def test_a_route_with_modules_that_retort_does_not_run_is_refused_and_the_other_is_read(tokenizer, tmp_path):
    first, second = (transformer(tmp_path / name, tokenizer) for name in ("a", "b"))
    routes = {"query": [first, CNN(32, 8), Pooling(24)], "document": [second, Pooling(32)]}
    folder = saved(SentenceTransformer(modules=[Router(routes)], device="cpu"), tmp_path / "saved")
    with pytest.raises(ValueError, match="has the modules Transformer, CNN, Pooling"):
        read_sentence_modules(folder, route="query")
    assert str(read_sentence_modules(folder, route="document").pooling) == "mean"


# --- What is written --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", KINDS)
def test_a_saved_encoder_is_the_same_model_in_sentence_transformers(name, tokenizer, tmp_path):
    theirs = sentence_transformer(tmp_path / "encoder", tokenizer, name)
    theirs.similarity_fn_name = "dot"
    theirs.prompts["passage"] = "a book "
    SentenceEncoder.of(theirs).save_pretrained(tmp_path / "ours")
    again = SentenceTransformer(str(tmp_path / "ours"), device="cpu")
    assert (again.similarity_fn_name, again.truncate_dim) == ("dot", theirs.truncate_dim)
    assert again.default_prompt_name == theirs.default_prompt_name
    assert {name: text for name, text in again.prompts.items() if text} == {
        name: text for name, text in theirs.prompts.items() if text
    }
    for options in ({}, {"prompt_name": "passage"}, {"prompt": ""}):
        found, expected = encoded(again, **options), encoded(theirs, **options)
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    read = SentenceEncoder.from_pretrained(tmp_path / "ours")
    assert read.modules.similarity == "dot"


@pytest.mark.promise(9)
def test_a_similarity_of_another_kind_of_model_is_refused(tokenizer, tmp_path):
    folder = saved(sentence_transformer(tmp_path / "encoder", tokenizer, "mean"), tmp_path / "saved")
    file = folder / "config_sentence_transformers.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"similarity_fn_name": "maxsim"}))
    with pytest.raises(ValueError, match="similarity_fn_name is 'maxsim'"):
        read_sentence_modules(folder)
