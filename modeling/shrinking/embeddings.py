"""Narrower word embeddings that keep what the teacher's say about how words relate."""

import torch
from torch import Tensor

PRINCIPAL_INITS = ("svd", "pca")
EMBEDDING_INITS = (*PRINCIPAL_INITS, "cut")
# Words taken at a time in float64: all 250,000 of a vocabulary would be gigabytes.
CHUNK = 16384


def narrow_embeddings(words: Tensor, channels: Tensor, embedding_init: str) -> Tensor:
    r"""Narrow a teacher's word vectors to the channels that a student keeps.

    `"svd"` keeps the Gram matrix `E E^T` of the word vectors, hence their norms, dot products and cosines, as well as
    any matrix of that rank can (Eckart and Young, 1936): with `E = U S V^T`, the rows of `U_k S_k = E V_k`. `"pca"`
    does the same for `E` less its mean vector, as XtremeDistil (https://arxiv.org/abs/2004.05686) did; the mean is
    lost. `"cut"` takes the channels as they are.

    A Gram matrix doesn't change when all its vectors are rotated, but a student's positions, norms and layers expect
    the teacher's channels in their places. So the vectors are turned onto those: `E V_k R`, with the orthogonal `R`
    that minimises `||E V_k R - E[:, channels]||` (Schönemann, 1966).

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
    # (E V_k)^T E[:, channels] = S_k^2 V_k^T[:, channels]: the orthogonal Procrustes problem needs no word vector.
    left, _, right = torch.linalg.svd(values[:, None] * vectors[channels].T)
    return (words.float() - mean.float()) @ (vectors @ (left @ right)).float()


def factorise_embeddings(words: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Write a table of word vectors as a product, as near to it as one of that rank can be (Eckart and Young, 1936).

    Args:
        words: `[vocabulary, hidden]`, any floating dtype.
        size: k, at most `hidden`.

    Returns:
        `E V_k` `[vocabulary, k]` and `V_k` `[hidden, k]`, float32: `words` is about the first times the second
        transposed. Columns come by their weight, the heaviest first.
    """
    _, vectors = _principal_axes(words, words.new_zeros((), dtype=torch.float64), size)
    vectors = vectors.flip(1).float()
    return words.float() @ vectors, vectors


def project_embeddings(words: Tensor, size: int, embedding_init: str) -> Tensor:
    """Narrow a teacher's word vectors for a student whose layers don't come from the teacher.

    Its channels have no place to keep: the columns of `E V_k` come by their weight, the heaviest first. Otherwise as
    `narrow_embeddings`, whose truncated SVD and PCA they are.

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

    `E` is the word vectors less `mean`, `[hidden]` or 0.
    """
    gram = torch.zeros(words.shape[1], words.shape[1], dtype=torch.float64, device=words.device)
    for chunk in words.split(CHUNK):
        centred = chunk.double() - mean
        gram.addmm_(centred.T, centred)
    eigenvalues, eigenvectors = torch.linalg.eigh(gram)
    return eigenvalues[-count:], eigenvectors[:, -count:]
