"""Agreement, spread and STS against scipy, scikit-learn and cases done by hand."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from sentence_transformers.sentence_transformer.evaluation import EmbeddingSimilarityEvaluator
from sentence_transformers.util import pairwise_cos_sim
from sklearn.metrics.pairwise import cosine_similarity

from retort.evaluation import similarity_agreement, sts_spearman


@pytest.fixture
def vectors():
    generator = torch.Generator().manual_seed(3)
    return torch.randn(30, 6, generator=generator), torch.randn(30, 4, generator=generator)


def off_diagonal(vectors):
    return cosine_similarity(vectors.double())[~np.eye(len(vectors), dtype=bool)]


def test_agreement_is_spearman_over_pairs_of_different_rows(vectors):
    expected = spearmanr(off_diagonal(vectors[0]), off_diagonal(vectors[1])).statistic
    assert similarity_agreement(*vectors) == pytest.approx(expected, abs=1e-12)


def test_a_scaled_and_rotated_student_agrees_fully(vectors):
    rotation = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(4))).Q
    assert similarity_agreement(vectors[0].double(), 3 * vectors[0].double() @ rotation.double()) == pytest.approx(1)


def test_agreement_takes_what_sentence_transformers_returns(vectors):
    teacher, student = vectors
    assert similarity_agreement(teacher.numpy(), student.numpy()) == similarity_agreement(teacher, student)


def test_sts_is_spearman_of_cosine_and_gold(vectors):
    first, second = vectors[0], vectors[0].flip(1)
    gold = torch.randint(0, 6, (30,), generator=torch.Generator().manual_seed(5)).tolist()
    cosines = [cosine_similarity(a[None], b[None]).item() for a, b in zip(first, second, strict=True)]
    assert sts_spearman(first, second, gold) == pytest.approx(spearmanr(cosines, gold).statistic, abs=1e-12)


def test_sts_agrees_with_sentence_transformers(vectors):
    prepared = {f"{side}{i}": vector for side in (0, 1) for i, vector in enumerate((vectors[0], vectors[0] ** 2)[side])}

    class Model:
        """Answers with the prepared vectors."""

        similarity_fn_name = "cosine"
        model_card_data = type("Card", (), {"set_evaluation_metrics": lambda *args: None})()

        def encode(self, texts, **kwargs):
            return torch.stack([prepared[text] for text in texts])

    gold = torch.rand(30, generator=torch.Generator().manual_seed(6)).tolist()
    evaluator = EmbeddingSimilarityEvaluator(
        [f"0{i}" for i in range(30)], [f"1{i}" for i in range(30)], gold, main_similarity="cosine", write_csv=False
    )
    theirs = evaluator(Model())["spearman_cosine"]
    assert sts_spearman(vectors[0], vectors[0] ** 2, gold) == pytest.approx(theirs, abs=1e-6)


def test_a_zero_vector_has_the_cosine_0_as_in_sentence_transformers(vectors, caplog):
    first, second, gold = vectors[0], vectors[0].flip(1), torch.rand(30, generator=torch.Generator().manual_seed(7))
    first[4], second[4:7] = 0, 0
    expected = spearmanr(pairwise_cos_sim(first.double(), second.double()), gold).statistic
    assert sts_spearman(first, second, gold) == pytest.approx(expected, abs=1e-12)
    assert "1 of 30 rows of first contain only zeros" in caplog.text
    assert "3 of 30 rows of second contain only zeros (first: row 4)" in caplog.text
    assert similarity_agreement(first, first) == pytest.approx(1)


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("gold", "message"),
    [
        ([1.0, float("nan"), 2.0], "second values to correlate contain NaN"),
        ([2.0, 2.0, 2.0], "second values to correlate are all 2: a constant has no order"),
        ([1.0, 2.0], "there are 3, 3 and 2"),
    ],
)
def test_gold_scores_without_order_are_errors(gold, message):
    with pytest.raises(ValueError, match=message):
        sts_spearman(torch.eye(3), torch.eye(3) + torch.rand(3, 3, generator=torch.Generator().manual_seed(0)), gold)


def test_a_collapsed_model_has_no_sts_score():
    alike = torch.tensor([[0.1], [0.3], [0.7]]) * torch.tensor([[1.0, 2.0, 3.0]])
    with pytest.raises(ValueError, match="first values to correlate are all 1"):
        sts_spearman(alike, alike, [1, 2, 3])


def test_agreement_needs_the_same_texts_on_both_sides(vectors):
    with pytest.raises(ValueError, match="teacher has 30 rows and the student 29"):
        similarity_agreement(vectors[0], vectors[1][1:])
