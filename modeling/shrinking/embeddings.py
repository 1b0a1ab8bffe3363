"""Narrows word embeddings and keeps the similarities between words."""

import torch
from torch import Tensor

PRINCIPAL_INITS = ("svd", "pca")
EMBEDDING_INITS = (*PRINCIPAL_INITS, "cut")
# Words per chunk in float64: a vocabulary of 250,000 would take gigabytes at once.
CHUNK = 16384


def narrow_embeddings(words: Tensor, channels: Tensor, embedding_init: str) -> Tensor:
    r"""Narrow a teacher's word vectors to the channels that a student keeps.

    `"svd"` is the best approximation of rank k to the Gram matrix `E E^T` of the word vectors, and so to their norms,
    dot products and cosines (Eckart and Young, 1936): the rows of `U_k S_k = E V_k`, where `E = U S V^T`. `"pca"` does
    the same for `E` minus its mean vector, as XtremeDistil (https://arxiv.org/abs/2004.05686) did; the mean is lost.
    `"cut"` selects the channels.

    Rotating all vectors doesn't change the Gram matrix. But a student's positions, norms and layers expect the
    teacher's channels in their order, so the vectors are rotated towards these: `E V_k R`, with the orthogonal `R` that
    minimises `||E V_k R - E[:, channels]||` (Schönemann, 1966).

    Args:
        words: `[vocabulary, hidden]`, any floating dtype.
        channels: `[k]`, ascending indices of the hidden channels that the student keeps.
        embedding_init: one of `EMBEDDING_INITS`.

    Returns:
        `[vocabulary, k]`, float32.
    """
    channels = channels.to(words.device)
    if embedding_init == "cut":
        return words.index_select(1, channels).float()
    mean = words.mean(0, dtype=torch.float64) * (embedding_init == "pca")
    values, vectors = _principal_axes(words, mean, len(channels))
    # (E V_k)^T E[:, channels] = S_k^2 V_k^T[:, channels], so the orthogonal Procrustes problem needs no word vectors.
    left, _, right = torch.linalg.svd(values[:, None] * vectors[channels].T)
    return (words.float() - mean.float()) @ (vectors @ (left @ right)).float()


def factorise_embeddings(words: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Factorise a table of word vectors by the best approximation of rank k (Eckart and Young, 1936).

    Args:
        words: `[vocabulary, hidden]`, any floating dtype.
        size: k, at most `hidden`.

    Returns:
        `E V_k` `[vocabulary, k]` and `V_k` `[hidden, k]`, float32. `words` is approximately `(E V_k) V_k^T`. The
        columns are sorted by singular value, the largest first.
    """
    _, vectors = _principal_axes(words, words.new_zeros((), dtype=torch.float64), size)
    vectors = vectors.flip(1).float()
    return words.float() @ vectors, vectors


def project_embeddings(words: Tensor, size: int, embedding_init: str) -> Tensor:
    """Narrow a teacher's word vectors for a student whose layers don't come from the teacher.

    Such layers expect no order of the channels, so the vectors are `E V_k` without the rotation in
    `narrow_embeddings`. The columns are sorted by singular value, the largest first.

    Args:
        words: `[vocabulary, hidden]`, any floating dtype.
        size: k, at most `hidden`.
        embedding_init: one of `PRINCIPAL_INITS`.

    Returns:
        `[vocabulary, k]`, float32.
    """
    centred = words.float() - words.mean(0, dtype=torch.float64).float() if embedding_init == "pca" else words
    return factorise_embeddings(centred, size)[0]


def _principal_axes(words: Tensor, mean: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` largest eigenvalues of `E^T E`, ascending, and their eigenvectors `[hidden, count]`.

    `E` is the word vectors minus `mean`, `[hidden]` or 0.
    """
    gram = torch.zeros(words.shape[1], words.shape[1], dtype=torch.float64, device=words.device)
    for chunk in words.split(CHUNK):
        centred = chunk.double() - mean
        gram.addmm_(centred.T, centred)
    eigenvalues, eigenvectors = torch.linalg.eigh(gram)
    return eigenvalues[-count:], eigenvectors[:, -count:]
