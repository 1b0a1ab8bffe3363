"""Retrieval against brute force, hand-computed cases and ties."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator

from retort.evaluation import own_document_ranks, retrieval_scores
from retort.evaluation.sentences import bitext_hits, distinct


def brute_force_ranks(queries, documents):
    """The rank of document i among all for query i; documents that are as similar come first."""
    ranks = []
    for i, query in enumerate(queries):
        cosines = [query @ d / (np.linalg.norm(query) * np.linalg.norm(d)) for d in documents]
        ranks.append(1 + sum(cosine > cosines[i] - 1e-6 for j, cosine in enumerate(cosines) if j != i))
    return ranks


# Small integers make many exact ties, and no two different cosines that a rounding could mix up.
def matrices(rows):
    values = hnp.arrays(np.float64, (rows, 3), elements=st.integers(-2, 2).map(float))
    return values.filter(lambda matrix: np.all(np.abs(matrix).sum(1) > 0))


@settings(max_examples=60)
@given(data=st.data(), queries=st.integers(1, 9), distractors=st.integers(0, 5))
def test_ranks_are_those_of_brute_force_whatever_the_chunks(data, queries, distractors):
    q, d = data.draw(matrices(queries)), data.draw(matrices(queries + distractors))
    chunks = {name: data.draw(st.integers(1, 12), label=name) for name in ("query_chunk", "document_chunk")}
    assert own_document_ranks(q, d, **chunks).tolist() == brute_force_ranks(q, d)


def test_scores_of_known_ranks():
    # Query i is axis 0; its own document is at rank i + 1 of 12, for documents turn away from axis 0 one by one.
    angles = torch.linspace(0, 1.2, 12)
    documents = torch.stack([angles.cos(), angles.sin()], 1)
    queries = torch.tensor([[5.0, 0.0]]).expand(12, 2)
    assert own_document_ranks(queries, documents).tolist() == list(range(1, 13))
    assert retrieval_scores(queries, documents) == pytest.approx(
        {"mrr@10": sum(1 / rank for rank in range(1, 11)) / 12, "recall@1": 1 / 12, "recall@10": 10 / 12}
    )


def test_a_document_of_several_queries_is_one_document():
    answers = ["a", "b", "a", "c", "b", "a"]
    first, own = distinct(answers)
    assert [answers[row] for row in first] == ["a", "b", "c"]
    assert [answers[first[place]] for place in own] == answers
    embeddings = torch.eye(3)[[own]]
    assert retrieval_scores(embeddings, embeddings)["recall@1"] == pytest.approx(1 / 6)  # copies are as similar
    assert retrieval_scores(embeddings, embeddings[first], own) == {"mrr@10": 1, "recall@1": 1, "recall@10": 1}
    questions = [f"{each}?" for each in range(6)]
    forth, back = bitext_hits(embeddings, embeddings, (questions, answers))
    assert forth.all()
    assert back.tolist() == [False, False, False, True, False, False]  # other questions are as similar


def test_scores_agree_with_sentence_transformers():
    generator = torch.Generator().manual_seed(1)
    documents = torch.randn(60, 8, generator=generator)
    queries = documents + 1.5 * torch.randn(60, 8, generator=generator)
    names = [str(i) for i in range(60)]

    class Model:
        """Answers with the prepared vectors."""

        similarity_fn_name = None
        model_card_data = None

        def encode_query(self, texts, **kwargs):
            return queries[[int(text) for text in texts]]

        def encode_document(self, texts, **kwargs):
            return documents[[int(text) for text in texts]]

    evaluator = InformationRetrievalEvaluator(
        dict(zip(names, names, strict=True)),
        dict(zip(names, names, strict=True)),
        {name: {name} for name in names},
        main_score_function="cosine",
        show_progress_bar=False,
        write_csv=False,
        score_functions={"cosine": lambda a, b: torch.nn.functional.cosine_similarity(a[:, None], b[None], dim=-1)},
    )
    theirs = evaluator.compute_metrices(Model())["cosine"]
    ours = retrieval_scores(queries, documents)
    assert 0 < ours["recall@1"] < 1
    assert ours == pytest.approx(
        {"mrr@10": theirs["mrr@k"][10], "recall@1": theirs["recall@k"][1], "recall@10": theirs["recall@k"][10]}
    )


def test_a_model_that_embeds_all_texts_alike_is_last_everywhere():
    alike = torch.ones(50, 7) + 1e-9 * torch.randn(50, 7, generator=torch.Generator().manual_seed(0))
    assert own_document_ranks(alike, alike).tolist() == [50] * 50


def test_ranks_do_not_depend_on_the_precision_of_float32_products():
    # With bfloat16 products these two documents could not be told apart.
    queries, documents = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.01], [1.0, 0.012]])
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        assert own_document_ranks(queries, documents).tolist() == [1]
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.promise(9)
@pytest.mark.parametrize("own", [[0, 1, 2], [0, 1, -1], [0, 1], [True, False, True], [0.0, 1.0, 1.0], [[0], [1], [1]]])
def test_a_document_that_does_not_exist_is_an_error(own):
    with pytest.raises(ValueError, match=r"needs a document|own must hold the row of each of the 3 queries' documents"):
        own_document_ranks(torch.eye(3), torch.eye(3)[:2], own)


def test_rows_of_documents_may_be_of_any_integer_type():
    for kind in (np.uint8, np.int16, np.int64):
        assert own_document_ranks(torch.eye(4), torch.eye(4), np.array([1, 2, 3, 1], kind)).tolist() == [4] * 4


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("queries", "documents", "message"),
    [
        ((3, 4), (2, 4), "needs a document"),
        ((3, 4), (3, 5), "same dimension"),
        ((3,), (3, 4), r"queries must be a matrix \[rows, dim\]"),
        ((0, 4), (3, 4), "at least one row"),
    ],
)
def test_shapes_that_do_not_match_are_errors(queries, documents, message):
    with pytest.raises(ValueError, match=message):
        retrieval_scores(torch.ones(queries), torch.ones(documents))


@pytest.mark.promise(9)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_embeddings_without_direction_are_errors_that_name_the_row(value):
    documents = torch.ones(5, 3)
    documents[3] = value
    with pytest.raises(ValueError, match=r"1 of 5 rows of documents .* row 3"):
        retrieval_scores(torch.ones(5, 3), documents)


def test_a_zero_vector_is_similar_to_nothing_and_no_error(caplog):
    documents = torch.eye(4)
    documents[3] = 0
    assert own_document_ranks(torch.eye(4), documents).tolist() == [1, 1, 1, 4]
    assert own_document_ranks(documents, torch.eye(4)).tolist() == [1, 1, 1, 4]
    assert "1 of 4 rows of documents contain only zeros (first: row 3)" in caplog.text
