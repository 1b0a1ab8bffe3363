"""Builds students: smaller models of the teacher's architecture, initialised from the teacher's weights."""

import os
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Literal

import torch
import transformers
from torch import Tensor
from transformers import AutoConfig, AutoModel, PreTrainedModel, PreTrainedTokenizerBase

from ..anatomy import encoder_layers
from ..loading import AUTO_CLASSES, head_of
from ..modes import gathered
from .depth import LAYER_INITS, layer_groups, with_layers
from .draft import Draft
from .embeddings import EMBEDDING_INITS
from .probe import check_outputs, check_respelled, require_encoder
from .recurrence import RANDOM, with_recurrence
from .vocabulary import shared_tokens, spell_for, with_vocabulary
from .width import with_widths


@torch.no_grad()
def shrink(
    teacher: PreTrainedModel | str | os.PathLike,
    *,
    layers: int | Sequence[int] | None = None,
    layer_init: Literal["select", "average"] = "select",
    hidden_size: int | None = None,
    intermediate_size: int | None = None,
    num_attention_heads: int | None = None,
    recurrent_steps: int | None = None,
    embedding_size: int | None = None,
    embedding_init: Literal["svd", "pca", "cut", "random"] = "svd",
    tokenizer: PreTrainedTokenizerBase | None = None,
    teacher_tokenizer: PreTrainedTokenizerBase | None = None,
    piece_counts: Tensor | None = None,
    freeze_embeddings: bool = False,
) -> PreTrainedModel:
    """Build a student from a teacher: fewer layers, narrower layers, or both.

    Works with any encoder whose layers are in one list, and with any task head. Both models run on a few tokens and
    their outputs are compared before the student is returned; with its own tokenizer, on tokens that both have. A
    student as deep and as wide as its teacher computes exactly the same. `shrinking.width` describes what a narrower
    student keeps, and `embeddings.narrow_embeddings` how its word vectors are computed.

    Args:
        teacher: a model, or a folder or hub id, which is loaded with the task head that it was saved with. It is not
            changed and shares no memory with the student. Parameters that DeepSpeed has sharded are gathered.
        layers: number of the teacher's layers to keep, evenly spaced and including the first and the last one (3 of 6:
            0, 2, 5); or their indices in order: `[0, 2, 4]`, `range(3)` for the first three, `range(-3, 0)` for the
            last three. None keeps all.
        layer_init: `"select"`; or `"average"`, which splits the teacher's layers into `layers` runs of consecutive
            layers of nearly equal length and averages each run. If layers have different attention (ModernBERT), an
            averaged layer has the attention of the first one in its run.
        hidden_size: width of the hidden states, at most the teacher's. Factorised word embeddings (ELECTRA) keep
            their width.
        intermediate_size: width of the feed-forward layers, at most the teacher's.
        num_attention_heads: number of heads. By default heads keep the teacher's head size if it divides
            `hidden_size`, else the teacher's number of heads if it does. Each head is cut from one of the teacher's.
        recurrent_steps: number of times that the student's layers run in a forward pass: three layers and four steps
            run as ABC ABC ABC ABC. Turns a BERT, RoBERTa or XLM-RoBERTa into a `RecurrentBert`.
        embedding_size: width of factorised word embeddings, which a linear map without bias projects to the hidden
            size; also makes a `RecurrentBert`. The factors are a truncated SVD of the teacher's word embeddings.
        embedding_init: how narrower word embeddings are computed from the teacher's: by truncated `"svd"`, by centred
            `"pca"`, or `"cut"` to the same channels as all other weights. No effect at full width. With
            `embedding_size`, `"random"` initialises the whole embedding layer at random, positions and norm included,
            as in Ding et al. 2022 (arXiv:2209.05869).
        tokenizer: the student's own tokenizer. The word embedding of each of its tokens is the mean of those of the
            teacher's pieces that spell it. The same holds for an output layer over the vocabulary.
        teacher_tokenizer: the teacher's tokenizer; needed with `tokenizer`.
        piece_counts: `[teacher's tokens]`, the count of each token in some text (see `collators.count_tokens`), as
            weights of the pieces in a mean. None weights them equally.
        freeze_embeddings: don't train the word embeddings, nor an output layer tied to them.

    Returns:
        A model of the teacher's class, or a `RecurrentBert` for its task, in float32 on the CPU and in evaluation mode,
        as from `from_pretrained`. All parameters are trainable except frozen embeddings.

    Raises:
        ValueError: the student can't be built; the message names possible values.
        TypeError: the teacher is neither a `PreTrainedModel` nor a folder or hub id.
    """
    embedding_inits = EMBEDDING_INITS if embedding_size is None else (*EMBEDDING_INITS, RANDOM)
    choices = [("layer_init", layer_init, LAYER_INITS), ("embedding_init", embedding_init, embedding_inits)]
    for name, given, known in choices:
        if given not in known:
            raise ValueError(f"Unknown {name}={given!r}. Choose one of {', '.join(known)}.")
    if not isinstance(teacher, PreTrainedModel):
        teacher = _load(teacher)
    with gathered(teacher):
        require_encoder(teacher)
        draft = Draft.of(teacher)
        groups = None if layers is None else layer_groups(layers, layer_init, len(encoder_layers(teacher)))
        draft = shallower = with_layers(draft, groups)
        spelling = spell_for(draft, tokenizer, teacher_tokenizer, piece_counts)
        draft = respelled = with_vocabulary(draft, tokenizer, spelling, piece_counts)
        width_init = "cut" if embedding_init == RANDOM else embedding_init
        draft = with_widths(draft, hidden_size, intermediate_size, num_attention_heads, width_init)
        draft = with_recurrence(draft, recurrent_steps, embedding_size, embedding_init)
        if draft is shallower or groups is not None:
            student = shallower.build()
            check_outputs(student, teacher, groups)
        if spelling is not None:
            pairs = shared_tokens(spelling, tokenizer, teacher_tokenizer)
            # The teacher is gathered already. A second time, its parameters would be freed too early.
            with nullcontext() if groups is None else gathered(student):
                reference = teacher if groups is None else student
                student = respelled.build()
                check_respelled(student, reference, pairs)
        if draft is not respelled:
            student = draft.build()
    if freeze_embeddings:
        student.get_input_embeddings().weight.requires_grad_(False)
    return student


def _load(name: str | os.PathLike) -> PreTrainedModel:
    """Load a teacher with the task head that it was saved with."""
    if not isinstance(name, str | os.PathLike):
        raise TypeError(
            f"The teacher is a {type(name).__name__}, but shrink needs a transformers PreTrainedModel, a folder or a "
            "hub id. Unwrap the model first, and merge its adapters."
        )
    config = AutoConfig.from_pretrained(name)
    if not config.architectures:
        return _load_bare(name)
    architecture = config.architectures[0]
    if hasattr(transformers, architecture):
        return getattr(transformers, architecture).from_pretrained(name)
    auto_class = AUTO_CLASSES.get(head_of(architecture), AutoModel)
    known = auto_class._model_mapping.get(type(config), None)
    if known is None or known.__name__ != architecture:
        raise ValueError(
            f"The configuration of {name} names {architecture} as its architecture, which transformers doesn't "
            "have. Load the teacher yourself and pass the model to shrink."
        )
    return auto_class.from_pretrained(name)


def _load_bare(name: str | os.PathLike) -> PreTrainedModel:
    """Load an encoder whose configuration names no class."""
    model, report = AutoModel.from_pretrained(name, output_loading_info=True)
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if report[kind]:
            raise ValueError(
                f"The configuration of {name} names no architecture, and its weights are not those of a "
                f"{type(model).__name__} ({kind.replace('_', ' ')}: {sorted(map(str, report[kind]))[0]}). Load the "
                "teacher yourself and pass the model to shrink."
            )
    return model
