"""Builds XtremeDistil's bidirectional LSTM as the student of a fine-tuned teacher."""

from typing import Literal

import torch
from transformers import PreTrainedModel

from ..architectures.bilstm import (
    BiLstmConfig,
    BiLstmForSequenceClassification,
    BiLstmForTokenClassification,
    BiLstmPreTrainedModel,
)
from ..loading import head_of
from ..modes import gathered
from .embeddings import PRINCIPAL_INITS, project_embeddings

HEADS = {
    "ForTokenClassification": BiLstmForTokenClassification,
    "ForSequenceClassification": BiLstmForSequenceClassification,
}


@torch.no_grad()
def bilstm_student(
    teacher: PreTrainedModel,
    *,
    embedding_size: int = 300,
    lstm_hidden_size: int = 600,
    layers: int = 1,
    embedding_init: Literal["svd", "pca"] = "svd",
    freeze_embeddings: bool = False,
    seed: int = 42,
) -> BiLstmPreTrainedModel:
    """Build the student of XtremeDistil (Mukherjee & Awadallah 2020, https://arxiv.org/abs/2004.05686).

    It has the teacher's vocabulary, classes and kind of head, and narrower word embeddings computed from the teacher's.
    Its layers, projector and classifier are initialised at random. The projector makes its top hidden state as wide as
    the teacher's, so the two can be compared directly (`layer_map="last"`).

    Args:
        teacher: a fine-tuned model with a token or sequence classification head. It is not changed and shares no
            memory with the student. Parameters that DeepSpeed has sharded are gathered.
        embedding_size: width of the word embeddings, at most the teacher's.
        lstm_hidden_size: width of the LSTM's state in each direction.
        layers: number of bidirectional layers.
        embedding_init: how the teacher's word embeddings are narrowed (see `embeddings.project_embeddings`): by
            truncated `"svd"`, or by centred `"pca"`, which loses their mean.
        freeze_embeddings: don't train the word embeddings.
        seed: seed of the random weights. The global random state is not changed.

    Returns:
        A student in float32 on the CPU, in evaluation mode as from `from_pretrained`.

    Raises:
        ValueError: a size is below 1, the word embeddings are wider than the teacher's, `embedding_init` is unknown, or
            the teacher has another head.
    """
    if embedding_init not in PRINCIPAL_INITS:
        raise ValueError(f"Unknown embedding_init={embedding_init!r}. Choose one of {', '.join(PRINCIPAL_INITS)}.")
    sizes = {"embedding_size": embedding_size, "lstm_hidden_size": lstm_hidden_size, "layers": layers}
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name}={size}, but must be at least 1.")
    architecture = HEADS.get(head_of(type(teacher).__name__))
    if architecture is None:
        raise ValueError(
            f"The teacher is a {type(teacher).__name__}, but a BiLSTM student needs a teacher with a token or sequence "
            "classification head. Load the fine-tuned teacher with AutoModelForTokenClassification or "
            "AutoModelForSequenceClassification."
        )
    with gathered(teacher):
        words = teacher.get_input_embeddings().weight.detach()
        vocab_size, width = words.shape
        if embedding_size > width:
            raise ValueError(
                f"embedding_size={embedding_size}, but the word embeddings of {type(teacher).__name__} are {width} "
                f"wide and can't be widened. Choose at most {width}."
            )
        narrow = project_embeddings(words, embedding_size, embedding_init).cpu()
    config = BiLstmConfig(
        vocab_size=vocab_size,
        embedding_size=embedding_size,
        lstm_hidden_size=lstm_hidden_size,
        num_hidden_layers=layers,
        hidden_size=teacher.config.hidden_size,
        pad_token_id=teacher.config.pad_token_id,
        id2label=dict(teacher.config.id2label),
        label2id=dict(teacher.config.label2id),
        problem_type=teacher.config.problem_type,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        student = architecture(config).eval()
    student.get_input_embeddings().weight.copy_(narrow)
    student.get_input_embeddings().weight.requires_grad_(not freeze_embeddings)
    return student
