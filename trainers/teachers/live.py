"""Live teachers: frozen models in eval mode, outside the student's modules, run without gradients."""

import math
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from functools import partial

import torch
from accelerate import Accelerator
from transformers import PreTrainedModel

from ...collators import Batch
from ...data import fingerprint_model, fingerprint_sentence_encoder
from ...modeling.encoding import (
    EncoderOutput,
    OutputRequest,
    SentenceEncoder,
    TokenLayout,
    encode,
    refuse_block_sparse,
    require_bidirectional,
)
from ..arguments import DistillTrainingArguments
from ..objectives import Dimensions
from .sharded import FullyShardedTeacher, shard_by_zero


class LiveTeacher:
    """Runs one model, or several whose outputs are averaged.

    Args:
        teachers: the models. They are frozen and put in eval mode, and not changed otherwise. The embeddings of a
            `SentenceEncoder` use its own modules, regardless of the pooler in the request.
        request: the outputs to return. Layers above the topmost requested one, and heads that are not requested, are
            not run.
        weights: weight of each teacher in the average; scaled to sum to 1. Default: equal.
        autocast: autocast dtype for float32 teachers, such as bfloat16.
        stop_early: False for engines that need complete forward passes (ZeRO-3, FSDP2).
        forwards: for each teacher, a function that is called like `encode` without its model. Default: `encode`.

    Raises:
        ValueError: there is not one weight for each teacher; embeddings of a causal model without known pooling are
            requested; or a model has block-sparse attention.
    """

    def __init__(
        self,
        teachers: Sequence[PreTrainedModel | SentenceEncoder],
        request: OutputRequest,
        *,
        weights: Sequence[float] | None = None,
        autocast: torch.dtype | None = None,
        stop_early: bool = True,
        forwards: Sequence[Callable[..., EncoderOutput]] | None = None,
    ):
        weights = [1.0] * len(teachers) if weights is None else list(weights)
        if len(weights) != len(teachers) or not all(0 <= each < math.inf for each in weights) or not any(weights):
            raise ValueError(
                f"teacher_weights={weights}: weights: {len(weights)}, teachers: {len(teachers)}. Give "
                "each teacher one weight, finite and from 0, not all 0; or leave them out for equal weights."
            )
        for teacher in teachers:
            refuse_block_sparse(model_of(teacher), "a teacher")
        self.encoders = list(teachers)
        self.models = [model_of(teacher).requires_grad_(False).eval() for teacher in teachers]
        for teacher in teachers:
            if isinstance(teacher, SentenceEncoder):
                teacher.modules.head.requires_grad_(False).eval()
            elif request.pooler:
                require_bidirectional(teacher, f"a teacher that is pooled by {request.pooler!r}")
        self.weights = [weight / sum(weights) for weight in weights]
        self.request = request
        self.autocast = autocast
        self.stop_early = stop_early
        self.forwards = forwards
        self.dimensions = common_dimensions(teachers)

    @torch.no_grad()
    def outputs(self, batch: Batch) -> EncoderOutput:
        """The teacher's outputs for one batch, on the batch's device, without gradients.

        Raises:
            ValueError: embeddings are requested, and a row has more tokens than a sentence-transformers teacher's
                maximum length.
        """
        inputs, layout = batch.of_teacher
        self._check_lengths(layout)
        forwards = self.forwards or [partial(encode, model) for model in self.models]
        results = []
        for teacher, model, forward in zip(self.encoders, self.models, forwards, strict=True):
            makes_embedding = isinstance(teacher, SentenceEncoder) and self.request.pooler is not None
            request = replace(self.request, pooler=teacher.pooling()) if makes_embedding else self.request
            model.eval()  # other code that shares the model may have called train()
            precision = self.precision_of(model)
            with torch.autocast(layout.lengths.device.type, dtype=precision, enabled=precision != model.dtype):
                results.append(forward(inputs, layout, request, stop_early=self.stop_early))
            if makes_embedding:
                results[-1].embedding = teacher.modules.finish(results[-1].embedding)
        return results[0] if len(results) == 1 else weighted_mean(results, self.weights)

    def _check_lengths(self, layout: TokenLayout) -> None:
        """Refuse too long rows that were not checked before: those of a stream, or of the user's own collator."""
        limits = [teacher.max_length for teacher in self.encoders if isinstance(teacher, SentenceEncoder)]
        # The width is known on the host, and no row is longer. Only if it is too large, wait for the device.
        if self.request.pooler and limits and layout.width > min(limits):
            longest = int(layout.lengths.max())
            if longest > min(limits):
                raise ValueError(f"A row of the batch has {too_long(longest, min(limits))}")

    def precision_of(self, model: PreTrainedModel) -> torch.dtype:
        """The dtype in which one of the models computes."""
        return self.autocast if self.autocast is not None and model.dtype == torch.float32 else model.dtype


def model_of(teacher: PreTrainedModel | SentenceEncoder) -> PreTrainedModel:
    """The model of a teacher, without its modules."""
    return teacher.model if isinstance(teacher, SentenceEncoder) else teacher


def _dimensions(teacher: PreTrainedModel | SentenceEncoder) -> Dimensions:
    found = Dimensions.of(model_of(teacher).config)
    return replace(found, embedding_size=teacher.embedding_size) if isinstance(teacher, SentenceEncoder) else found


def common_dimensions(teachers: Sequence[PreTrainedModel | SentenceEncoder]) -> Dimensions:
    """The dimensions of several teachers, which must agree for their outputs to be averaged."""
    found = set(map(_dimensions, teachers))
    if len(found) > 1:
        raise ValueError(
            "Outputs of several teachers are averaged, so the teachers must agree in depth, width, heads, labels and "
            "vocabulary, but they are: " + "; ".join(map(str, found))
        )
    return found.pop()


def fingerprint_teacher(teacher: PreTrainedModel | SentenceEncoder, *, pools: bool) -> str:
    """Hash of a teacher's weights and configuration, and of its modules if embeddings are computed."""
    if pools and isinstance(teacher, SentenceEncoder):
        return fingerprint_sentence_encoder(teacher)
    return fingerprint_model(model_of(teacher))


def weighted_mean(results: list[EncoderOutput], weights: list[float]) -> EncoderOutput:
    """Average the outputs of several teachers."""

    def mean(parts):
        if parts[0] is None:
            return None
        if isinstance(parts[0], dict):
            return {key: mean([part[key] for part in parts]) for key in parts[0]}
        return sum(weight * part.float() for weight, part in zip(weights, parts, strict=True))

    return EncoderOutput(**{f.name: mean([getattr(r, f.name) for r in results]) for f in fields(EncoderOutput)})


def place_teacher(
    teachers: Sequence[PreTrainedModel | SentenceEncoder],
    request: OutputRequest,
    args: DistillTrainingArguments,
    accelerator: Accelerator,
) -> LiveTeacher:
    """A `LiveTeacher` of these models, each on this rank's device, or sharded over all ranks."""

    models = [model_of(teacher) for teacher in teachers]
    forwards = None
    if not args.shard_teacher:
        for model in models:
            model.to(args.device)
    elif args.deepspeed:
        for model in models:
            shard_by_zero(model, accelerator)
    else:
        forwards = [FullyShardedTeacher(model, args.device) for model in models]
    return LiveTeacher(
        teachers,
        request,
        weights=args.teacher_weights,
        autocast=args.compute_dtype,
        stop_early=not args.shard_teacher,
        forwards=forwards,
    )


def too_long(length: int, longest: int) -> str:
    """The end of an error about a row of `length` tokens, for a teacher with the maximum length `longest`."""
    return (
        f"{length} tokens, but the teacher truncates texts to {longest} tokens (max_seq_length), as "
        f"SentenceTransformer does: pass max_length={longest} to tokenize() or tokenize_groups(), or load the "
        "SentenceTransformer yourself and raise its max_seq_length."
    )
