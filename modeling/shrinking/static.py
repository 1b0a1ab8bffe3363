"""Builds students of static token vectors: each token alone through the teacher."""

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from ..architectures.static import StaticConfig, StaticModel, static_tokenizer
from ..batching import map_batches
from ..encoding import SentenceEncoder, SentenceModules, TokenLayout
from ..vocabularies import spell, vocabulary_size
from .embeddings import project_embeddings

# Weight of a token of probability p: SIF / (SIF + p), eq. 1 of Arora, Liang & Ma 2017 (https://openreview.net/forum?
# id=SyK00v5xx). The value is model2vec's.
SIF = 1e-4

BATCH_SIZE = 256


@torch.no_grad()
def static_student(
    teacher: SentenceEncoder,
    *,
    hidden_size: int | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    progress: bool = False,
) -> SentenceEncoder:
    """Build a student without layers, as model2vec does (https://github.com/MinishLab/model2vec): the embedding of a
    text is the mean of its tokens' vectors.

    The vector of a token is the teacher's embedding of the token alone, with the teacher's prompt. Frequent tokens get
    shorter vectors, so that they weigh less in a mean. Their frequencies are estimated by Zipf's law from their ids,
    since tokenizers list frequent tokens first. The vector of the unknown token is zero.

    Args:
        teacher: an encoder of any kind; it is not changed.
        hidden_size: width of the token vectors, at most that of the teacher's embeddings. Narrower vectors are their
            principal components, without the mean vector. None keeps the teacher's width.
        tokenizer: the student's tokenizer. Its tokens are spelled by the teacher's, and a token without a spelling has
            a zero vector. None for the teacher's tokenizer.
        progress: show a progress bar.

    Returns:
        The student in float32 on the CPU, with a tokenizer that adds no special tokens. It pools by `"mean"`, has the
        teacher's maximal length, and normalises if the teacher does.

    Raises:
        ValueError: `hidden_size` is below 1 or above the teacher's width; the teacher is static itself; or a tokenizer
            is slow.
    """
    student = static_outline(teacher, hidden_size=hidden_size, tokenizer=tokenizer)
    spelled, embeddings = _token_embeddings(teacher, tokenizer or teacher.tokenizer, progress)
    vectors, unknown = student.model.embeddings, student.tokenizer.unk_token_id
    if vectors.shape[1] < teacher.embedding_size:
        embeddings = project_embeddings(embeddings, vectors.shape[1], "pca")
    vectors[spelled] = embeddings
    vectors *= _weights(len(vectors))[:, None]
    if unknown is not None:
        vectors[unknown] = 0
    return student


def static_outline(
    teacher: SentenceEncoder, *, hidden_size: int | None = None, tokenizer: PreTrainedTokenizerBase | None = None
) -> SentenceEncoder:
    """The student of `static_student` with zero vectors, without a run of the teacher."""
    if isinstance(teacher.model, StaticModel):
        raise ValueError("The teacher has static token vectors itself. Train a copy of it: student.model in a recipe.")
    width = teacher.embedding_size if hidden_size is None else hidden_size
    if not 1 <= width <= teacher.embedding_size:
        raise ValueError(
            f"hidden_size={hidden_size}, but the teacher's embeddings have {teacher.embedding_size} dimensions. Choose "
            f"1 to {teacher.embedding_size}, or leave it out."
        )
    own = tokenizer or teacher.tokenizer
    student_tokenizer = static_tokenizer(own)
    sizes = {"vocab_size": vocabulary_size(own), "hidden_size": width}
    special = {"unk_token_id": student_tokenizer.unk_token_id, "pad_token_id": student_tokenizer.pad_token_id}
    model = StaticModel(StaticConfig(**sizes, **special))
    torch.nn.init.zeros_(model.embeddings)
    plain = SentenceModules.plain("mean", teacher.max_length, normalize=teacher.modules.normalizes)
    return SentenceEncoder(model.eval(), student_tokenizer, plain)


def _token_embeddings(
    teacher: SentenceEncoder, tokenizer: PreTrainedTokenizerBase, progress: bool
) -> tuple[list[int], Tensor]:
    """The tokens of a tokenizer that the teacher can spell, and its embedding of each: `[spelled, embedding_size]`,
    float32 on the CPU."""
    if tokenizer is teacher.tokenizer:
        pieces = [[token] for token in range(vocabulary_size(tokenizer))]
    else:
        spelling = spell(tokenizer, teacher.tokenizer)
        pieces = [part.tolist() for part in spelling.pieces.split(spelling.counts.tolist())]
    before, after = _around_a_text(teacher)
    spelled = [token for token, ids in enumerate(pieces) if ids]
    rows = [{"input_ids": [*before, *pieces[token], *after]} for token in spelled]

    def of_batch(chosen: list[int], inputs: dict[str, Tensor]) -> Tensor:
        layout = TokenLayout.from_lengths([len(rows[row]["input_ids"]) for row in chosen], packed=False)
        return teacher.embed(inputs, layout.to(teacher.model.device)).float().cpu()

    label = "Tokens" if progress else None
    made = map_batches(of_batch, rows, teacher.model, teacher.tokenizer, batch_size=BATCH_SIZE, progress=label)
    return spelled, torch.stack(made)


def _around_a_text(encoder: SentenceEncoder) -> tuple[list[int], list[int]]:
    """The token ids before and after a text: special tokens and the default prompt."""
    prompt = encoder.modules.prompt()
    encoding = encoder.tokenizer(prompt or "a").encodings[0]
    added = encoding.special_tokens_mask
    first, last = added.index(0), len(added) - added[::-1].index(0)
    return encoding.ids[: last if prompt else first], encoding.ids[last:]


def _weights(tokens: int) -> Tensor:
    """Weights of tokens that are sorted by frequency, `[tokens]`."""
    by_rank = 1 / torch.arange(2, tokens + 2, dtype=torch.float64)
    return (SIF / (SIF + by_rank / by_rank.sum())).float()
