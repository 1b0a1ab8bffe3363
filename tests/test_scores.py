"""Scores as a teacher: the losses against sentence-transformers', groups of any size, and what is refused."""

from functools import cache

import pytest
import tiny
import torch
from datasets import Dataset, IterableDataset
from safetensors.torch import load_file
from sentence_transformers import CrossEncoder, SentenceTransformer
from sentence_transformers.cross_encoder.losses import MSELoss
from sentence_transformers.sentence_transformer.losses import DistillKLDivLoss, MarginMSELoss
from sentence_transformers.util import pairwise_cos_sim, pairwise_dot_score
from steps import gradient_of, step_of

from retort import ContrastiveTrainer, ContrastiveTrainingArguments, DistillTrainer, shrink, tokenize
from retort.data import as_rankings, mine_negatives, pairs_of, read_groups, tokenize_groups
from retort.modeling.encoding import SentenceEncoder
from retort.trainers import score_groups
from retort.trainers.teachers.cache_files import StaleCacheError

ALONE = {"contrastive_weight": 0.0}
MARGIN, LISTWISE = ALONE | {"margin_weight": 1.0}, ALONE | {"listwise_weight": 1.0}


def rankings(sizes, seed=0):
    """Queries with as many documents as `sizes` say, and scores."""
    texts = iter(tiny.sentences(sum(sizes) + len(sizes), seed=seed))
    generator = torch.Generator().manual_seed(seed)
    rows = [
        {
            "query": next(texts),
            "documents": [next(texts) for _ in range(size)],
            "scores": (5 * torch.randn(size, generator=generator)).tolist(),
        }
        for size in sizes
    ]
    return Dataset.from_list(rows)


@cache
def tokenised(sizes, tokenizer):
    return tokenize_groups(rankings(sizes), tokenizer)


def make_trainer(folder, tokenizer, data, **settings):
    defaults = {"max_steps": 4, "learning_rate": 3e-3, "save_strategy": "no"}
    args = tiny.arguments(folder, ContrastiveTrainingArguments, **defaults | settings)
    return ContrastiveTrainer(tiny.model(), args=args, train_dataset=data, processing_class=tokenizer)


def value_and_gradient(trainer, rows, embeddings):
    """Of the one objective, by embeddings that are given: `[texts of all rows, features]`."""
    (batch,), _ = step_of(trainer, rows)
    places = torch.cat(
        [row[: len(trainer.train_dataset[i]["members"])] for i, row in zip(rows, batch.groups, strict=True)]
    )
    given = embeddings.clone().requires_grad_()
    sorted_ = torch.zeros_like(embeddings).index_copy(0, places, given)  # as the batch has them
    (objective,) = trainer.objectives
    values = objective.values(sorted_, None, batch)
    (gradient,) = torch.autograd.grad(values.mean(), given)
    return values.detach(), gradient


# --- The losses -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("similarity", "tau"), [("dot", 1.0), ("cosine", 0.05), ("cosine", 0.2)])
@pytest.mark.parametrize("documents", [2, 5])
@pytest.mark.parametrize("kind", ["margin", "listwise"])
def test_loss_and_gradient_are_those_of_sentence_transformers(kind, documents, similarity, tau, tokenizer, tmp_path):
    data = tokenised((documents,) * 6, tokenizer)
    weights = MARGIN if kind == "margin" else LISTWISE | {"temperature": 2.0}
    settings = {"score_similarity": similarity, "score_temperature": None if tau in (1.0, 0.05) else tau}
    trainer = make_trainer(tmp_path, tokenizer, data, **weights | settings)
    embeddings = torch.randn(6 * (documents + 1), 8, generator=torch.Generator().manual_seed(1))
    ours, gradient = value_and_gradient(trainer, range(6), embeddings)

    compare = pairwise_cos_sim if similarity == "cosine" else pairwise_dot_score

    def scores(queries, others):
        return compare(queries, others) / tau

    reference = MarginMSELoss(None, scores) if kind == "margin" else DistillKLDivLoss(None, scores, temperature=2.0)
    given = embeddings.clone().requires_grad_()
    columns = list(given.view(6, documents + 1, -1).unbind(1))
    expected = reference.compute_loss_from_embeddings(columns, torch.tensor(data["scores"][:]))
    torch.testing.assert_close(ours.mean(), expected.detach(), rtol=1e-5, atol=1e-5)
    (expected_gradient,) = torch.autograd.grad(expected, given)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
@pytest.mark.parametrize("weights", [MARGIN, LISTWISE], ids=["margin", "listwise"])
def test_a_query_s_loss_does_not_depend_on_how_many_documents_others_have(weights, similarity, tokenizer, tmp_path):
    sizes = (2, 5, 3, 7)
    trainer = make_trainer(tmp_path, tokenizer, tokenised(sizes, tokenizer), score_similarity=similarity, **weights)
    texts = [size + 1 for size in sizes]
    embeddings = torch.randn(sum(texts), 8, generator=torch.Generator().manual_seed(1))
    values, gradient = value_and_gradient(trainer, range(4), embeddings)
    assert gradient.isfinite().all()
    for row, (own, theirs) in enumerate(zip(embeddings.split(texts), gradient.split(texts), strict=True)):
        (value,), alone = value_and_gradient(trainer, [row], own)
        torch.testing.assert_close(values[row], value)
        torch.testing.assert_close(theirs, alone / 4)


@pytest.mark.parametrize("weights", [MARGIN, LISTWISE], ids=["margin", "listwise"])
def test_sigmoids_are_turned_back_into_logits(weights, tokenizer, tmp_path):
    sizes = (3, 4, 2)
    data = rankings(sizes)
    squashed = data.map(lambda row: {"scores": torch.tensor(row["scores"]).sigmoid().tolist()})
    embeddings = torch.randn(sum(sizes) + 3, 8, generator=torch.Generator().manual_seed(1))
    results = [
        value_and_gradient(
            make_trainer(tmp_path, tokenizer, tokenize_groups(rows, tokenizer), score_activation=kind, **weights),
            range(3),
            embeddings,
        )
        for rows, kind in ((data, "logits"), (data, None), (squashed, "sigmoid"))
    ]
    for value, gradient in results[1:]:
        torch.testing.assert_close(value, results[0][0], rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(gradient, results[0][1], rtol=1e-3, atol=1e-4)


@pytest.mark.promise(4)
@pytest.mark.parametrize("weights", [MARGIN, LISTWISE], ids=["margin", "listwise"])
def test_neither_padding_nor_the_batch_size_of_evaluation_changes_the_loss(weights, tokenizer, tmp_path):
    data = tokenised((2, 5, 3, 4, 2, 6), tokenizer)
    losses = []
    for settings in ({}, {"attention_backend": "padded"}, {"per_device_eval_batch_size": 1}):
        trainer = make_trainer(tmp_path, tokenizer, data, **weights | settings)
        losses.append(trainer.evaluate(data)["eval_loss"])
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-5)


def test_predictions_of_ragged_groups_are_padded_whatever_the_batch_size(tokenizer, tmp_path):
    sizes = (2, 5, 3, 4, 2, 6)
    data = tokenised(sizes, tokenizer)
    made = [
        make_trainer(tmp_path, tokenizer, data, per_device_eval_batch_size=size, **MARGIN).predict(data).predictions
        for size in (8, 2)
    ]
    torch.testing.assert_close(*map(torch.from_numpy, made), rtol=1e-5, atol=1e-5)
    for row, size in enumerate(sizes):
        assert (made[0][row, size + 1 :] == -100).all()
        assert (made[0][row, : size + 1] > -100).all()


@pytest.mark.promise(3)
def test_micro_batches_of_ragged_groups_have_the_gradient_of_one_large_batch(tokenizer, tmp_path):
    data = tokenised((2, 5, 3, 4, 2, 6, 3, 3), tokenizer)
    trainer = make_trainer(tmp_path, tokenizer, data, **MARGIN | {"listwise_weight": 1.0})
    parts = gradient_of(trainer, range(3), range(3, 4), range(4, 8))
    torch.testing.assert_close(parts, gradient_of(trainer, range(8)), rtol=1e-4, atol=1e-5)


# --- A run ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", [MARGIN, LISTWISE], ids=["margin", "listwise"])
def test_a_student_learns_the_order_of_its_teacher(weights, tokenizer, tmp_path):
    data = tokenised((4,) * 16, tokenizer)
    trainer = make_trainer(tmp_path, tokenizer, data, **weights | {"max_steps": 60, "per_device_train_batch_size": 16})
    assert not trainer.model.dropout, "a teacher's scores are a teacher"

    def agreement():
        vectors = torch.nn.functional.normalize(torch.tensor(trainer.predict(data).predictions), dim=-1)
        found = (vectors[:, 1:] @ vectors[:, 0, :, None])[..., 0].argmax(-1)
        return (found == torch.tensor(data["scores"][:]).argmax(-1)).float().mean().item()

    before = agreement()
    trainer.train()
    assert agreement() > max(0.8, before + 0.2)


@pytest.mark.promise(2)
def test_a_resumed_run_ends_with_the_same_weights(tokenizer, tmp_path):
    data = tokenised((2, 5, 3, 4, 2, 6, 3, 3) * 4, tokenizer)
    settings = MARGIN | {"listwise_weight": 0.5, "max_steps": 6, "save_steps": 3, "save_strategy": "steps"}
    whole = make_trainer(tmp_path / "run", tokenizer, data, **settings)
    whole.train()
    resumed = make_trainer(tmp_path / "run", tokenizer, data, **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-3"))
    expected, found = whole.model.state_dict(), resumed.model.state_dict()
    assert [name for name in expected if not torch.equal(expected[name], found[name])] == []


def test_scores_and_contrast_are_learnt_together_from_groups_of_one_size(tokenizer, tmp_path):
    trainer = make_trainer(tmp_path, tokenizer, tokenised((3,) * 16, tokenizer), margin_weight=1.0, max_steps=2)
    trainer.train()
    assert {"loss_positives", "loss_margin", "alignment"} <= trainer.state.log_history[0].keys()


@pytest.mark.promise(5)
@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_the_exported_student_scores_as_it_was_trained_to(similarity, tokenizer, tmp_path):
    data = rankings((3,) * 8)
    rows = tokenize_groups(data, tokenizer)
    trainer = make_trainer(tmp_path, tokenizer, rows, score_similarity=similarity, **MARGIN)
    trainer.train()
    trainer.save_model()
    exported = SentenceTransformer(str(tmp_path), device="cpu")
    assert exported.similarity_fn_name == similarity
    queries, documents = exported.encode(data["query"][:]), exported.encode([row[0] for row in data["documents"]])
    found = exported.similarity_pairwise(queries, documents)
    (batch,), _ = step_of(trainer, range(8))
    with torch.no_grad():
        vectors = trainer.model(batch.student, batch.layout).encoder.embedding[batch.groups]
    compare = torch.nn.functional.cosine_similarity if similarity == "cosine" else lambda a, b: (a * b).sum(-1)
    torch.testing.assert_close(found, compare(vectors[:, 0], vectors[:, 1]), rtol=1e-5, atol=1e-5)
    card = (tmp_path / "README.md").read_text()
    assert "MarginMSE" in card
    assert "hofstaetter2020margin" in card


# --- What is refused --------------------------------------------------------------------------------------------------


def with_scores(*scores):
    return {"query": ["a cat"] * len(scores), "documents": [["the cat"] * len(row) for row in scores], "scores": scores}


GOOD = [3.0, -1.0]
REFUSED = {
    "a single document": (with_scores(GOOD, [1.0]), {}, "row 1 has a single document"),
    "constant scores": (with_scores(GOOD, GOOD, [2.0, 2.0, 2.0]), {}, "row 2 has 3 documents that all score 2"),
    "other counts": (
        with_scores(GOOD) | {"documents": [["a", "b", "c"]]},
        {},
        "row 0 has 2 scores for 3 documents",
    ),
    "not finite": (with_scores(GOOD, [float("nan"), 1.0]), {}, "row 1 has a score that is not finite"),
    "within 0..1": (with_scores([0.9, 0.1], [0.4, 0.2]), {}, r"all scores lie in 0.1..0.9.*score_activation='sigmoid'"),
    "no sigmoids": (
        with_scores([0.9, 0.1], [0.4, 0.2, 1.5]),
        {"score_activation": "sigmoid"},
        "row 1 has the score 1.5, which is not the sigmoid of a finite logit",
    ),
    "a rounded sigmoid": (
        with_scores([1.0, 0.1]),
        {"score_activation": "sigmoid"},
        "row 0 has the score 1, .* clip them",
    ),
    "no scores": ({"query": ["a"], "documents": [["b", "c"]]}, {}, "needs a teacher's scores, but there is no column"),
    "ragged contrast": (
        with_scores(GOOD, [3.0, 2.0, 1.0]),
        {"contrastive_weight": 1.0},
        "row 1 has 4 texts and row 0 has 3.*contrastive_weight=0",
    ),
}


@pytest.mark.promise(9)
@pytest.mark.parametrize("side", ["training", "evaluation"])
@pytest.mark.parametrize("name", REFUSED)
def test_scores_that_mean_nothing_are_refused_with_the_row(name, side, tokenizer, tmp_path):
    columns, settings, message = REFUSED[name]
    rows = tokenize_groups(Dataset.from_dict(columns), tokenizer)
    args = tiny.arguments(tmp_path, ContrastiveTrainingArguments, **MARGIN | settings)
    right = rankings((2,) * 8)
    if "score_activation" in settings:
        right = right.map(lambda row: {"scores": torch.tensor(row["scores"]).sigmoid().tolist()})
    sets = {"train_dataset": tokenize_groups(right, tokenizer), "eval_dataset": None}
    sets |= {"train_dataset" if side == "training" else "eval_dataset": rows}
    with pytest.raises(ValueError, match=f"The {side} rows: .*{message}"):
        ContrastiveTrainer(tiny.model(), args=args, processing_class=tokenizer, **sets)


@pytest.mark.promise(9)
def test_single_texts_have_no_scores(tokenizer, tmp_path):
    rows = tokenize(Dataset.from_dict({"text": tiny.sentences(8)}), tokenizer)
    with pytest.raises(ValueError, match=r"training rows: .*no column 'scores'"):
        make_trainer(tmp_path, tokenizer, rows, **MARGIN)


@pytest.mark.promise(9)
@pytest.mark.parametrize(("name", "message"), [("a single document", "Row 1"), ("constant scores", "Row 2")])
def test_rows_of_a_stream_are_refused_by_the_collator(name, message, tokenizer, tmp_path):
    rows = list(tokenize_groups(Dataset.from_dict(REFUSED[name][0]), tokenizer))
    stream = IterableDataset.from_generator(lambda: iter(rows))
    with pytest.raises(ValueError, match="score_activation='logits' or 'sigmoid'"):
        make_trainer(tmp_path, tokenizer, stream, **MARGIN)
    trainer = make_trainer(tmp_path, tokenizer, stream, score_activation="logits", **MARGIN)
    with pytest.raises(ValueError, match=message):
        trainer.train()


def test_a_stream_of_ragged_groups_is_not_compared_by_contrast(tokenizer, tmp_path):
    rows = list(tokenised((2, 3) * 4, tokenizer))
    trainer = make_trainer(tmp_path, tokenizer, IterableDataset.from_generator(lambda: iter(rows)))
    with pytest.raises(ValueError, match="contrastive_weight needs groups of equal size"):
        trainer.train()


@pytest.mark.promise(9)
def test_a_temperature_of_zero_is_refused(tmp_path):
    with pytest.raises(ValueError, match="score_temperature=0"):
        tiny.arguments(tmp_path, ContrastiveTrainingArguments, score_temperature=0.0)


# --- Reading ----------------------------------------------------------------------------------------------------------


def test_queries_with_documents_and_scores_are_read(tmp_path, caplog):
    (tmp_path / "groups.jsonl").write_text(
        '{"scores": [3, -1.5], "query": "a cat", "documents": ["the cat", "a dog"]}\n'
        '{"scores": [3, 1], "query": "a cat", "documents": ["the cat", " "]}\n'
    )
    found = read_groups([tmp_path / "groups.jsonl"])
    assert found.to_list() == [{"query": "a cat", "documents": ["the cat", "a dog"], "scores": [3.0, -1.5]}]
    assert "1 of 2 rows hold an empty text" in caplog.text
    renamed = rankings((2, 3)).rename_columns({"query": "q", "documents": "d", "scores": "s"})
    renamed.to_parquet(tmp_path / "other.parquet")
    found = read_groups([tmp_path / "other.parquet"], columns=["q", "d", "s"])
    assert found["documents"][:] == renamed["d"][:]


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    "row",
    [
        '{"query": "a cat", "documents": [1, 2]}',
        '{"query": "a cat", "documents": ["the cat"], "scores": ["high"]}',
        '{"query": "a cat", "documents": ["the cat"], "scores": 3.0}',
        '{"query": 3, "documents": ["the cat"]}',
    ],
)
def test_other_documents_and_scores_are_refused(row, tmp_path):
    (tmp_path / "groups.jsonl").write_text(row + "\n")
    with pytest.raises(ValueError, match=r"groups\.jsonl: a query must be a text, its documents a list of texts"):
        read_groups([tmp_path / "groups.jsonl"])


def test_the_columns_may_stand_in_any_order(tokenizer):
    data = rankings((2, 3))
    other = data.select_columns(["scores", "documents", "query"])
    assert tokenize_groups(other, tokenizer).to_dict() == tokenize_groups(data, tokenizer).to_dict()
    texts = zip(data["query"], data["documents"], strict=True)
    for row, (query, documents) in zip(tokenize_groups(data, tokenizer), texts, strict=True):
        assert row["members"] == [tokenizer(text)["input_ids"] for text in (query, *documents)]
    with pytest.raises(ValueError, match="there must be only a query"):
        tokenize_groups(data.add_column("id", ["1", "2"]), tokenizer)


def test_groups_become_rankings_and_pairs():
    triplets = Dataset.from_dict({"anchor": ["a", "b"], "positive": ["c", "d"], "negative": ["e", "f"]})
    assert as_rankings(triplets).to_dict() == {"query": ["a", "b"], "documents": [["c", "e"], ["d", "f"]]}
    pairs = pairs_of(Dataset.from_dict({"query": ["a"], "documents": [["b", "c"]], "scores": [[1.0, 2.0]]}))
    assert pairs.to_dict() == {"query": ["a", "a"], "document": ["b", "c"], "score": [1.0, 2.0]}
    with pytest.raises(ValueError, match="the rows have only the column text"):
        as_rankings(Dataset.from_dict({"text": ["a"]}))


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([[1.0], [1.0, 2.0], [1.0, 2.0, 3.0]], r"Row 2 \(from 1\): .* 3 documents and 2 scores"),
        ([None, [1.0, 2.0, 3.0], [1.0, 2.0]], r"Row 1 \(from 1\): .* 1 documents and 0 scores"),
        ([[1.0], [1.0, 2.0, 3.0], [1.0, None]], r"Row 3 \(from 1\): .* finite numbers, but are \[1.0, None"),
        ([[1.0], [1.0, float("nan"), 3.0], [1.0, 2.0]], r"Row 2 \(from 1\): scores must be finite numbers"),
    ],
    ids=["equal totals", "null", "null in a list", "nan"],
)
def test_a_row_without_a_score_for_each_document_makes_no_pairs(scores, message):
    rows = {"query": ["a", "b", "c"], "documents": [["d"], ["e", "f", "g"], ["h", "i"]], "scores": scores}
    with pytest.raises(ValueError, match=message):
        pairs_of(Dataset.from_dict(rows))


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"query": ["a"], "documents": ["a cat"]}, r"documents must be of type List\(string\), but is Value\('string'"),
        ({"query": ["a"], "documents": [[1]]}, r"must be of type List\(string\), but is List\(Value\('int64'"),
        ({"documents": [["a cat"]]}, "query must be of type string, but is missing"),
        ({"query": ["a"], "document": ["b"], "score": [0.5]}, "score must be of type string, but is Value"),
    ],
)
def test_only_texts_are_queries_and_documents(columns, message):
    with pytest.raises(ValueError, match=message):
        as_rankings(Dataset.from_dict(columns))


# --- Mining and scoring -----------------------------------------------------------------------------------------------


def test_the_nearest_documents_of_others_are_mined(tokenizer, monkeypatch):
    encoder = SentenceEncoder(tiny.model(), tokenizer, tiny.surrounding())
    queries = tiny.sentences(8, seed=1)
    queries.append(queries[0])  # the first has two rows
    groups = Dataset.from_dict({"query": queries, "positive": tiny.sentences(9, seed=2)})
    monkeypatch.setattr("retort.data.rankings._COSINES", 30)  # several chunks
    mined = mine_negatives(groups, encoder, 3)
    asked, given = (encoder.encode(groups[name][:]).double() for name in ("query", "positive"))
    for row, found in enumerate(mined):
        own = {groups["positive"][i] for i in range(9) if queries[i] == queries[row]}
        order = (given @ asked[row]).argsort(descending=True).tolist()
        expected = [groups["positive"][i] for i in order if groups["positive"][i] not in own][:3]
        assert found == {"query": queries[row], "documents": [groups["positive"][row], *expected]}
    with pytest.raises(ValueError, match="1 to 7 of the 9 documents"):
        mine_negatives(groups, encoder, 8)


def test_a_query_is_not_mined_for_itself(tokenizer):
    encoder = SentenceEncoder(tiny.model(), tokenizer, tiny.surrounding())
    texts = tiny.sentences(6, seed=1)
    groups = Dataset.from_dict({"query": texts, "positive": [*texts[1:], texts[0]]})  # each is a document, too
    mined = mine_negatives(groups, encoder, 4)
    assert all(sorted(row["documents"]) == sorted(set(texts) - {row["query"]}) for row in mined)
    with pytest.raises(ValueError, match="1 to 4 of the 6 documents"):
        mine_negatives(groups, encoder, 5)


def cross_encoder(seed=0, **sizes):
    return tiny.model(task="sequence", seed=seed, labels=1, **sizes)


def test_scores_are_those_of_a_cross_encoder_and_are_computed_once(tokenizer, tmp_path, monkeypatch):
    teacher = cross_encoder()
    teacher.save_pretrained(tmp_path / "teacher")
    tokenizer.save_pretrained(tmp_path / "teacher")
    groups = rankings((3, 2, 5)).select_columns(["query", "documents"])
    scored = score_groups(groups, tmp_path / "teacher", tmp_path / "cache", batch_size=4)
    pairs = [(query, text) for query, documents in zip(*groups.to_dict().values(), strict=True) for text in documents]
    reference = CrossEncoder(str(tmp_path / "teacher"), device="cpu", activation_fn=torch.nn.Identity())
    found = torch.cat([torch.tensor(scores) for scores in scored["scores"]])
    torch.testing.assert_close(found, torch.from_numpy(reference.predict(pairs)), rtol=1e-5, atol=1e-5)
    assert [len(scores) for scores in scored["scores"]] == [3, 2, 5]
    with monkeypatch.context() as patched:  # read, not computed
        patched.setattr("retort.trainers.teachers.live.LiveTeacher.outputs", None)
        again = score_groups(groups, tmp_path / "teacher", tmp_path / "cache", batch_size=4)
    assert again.to_dict() == scored.to_dict()
    with pytest.raises(StaleCacheError):
        score_groups(groups, cross_encoder(seed=1), tmp_path / "cache", tokenizer=tokenizer)


@pytest.mark.promise(9)
def test_a_teacher_that_gives_no_score_is_refused(tokenizer, tmp_path):
    groups = rankings((3, 2))
    with pytest.raises(ValueError, match="the teacher has 3\\."):
        score_groups(groups, tiny.model(task="sequence"), tmp_path, tokenizer=tokenizer)
    with pytest.raises(ValueError, match="pass its tokenizer"):
        score_groups(groups, cross_encoder(), tmp_path)
    tiny.model(labels=1).save_pretrained(tmp_path / "encoder")
    with pytest.raises(ValueError, match="no weights for classifier"):
        score_groups(groups, tmp_path / "encoder", tmp_path)


# --- Into a small cross-encoder ---------------------------------------------------------------------------------------


def test_a_cross_encoder_is_distilled_pointwise_into_a_smaller_one(tokenizer, tmp_path):
    pairs = pairs_of(rankings((3, 2, 4, 3)))
    rows = tokenize(pairs, tokenizer, text="query", text_pair="document", labels="score")
    teacher = cross_encoder(layers=4)
    student = shrink(teacher, layers=2)
    args = tiny.arguments(tmp_path, logits_weight=1.0, max_steps=3, save_strategy="no")
    trainer = DistillTrainer(student, teacher, args, train_dataset=rows, processing_class=tokenizer)
    (batch,), step = step_of(trainer, range(len(rows)))
    loss = trainer.compute_loss(trainer.model, batch, num_items_in_batch=step)
    trainer.save_model()
    exported = CrossEncoder(str(tmp_path), device="cpu", activation_fn=torch.nn.Identity())
    texts = list(zip(pairs["query"], pairs["document"], strict=True))
    found = torch.from_numpy(exported.predict(texts))
    with torch.no_grad():
        theirs = teacher(**tokenizer([a for a, _ in texts], [b for _, b in texts], padding=True, return_tensors="pt"))
    expected = MSELoss(exported)([[a for a, _ in texts], [b for _, b in texts]], theirs.logits[:, 0])
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert loss.item() == pytest.approx((found - theirs.logits[:, 0]).square().mean().item(), rel=1e-4)
    trainer.train()
    trainer.save_model()
    weights = load_file(tmp_path / "model.safetensors")
    assert weights["classifier.weight"].shape == (1, 32)


def test_a_column_of_scores_teaches_a_cross_encoder(tokenizer, tmp_path):
    rows = tokenize(pairs_of(rankings((3, 2, 4, 3))), tokenizer, text="query", text_pair="document", labels="score")
    args = tiny.arguments(tmp_path, label_weight=1.0, max_steps=3, save_strategy="no", disable_dropout=True)
    trainer = DistillTrainer(cross_encoder(), None, args, train_dataset=rows, processing_class=tokenizer)
    (batch,), step = step_of(trainer, range(8))
    loss = trainer.compute_loss(trainer.model, batch, num_items_in_batch=step)
    with torch.no_grad():
        logits = trainer.model(batch.student, batch.layout).encoder.logits[:, 0]
    assert loss.item() == pytest.approx((logits - batch.labels).square().mean().item(), rel=1e-5)
