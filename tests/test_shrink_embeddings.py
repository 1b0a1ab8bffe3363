import pytest
import tiny
import torch
from scipy.linalg import orthogonal_procrustes
from sklearn.decomposition import PCA

from retort import shrink
from retort.modeling.shrinking import embeddings
from retort.modeling.shrinking.embeddings import narrow_embeddings

CHANNELS = torch.tensor([0, 3, 4, 7, 10, 11])


def word_vectors(count=50, hidden=12):
    generator = torch.Generator().manual_seed(0)
    mixed = torch.randn(count, hidden, generator=generator) @ torch.randn(hidden, hidden, generator=generator)
    return mixed + 2  # off centre: svd and pca must differ


def gram(vectors):
    return vectors.double() @ vectors.double().T


def truncated_svd(vectors, rank):
    """`U_k S_k` in float64."""
    left, values, _ = torch.linalg.svd(vectors.double(), full_matrices=False)
    return left[:, :rank] * values[:rank]


def test_svd_gives_the_rows_of_the_truncated_svd_up_to_a_rotation():
    words = word_vectors()
    narrow, reference = narrow_embeddings(words, CHANNELS, "svd").double(), truncated_svd(words, 6)
    torch.testing.assert_close(gram(narrow), gram(reference), rtol=0, atol=1e-3)
    rotation = torch.linalg.lstsq(reference, narrow).solution
    torch.testing.assert_close(reference @ rotation, narrow, rtol=0, atol=1e-4)
    torch.testing.assert_close(rotation.T @ rotation, torch.eye(6, dtype=torch.float64), rtol=0, atol=1e-6)


def test_the_rotation_is_the_one_that_comes_nearest_to_the_channels_kept():
    words = word_vectors()
    reference, target = truncated_svd(words, 6), words[:, CHANNELS].double()
    rotation, _ = orthogonal_procrustes(reference.numpy(), target.numpy())
    expected = reference @ torch.from_numpy(rotation)
    torch.testing.assert_close(narrow_embeddings(words, CHANNELS, "svd").double(), expected, rtol=0, atol=1e-4)


def test_svd_keeps_more_of_the_gram_matrix_than_pca_or_a_cut():
    words = word_vectors()
    error = {
        init: (gram(narrow_embeddings(words, CHANNELS, init)) - gram(words)).norm()
        for init in embeddings.EMBEDDING_INITS
    }
    assert error["svd"] < error["cut"]
    assert error["svd"] < error["pca"]
    best = (gram(truncated_svd(words, 6)) - gram(words)).norm()  # Eckart and Young's bound
    assert error["svd"] == pytest.approx(best.item(), rel=1e-5)


def test_pca_gives_the_scores_of_scikit_learn_up_to_a_rotation():
    words = word_vectors()
    scores = torch.from_numpy(PCA(n_components=6, svd_solver="full").fit_transform(words.double().numpy()))
    narrow = narrow_embeddings(words, CHANNELS, "pca")
    torch.testing.assert_close(gram(narrow), gram(scores), rtol=0, atol=1e-3)
    torch.testing.assert_close(narrow.mean(0), torch.zeros(6), rtol=0, atol=1e-5)


def test_a_cut_takes_the_channels_as_they_are():
    words = word_vectors()
    assert torch.equal(narrow_embeddings(words, CHANNELS, "cut"), words[:, CHANNELS])


@pytest.mark.parametrize("embedding_init", ["svd", "pca"])
def test_all_channels_give_the_word_vectors_back(embedding_init):
    words = word_vectors()
    mean = words.mean(0) if embedding_init == "pca" else 0
    torch.testing.assert_close(
        narrow_embeddings(words, torch.arange(12), embedding_init), words - mean, rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("embedding_init", ["svd", "pca"])
def test_a_large_vocabulary_is_projected_in_chunks_of_the_same_result(embedding_init, monkeypatch):
    words = word_vectors()
    whole = narrow_embeddings(words, CHANNELS, embedding_init)
    monkeypatch.setattr(embeddings, "CHUNK", 7)
    torch.testing.assert_close(narrow_embeddings(words, CHANNELS, embedding_init), whole, rtol=0, atol=1e-5)


def test_fewer_words_than_channels_are_no_obstacle():
    words = word_vectors(count=4)
    torch.testing.assert_close(gram(narrow_embeddings(words, CHANNELS, "svd")), gram(words), rtol=0, atol=1e-3)


@pytest.mark.parametrize("family", [family for family in tiny.FAMILIES if family != "electra"])
@pytest.mark.parametrize("embedding_init", ["svd", "pca", "cut"])
def test_a_student_has_the_embeddings_asked_for_and_the_rest_does_not_depend_on_them(family, embedding_init):
    teacher = tiny.model(family, "masked_lm")
    cut = shrink(teacher, hidden_size=16, embedding_init="cut")
    student = shrink(teacher, hidden_size=16, embedding_init=embedding_init)
    words, narrow = teacher.get_input_embeddings().weight, student.get_input_embeddings().weight
    reference = {
        "svd": truncated_svd(words, 16),
        "pca": torch.from_numpy(PCA(n_components=16, svd_solver="full").fit_transform(words.detach().double().numpy())),
        "cut": cut.get_input_embeddings().weight,
    }[embedding_init]
    torch.testing.assert_close(gram(narrow), gram(reference), rtol=0, atol=1e-4)
    assert student.get_output_embeddings().weight is narrow
    differing = {
        name for name, tensor in cut.named_parameters() if not torch.equal(tensor, student.get_parameter(name))
    }
    assert len(differing) == (0 if embedding_init == "cut" else 1)


def test_an_output_layer_of_its_own_is_cut_to_the_channels_kept():
    teacher = tiny.model("bert", "masked_lm", tie_word_embeddings=False)
    student = shrink(teacher, hidden_size=16)
    assert student.get_output_embeddings().weight is not student.get_input_embeddings().weight
    columns = {tuple(column.tolist()) for column in teacher.get_output_embeddings().weight.T}
    assert all(tuple(column.tolist()) in columns for column in student.get_output_embeddings().weight.T)
