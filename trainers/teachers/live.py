"""The teacher: frozen, in eval, outside the student's modules, run without gradients, and no further than asked."""

import copy
from collections.abc import Sequence
from dataclasses import fields, replace

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
    require_bidirectional,
)
from ..arguments import DistillTrainingArguments
from ..objectives import Dimensions


class LiveTeacher:
    """Runs one model, or several whose outputs are averaged.

    Args:
        teachers: they are frozen and put in eval; nothing else about them changes. A `SentenceEncoder` makes its own
            embeddings, whatever pooler the request names.
        request: what to return. No layer above the deepest one asked for is run, nor a head that no one asked for.
        weights: of each teacher in the average; scaled to sum to 1. Default: equal.
        autocast: number format to which float32 teachers are cast for a forward pass, as the student is under bf16.
        stop_early: False for engines that count on a forward pass running to its end (ZeRO-3 shards).

    Raises:
        ValueError: weights that are not one for each teacher; embeddings of a causal model that nothing says how to
            pool.
    """

    def __init__(
        self,
        teachers: Sequence[PreTrainedModel | SentenceEncoder],
        request: OutputRequest,
        *,
        weights: Sequence[float] | None = None,
        autocast: torch.dtype | None = None,
        stop_early: bool = True,
    ):
        weights = [1.0] * len(teachers) if weights is None else list(weights)
        if len(weights) != len(teachers) or min(weights) < 0 or sum(weights) == 0:
            raise ValueError(
                f"{len(teachers)} teachers need as many weights, none below 0, not all 0, but teacher_weights="
                f"{weights}."
            )
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
        self.dimensions = common_dimensions(teachers)

    @torch.no_grad()
    def outputs(self, batch: Batch) -> EncoderOutput:
        """The teacher's outputs for one batch, on the batch's device, without gradients.

        Raises:
            ValueError: embeddings of a row of more tokens than a sentence-transformers teacher cuts texts at.
        """
        inputs, layout = batch.of_teacher
        self._check_lengths(layout)
        results = []
        for teacher, model in zip(self.encoders, self.models, strict=True):
            makes_embedding = isinstance(teacher, SentenceEncoder) and self.request.pooler is not None
            request = replace(self.request, pooler=teacher.pooling()) if makes_embedding else self.request
            model.eval()  # whoever shares the model may have called train() since
            precision = self.precision_of(model)
            with torch.autocast(layout.lengths.device.type, dtype=precision, enabled=precision != model.dtype):
                results.append(encode(model, inputs, layout, request, stop_early=self.stop_early))
            if makes_embedding:
                results[-1].embedding = teacher.modules.finish(results[-1].embedding)
        return results[0] if len(results) == 1 else weighted_mean(results, self.weights)

    def _check_lengths(self, layout: TokenLayout) -> None:
        """Refuse rows that no dataset was looked at for: those of a stream, or of a collator of the user's."""
        limits = [teacher.max_length for teacher in self.encoders if isinstance(teacher, SentenceEncoder)]
        # The width is known on the host, and no row is longer. The device is waited for where it is too large alone.
        if self.request.pooler and limits and layout.width > min(limits):
            longest = int(layout.lengths.max())
            if longest > min(limits):
                raise ValueError(f"A row of the batch has {too_long(longest, min(limits))}")

    def precision_of(self, model: PreTrainedModel) -> torch.dtype:
        """The number format in which one of the models computes."""
        return self.autocast if self.autocast is not None and model.dtype == torch.float32 else model.dtype


def model_of(teacher: PreTrainedModel | SentenceEncoder) -> PreTrainedModel:
    """The model itself."""
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
    """A name of a teacher; where embeddings are made, also of the modules that make them."""
    if pools and isinstance(teacher, SentenceEncoder):
        return fingerprint_sentence_encoder(teacher)
    return fingerprint_model(model_of(teacher))


def weighted_mean(results: list[EncoderOutput], weights: list[float]) -> EncoderOutput:
    """Average every output of several passes."""

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
    """A teacher of all of them, each whole on this rank's device, or sharded over all ranks."""

    def place(teacher: PreTrainedModel | SentenceEncoder) -> PreTrainedModel | SentenceEncoder:
        model = model_of(teacher)
        placed = _shard_over_ranks(model, accelerator) if args.shard_teacher else model.to(args.device)
        return SentenceEncoder(placed, teacher.tokenizer, teacher.modules) if teacher is not model else placed

    return LiveTeacher(
        [place(teacher) for teacher in teachers],
        request,
        weights=args.teacher_weights,
        autocast=args.compute_dtype,
        stop_early=not args.shard_teacher,
    )


def _shard_over_ranks(model: PreTrainedModel, accelerator: Accelerator) -> torch.nn.Module:
    """Shard a frozen teacher under ZeRO-3, one slice on each rank.

    After TRL's `prepare_deepspeed`: the student's configuration without what only training needs (an offloaded
    optimizer crashes here, https://github.com/huggingface/trl/pull/5916), and with bucket sizes as plain integers,
    since "auto" has not been resolved at this point.
    """
    import deepspeed

    config = copy.deepcopy(accelerator.state.deepspeed_plugin.deepspeed_config)
    for training_only in ("optimizer", "scheduler"):
        config.pop(training_only, None)
    zero = config["zero_optimization"]
    zero.pop("offload_optimizer", None)
    width = model.config.hidden_size
    zero |= {
        "reduce_bucket_size": width * width,
        "stage3_param_persistence_threshold": 10 * width,
        "stage3_prefetch_bucket_size": width * width,
    }
    engine, *_ = deepspeed.initialize(model=model, config=config)
    return engine.module


def too_long(length: int, longest: int) -> str:
    """The end of an error about a row of `length` tokens, where the teacher makes embeddings of at most `longest`."""
    return (
        f"{length} tokens, but the teacher cuts texts at {longest} (max_seq_length), as SentenceTransformer does: pass "
        f"max_length={longest} to tokenize() or tokenize_groups(), or raise max_seq_length of a SentenceTransformer "
        "that is handed over."
    )
