"""Students of queries beside a teacher of documents: their head, their recipe, and the pair that is exported."""

import json
from dataclasses import replace

import jobs
import numpy as np
import pytest
import test_examples
import tiny
import torch
import yaml
from datasets import Dataset
from safetensors.torch import load_file
from scripts import run_command
from sentence_models import EXACT, TEXTS, transformer
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize, Router
from sentence_transformers.sentence_transformer.modules import Pooling
from test_cli import refused
from torch import nn
from without_retort import run_without_retort

from retort import (
    ContrastiveTrainer,
    ContrastiveTrainingArguments,
    DistillTrainer,
    Stage,
    StagedRun,
    tokenize,
)
from retort.cli import main
from retort.evaluation.sentences import retrieval_scores
from retort.modeling.encoding import SentenceEncoder
from retort.recipes import parse_recipe
from retort.trainers.saving import save_router

folder = test_examples.folder
PROMPTS = {"query": "the old ", "document": "a book "}


def teacher_of(folder, tokenizer, prompts=PROMPTS, width=24):
    """A teacher with a Dense and prompts, whose vectors have a large common direction, as those of E5."""
    torch.manual_seed(4)
    after = [Pooling(32, "mean"), Dense(32, width, activation_function=nn.Identity()), Normalize()]
    made = SentenceTransformer(modules=[transformer(folder / "bert", tokenizer), *after], prompts=prompts, device="cpu")
    with torch.no_grad():
        made[2].linear.bias += 4
    return made


def student_of(folder, tokenizer, width=24):
    torch.manual_seed(5)
    first = transformer(folder / "small", tokenizer, model=tiny.model(layers=1, seed=3))
    after = [Pooling(32, "mean"), Dense(32, width, activation_function=nn.Identity()), Normalize()]
    return SentenceTransformer(modules=[first, *after], device="cpu")


def trainer_of(tmp_path, teacher, rows, student=None, **settings):
    settings = {"embedding_weight": 1.0, "projector": "linear", "keep_projector": True, "max_steps": 1} | settings
    args = tiny.arguments(tmp_path / "run", **settings)
    student = student or tiny.model(layers=1, seed=3)
    return DistillTrainer(student, teacher, args, train_dataset=rows, processing_class=tiny.tokenizer())


def rows_of(texts, prompt=""):
    return tokenize(Dataset.from_dict({"text": texts}), tiny.tokenizer(), max_length=20, teacher_prompt=prompt)


# --- The head ---------------------------------------------------------------------------------------------------------


def test_a_fitted_projector_is_the_least_squares_map_between_unit_vectors(tokenizer, tmp_path):
    texts = list(dict.fromkeys(tiny.sentences(150, seed=6)))
    teacher = SentenceEncoder.of(teacher_of(tmp_path, tokenizer, prompts=None, width=32))
    rows = rows_of(texts)
    first = {}
    for fit in (False, True):
        trainer = trainer_of(tmp_path, teacher, rows, fit_projector=fit, learning_rate=0.0)
        trainer.train()
        first[fit] = trainer.state.log_history[0]["loss"]
    # As numpy solves it in float64, with the bias left out of the ridge.
    student = SentenceEncoder(trainer.student, tiny.tokenizer(), tiny.surrounding(max_length=20, normalize=False))
    x, y = student.encode(texts).double().numpy(), teacher.encode(texts).double().numpy()
    centred, ridge = x - x.mean(0), 1e-3 * x.var(0).mean() * len(x) ** 0.5
    stacked = np.concatenate([centred, (ridge * len(x) ** 0.5) ** 0.5 * np.eye(32)])
    solved, *_ = np.linalg.lstsq(stacked, np.concatenate([y - y.mean(0), np.zeros((32, 32))]), rcond=None)
    projector = trainer.model.projector
    np.testing.assert_allclose(projector.weight.detach().numpy(), solved.T, atol=1e-4)
    np.testing.assert_allclose(projector.bias.detach().numpy(), y.mean(0) - x.mean(0) @ solved, atol=1e-3)
    constant = 1 - np.linalg.norm(y.mean(0))  # the loss of a student that gives all texts the mean vector
    assert first[True] < constant < first[False]


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"projector": "auto"}, "fit_projector, but no projector of embeddings is trained"),
        ({"embedding_weight": 0.0, "hidden_weight": 1.0}, "fit_projector, but no projector of embeddings is trained"),
        (
            {"embedding_weight": 0.0, "similarity_weight": 1.0, "fit_projector": False},
            "keep_projector, but no objective maps embeddings",
        ),
        ({"teacher_prompt_name": "question"}, "There is no prompt 'question', only: "),
        ({"teacher_prompt_name": "query"}, "Row 0 does not begin with the teacher's prompt"),
    ],
)
def test_a_fit_of_nothing_and_unknown_prompts_are_refused(settings, message, tokenizer, tmp_path):
    teacher = SentenceEncoder.of(teacher_of(tmp_path, tokenizer, width=32))
    with pytest.raises(ValueError, match=message):
        trainer_of(tmp_path, teacher, rows_of(TEXTS), **{"fit_projector": True} | settings)


def test_a_named_prompt_is_the_default_prompt_of_the_run(tokenizer, tmp_path):
    theirs = teacher_of(tmp_path, tokenizer)
    theirs.save(str(tmp_path / "named"), create_model_card=False)
    theirs.default_prompt_name = "query"
    rows = rows_of(TEXTS, prompt=PROMPTS["query"])
    losses = []
    for teacher, name in ((theirs, None), (str(tmp_path / "named"), "query")):
        trainer = trainer_of(tmp_path, teacher, rows, teacher_prompt_name=name)
        trainer.train()
        losses.append(trainer.state.log_history[0]["loss"])
    assert losses[0] == losses[1]


def test_the_card_counts_the_modules_after_the_teachers_pooler(tokenizer, tmp_path):
    teacher = SentenceEncoder(
        tiny.model(), tokenizer, tiny.surrounding(max_length=20, projector=torch.nn.Linear(32, 24))
    )
    trainer = DistillTrainer(
        tiny.model(layers=1),
        teacher,
        tiny.arguments(tmp_path, embedding_weight=1.0),
        train_dataset=rows_of(TEXTS),
        processing_class=tokenizer,
    )
    encoder = sum(parameter.numel() for parameter in teacher.model.parameters())
    found = trainer.card_facts().teacher_size
    assert found == (encoder + 32 * 24 + 24, pytest.approx(4e-6 * (encoder + 32 * 24 + 24)))


@pytest.mark.promise(9)
def test_a_prompts_name_needs_a_teacher_with_prompts(tokenizer, tmp_path):
    with pytest.raises(ValueError, match="only sentence-transformers models have prompts"):
        trainer_of(tmp_path, tiny.model(), rows_of(TEXTS), teacher_prompt_name="query")


def test_a_stage_trains_the_projector_that_the_stage_before_it_kept(tokenizer, tmp_path):
    teacher = SentenceEncoder.of(teacher_of(tmp_path, tokenizer, prompts=None))
    same = {"embedding_weight": 1.0, "projector": "linear", "keep_projector": True, "max_steps": 3}
    scored = []

    def score(student):
        scored.append(student.encode(TEXTS))
        return {"size": float(student.embedding_size)}

    run = StagedRun(
        [Stage("documents", same | {"learning_rate": 1e-3}), Stage("queries", same | {"learning_rate": 0.0})],
        tiny.model(layers=1, seed=3),
        teacher,
        folder=tmp_path / "run",
        data={"train": rows_of(TEXTS)},
        processing_class=tokenizer,
        arguments={"use_cpu": True, "disable_tqdm": True, "per_device_train_batch_size": 8}
        | {"eval_strategy": "steps", "eval_steps": 1},
        eval_dataset=rows_of(TEXTS),
        score=score,
    )
    made = [SentenceTransformer(str(result.folder), device="cpu") for result in run.run()]
    assert [type(module).__name__ for module in made[1]] == ["Transformer", "Pooling", "Dense", "Normalize"]
    vectors = [torch.tensor(model.encode(TEXTS)) for model in made]
    torch.testing.assert_close(vectors[1], vectors[0], **EXACT)
    # Stages are scored as they are exported, while they train, too.
    torch.testing.assert_close(scored[3], vectors[0], **EXACT)
    assert {each.shape for each in scored} == {vectors[0].shape}
    assert len(scored) == 2 + 2 * 3


@pytest.mark.promise(9)
def test_a_check_knows_the_projectors_that_stages_keep(tokenizer, tmp_path):
    kept = {"embedding_weight": 1.0, "projector": "linear", "keep_projector": True}
    none = {"embedding_weight": 1.0, "projector": "none"}
    run = StagedRun(
        [Stage("documents", kept), Stage("queries", none)],
        tiny.model(layers=1, seed=3),
        SentenceEncoder.of(teacher_of(tmp_path, tokenizer, prompts=None)),
        folder=tmp_path / "run",
        data={"train": rows_of(TEXTS)},
        processing_class=tokenizer,
        arguments={"use_cpu": True},
    )
    run.check()
    again = replace(run, stages=[Stage("documents", kept), Stage("queries", kept | {"fit_projector": True})])
    for attempt in (again.check, again.run):
        with pytest.raises(ValueError, match="The stage 'queries': fit_projector, but no projector"):
            attempt()


def test_a_projector_is_fitted_on_all_texts_of_groups(tokenizer, tmp_path):
    teacher = tiny.model(layers=2, seed=9)
    args = tiny.arguments(
        tmp_path, ContrastiveTrainingArguments, embedding_weight=1.0, projector="linear", fit_projector=True
    )
    rows = jobs.triplets(tokenizer).select(range(12))
    trainer = ContrastiveTrainer(
        tiny.model(layers=1, seed=3), teacher, args, train_dataset=rows, processing_class=tokenizer
    )
    trainer._fit_projector()
    texts = [row["members"][role] for row in rows for role in range(3)]
    ids = [tokenizer.decode(each, skip_special_tokens=True) for each in texts]
    around = tiny.surrounding(max_length=64, normalize=False)
    ours, theirs = (SentenceEncoder(model, tokenizer, around).encode(ids) for model in (trainer.student, teacher))
    expected = torch.nn.functional.normalize(theirs, dim=-1).mean(0)
    torch.testing.assert_close(trainer._embedding_projector(ours).mean(0), expected, **EXACT)


# --- The pair ---------------------------------------------------------------------------------------------------------


@pytest.mark.promise(5)
def test_a_pair_is_one_sentence_transformer_and_two_graphs(tokenizer, tmp_path):
    query, document = student_of(tmp_path, tokenizer), teacher_of(tmp_path, tokenizer)
    pair = tmp_path / "pair"
    save_router(SentenceEncoder.of(query), SentenceEncoder.of(document), pair)
    printed = run_command("export", "--model", pair)
    assert "Route query:" in printed
    assert "Route document:" in printed
    code = """
import json
import onnxruntime
from pathlib import Path
from safetensors.numpy import save_file
from sentence_transformers import SentenceTransformer
from transformers import AutoTokenizer
folder, texts = Path(sys.argv[1]), json.loads(sys.argv[2])
model = SentenceTransformer(str(folder), device="cpu")
made = {"query": model.encode_query(texts), "document": model.encode_document(texts), "neither": model.encode(texts)}
prompts = json.loads((folder / "config_sentence_transformers.json").read_text())["prompts"]
for route in ("query", "document"):
    tokens = AutoTokenizer.from_pretrained(folder / route)(
        [prompts[route] + text for text in texts], padding=True, truncation=True, return_tensors="np"
    )
    session = onnxruntime.InferenceSession(folder / route / "model.onnx", providers=["CPUExecutionProvider"])
    taken = {node.name: tokens[node.name] for node in session.get_inputs()}
    (made[f"{route}, onnx"],) = session.run(["sentence_embedding"], taken)
    alone = SentenceTransformer(str(folder / route), device="cpu")
    made[f"{route}, alone"] = alone.encode(texts, prompt=prompts[route])
save_file(made, folder / "found.safetensors")
"""
    run_without_retort(code, str(pair), json.dumps(TEXTS))
    expected = {"query": query.encode_query(TEXTS), "document": document.encode_document(TEXTS)}
    for name, found in load_file(pair / "found.safetensors").items():
        wanted = torch.tensor(expected["query" if name.startswith("query") else "document"])
        torch.testing.assert_close(found, wanted, **EXACT, msg=lambda text, name=name: f"{name}: {text}")
    assert isinstance(SentenceTransformer(str(pair), device="cpu")[0], Router)
    for route, found in (("query", expected["query"]), ("document", expected["document"])):
        ours = SentenceEncoder.from_pretrained(pair, route=route)
        method = ours.encode_query if route == "query" else ours.encode_document
        torch.testing.assert_close(method(TEXTS), torch.tensor(found), **EXACT)


@pytest.mark.promise(9)
def test_a_pair_of_two_sizes_is_refused_and_truncation_is_exact(tokenizer, tmp_path):
    query, document = student_of(tmp_path, tokenizer), teacher_of(tmp_path, tokenizer, width=32)
    with pytest.raises(ValueError, match="queries have 24 dimensions, those of documents 32"):
        save_router(SentenceEncoder.of(query), SentenceEncoder.of(document), tmp_path / "pair")
    assert not (tmp_path / "pair").exists()
    document.truncate_dim = 24
    save_router(SentenceEncoder.of(query), SentenceEncoder.of(document), tmp_path / "pair")
    made = SentenceTransformer(str(tmp_path / "pair"), device="cpu")
    np.testing.assert_allclose(made.encode_query(TEXTS), query.encode_query(TEXTS), atol=1e-5)
    np.testing.assert_allclose(made.encode_document(TEXTS), document.encode_document(TEXTS), atol=1e-5)


# --- The recipe -------------------------------------------------------------------------------------------------------


def recipe(folder, **changes):
    stage = {"embedding_weight": 1, "projector": "linear", "keep_projector": True}
    settings = {
        "teacher": {"model": str(folder / "prompted")},
        "student": {"model": str(folder / "teacher"), "layers": 1, "queries_only": True},
        "data": {
            "train_files": [str(folder / "corpus.txt")],
            "query_files": [str(folder / "queries.txt")],
            "max_length": 20,
        },
        "arguments": {"use_cpu": True, "disable_tqdm": True, "per_device_train_batch_size": 8, "max_steps": 2} | stage,
        "stages": [
            {"name": "documents", "arguments": {"teacher_prompt_name": "document", "fit_projector": True}},
            {"name": "queries", "data": "queries", "arguments": {"teacher_prompt_name": "query"}},
        ],
        "evaluation": {"retrieval": {"toy": str(folder / "pairs.tsv")}},
        "output_dir": str(folder / "by-leaf"),
    }
    return settings | changes


def written(folder, **changes):
    (folder / "leaf.yaml").write_text(yaml.safe_dump(recipe(folder, **changes)))
    return str(folder / "leaf.yaml")


@pytest.fixture(scope="module")
def prompted(folder, tokenizer):
    teacher_of(folder, tokenizer).save(str(folder / "prompted"), create_model_card=False)
    (folder / "queries.txt").write_text("\n".join(test_examples.SENTENCES[::2]))
    pairs = zip(tiny.sentences(24, seed=14), tiny.sentences(24, seed=15), strict=True)
    (folder / "pairs.tsv").write_text("\n".join(["source\ttarget", *map("\t".join, pairs)]))
    return folder


def test_a_recipe_reports_the_pair_that_it_saves(prompted, capsys):
    assert main(["distill", written(prompted)]) == 0
    assert "encode_query" in capsys.readouterr().out
    report = json.loads((prompted / "by-leaf/report.json").read_text())
    assert [row["name"] for row in report["rows"]] == ["prompted", "student"]
    assert "Documents are encoded by the teacher" in report["measured"]
    rows = [line.split("\t") for line in (prompted / "pairs.tsv").read_text().splitlines()[1:]]
    queries, documents = ([row[side] for row in rows] for side in (0, 1))
    pair = SentenceTransformer(str(prompted / "by-leaf/router"), device="cpu")
    alone = SentenceTransformer(str(prompted / "by-leaf"), device="cpu")
    alone.max_seq_length = 20
    teacher = SentenceTransformer(str(prompted / "prompted"), device="cpu")
    np.testing.assert_allclose(pair.encode_document(TEXTS), teacher.encode_document(TEXTS), atol=1e-5)
    for row, model in zip(report["rows"], (teacher, pair), strict=True):
        expected = retrieval_scores(model.encode_query(queries), model.encode_document(documents))["mrr@10"]
        assert row["quality"]["toy MRR@10"] == pytest.approx(expected, abs=1e-6)
    expected = retrieval_scores(alone.encode_query(queries), alone.encode_document(documents))["mrr@10"]
    assert report["rows"][1]["quality"]["toy MRR@10, own documents"] == pytest.approx(expected, abs=1e-6)


@pytest.mark.promise(9)
def test_students_that_do_not_fit_their_teachers_documents_are_refused(prompted, capsys):
    first, second = recipe(prompted)["stages"]
    output = {"output_dir": str(prompted / "refused")}
    for change, message in (
        ({"stages": [first, second | {"arguments": {}}]}, "Set teacher_prompt_name: query in this stage."),
        (
            {"stages": [first, first | {"name": "more", "arguments": {}}]},
            "Stages with the same data need the same prompt",
        ),
    ):
        assert message in refused(["distill", written(prompted, **change, **output), "--dry_run"], capsys)
    for change, message in (
        (
            {"arguments": {"teacher_prompt_name": "question"}},
            "teacher_prompt_name is question, but the teacher has no such",
        ),
        ({"arguments": second["arguments"] | {"eval_strategy": "steps"}}, "Leave eval_strategy out in this stage."),
        ({"arguments": second["arguments"] | {"embedding_weight": 0, "similarity_weight": 1}}, "Set embedding_weight."),
        (
            {"arguments": second["arguments"] | {"truncate_dims": [16], "keep_projector": False}},
            "shorten the vectors of queries, but not",
        ),
    ):
        changed = written(prompted, stages=[first, second | change], **output)
        assert message in refused(["distill", changed, "--dry_run"], capsys)
    dropped = ["distill", written(prompted, **output), "arguments.keep_projector=false", "--dry_run"]
    assert "stages.documents drops its projector" in refused(dropped, capsys)
    with pytest.raises(ValueError, match="queries_only: documents are encoded by the teacher"):
        parse_recipe(recipe(prompted, teacher={"vectors": "x", "name": "n"}))
    with pytest.raises(ValueError, match=r"queries needs data\.query_files"):
        parse_recipe(recipe(prompted, data={"train_files": ["x"]}))
    assert not (prompted / "refused").exists()
