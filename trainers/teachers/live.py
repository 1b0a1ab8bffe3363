"""The teacher: frozen, in eval, outside the student's modules, run without gradients, and no further than asked."""

import copy
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

import torch
from accelerate import Accelerator
from peft import PeftConfig, PeftModel
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedModel

from ...collators import Batch
from ...data import fingerprint_model, fingerprint_sentence_encoder
from ...modeling import auto_class_for, head_of
from ...modeling.encoding import (
    EncoderOutput,
    OutputRequest,
    SentenceEncoder,
    SentenceModules,
    TokenLayout,
    encode,
    encoder_subfolder,
    read_sentence_modules,
    require_bidirectional,
)
from ..arguments import DistillTrainingArguments
from ..objectives import Dimensions
from .rows import too_long

# Or a `SentenceTransformer`, of a library that may not be installed.
TeacherSource = PreTrainedModel | SentenceEncoder | PeftModel | str | Path


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


def load_teacher(
    source: TeacherSource, student: PreTrainedModel, args: DistillTrainingArguments
) -> PreTrainedModel | SentenceEncoder:
    """Turn what the user named as a teacher into a model with the student's kind of head.

    Args:
        source: a model; a PEFT model or the folder of an adapter, merged into a copy for the run; a folder or hub id.
            For a student without a head, the folder or id of a sentence-transformers model gives a `SentenceEncoder`.
        student: decides which head the teacher needs.
        args: number format.

    Raises:
        ValueError: the student itself, damaged files, weights that lack the head (which would be random numbers), a
            sentence-transformers model with modules that retort doesn't run, or that pools otherwise than
            `args.teacher_pooler` says.
        FileNotFoundError: a folder without weights.
        OSError: no such folder, and no such model on the Hub.
    """
    # What is asked for is the embedding layer alone (Ding et al. 2022, section 3.2), not an embedding of the teacher's.
    bare = args.teacher_pooler == "mean_first"
    if isinstance(source, SentenceEncoder):
        if bare:
            source = source.model
        else:
            _check_pooler(source, source.modules, args)
    if model_of(source) is student:
        raise ValueError(
            "The teacher is the student itself. Pass a copy, or build the student with shrink(teacher, ...)."
        )
    if isinstance(source, PeftModel):
        return copy.deepcopy(source).merge_and_unload()
    if isinstance(source, PreTrainedModel | SentenceEncoder):
        return source
    folder = ""
    if Path(source, "adapter_config.json").is_file():
        model, missing = _load_adapter(str(source), student, args)
    else:
        folder = encoder_subfolder(source)
        model, missing = _load_pretrained(str(source), student, args, subfolder=folder)
    # Weights of the pooler are missing where encoders average tokens: no harm unless the pooler is asked for.
    pooler = [key for key in missing if ".pooler." in f".{key}"]
    _require_weights(source, student, sorted(set(missing) - set(pooler)))
    embeds = auto_class_for(student) is AutoModel and not bare
    modules = read_sentence_modules(source, model.config) if embeds else None
    if modules is not None:
        _check_pooler(source, modules, args)
    if pooler and (str(modules.pooling) if modules else args.poolers[1]) == "cls":
        _require_weights(source, student, pooler)
    if modules is None:
        return model
    return SentenceEncoder(model, AutoTokenizer.from_pretrained(source, subfolder=folder), modules)


def _check_pooler(source: TeacherSource, modules: SentenceModules, args: DistillTrainingArguments) -> None:
    if args.teacher_pooler not in (None, str(modules.pooling)):
        raise ValueError(
            f"teacher_pooler={args.teacher_pooler!r}, but the teacher {source} pools by '{modules.pooling}', as its "
            "sentence-transformers modules say. Leave teacher_pooler out."
        )


def _require_weights(source: str | Path, student: PreTrainedModel, missing: list[str]) -> None:
    if missing:
        raise ValueError(
            f"The teacher {source} holds no weights for {', '.join(missing[:4])}{' …' if len(missing) > 4 else ''}: "
            f"they would be random. A teacher for {type(student).__name__} must have been trained with that head; "
            "fine-tune it first."
        )


def _load_adapter(
    folder: str, student: PreTrainedModel, args: DistillTrainingArguments
) -> tuple[PreTrainedModel, list[str]]:
    """As `_load_pretrained`, from the folder of an adapter; the modules that it brings are not missing."""
    adapter = PeftConfig.from_pretrained(folder)
    base, brought = adapter.base_model_name_or_path, getattr(adapter, "modules_to_save", None) or ()
    labels = {}
    if brought and head_of(type(student).__name__) not in map(
        head_of, AutoConfig.from_pretrained(base).architectures or ()
    ):
        # The folder does not say how many classes its head has, and its base is an encoder without one.
        labels = {"id2label": student.config.id2label, "label2id": student.config.label2id}
    model, missing = _load_pretrained(base, student, args, **labels)
    missing = [key for key in missing if not any(f".{name}." in f".{key}" for name in brought)]
    return PeftModel.from_pretrained(model, folder).merge_and_unload(), missing


def _load_pretrained(source, student, args, **config) -> tuple[PreTrainedModel, list[str]]:
    """Load a teacher, with `config` changed in its settings; tells the names of weights that its files lack."""
    try:
        if args.attention_weight:
            config["attn_implementation"] = "eager"  # others make no attention maps
        dtype = args.compute_dtype if args.teacher_dtype == "auto" else getattr(torch, args.teacher_dtype)
        model, report = auto_class_for(student).from_pretrained(source, dtype=dtype, output_loading_info=True, **config)
    except (OSError, ValueError, SafetensorError) as error:
        if not Path(source).is_dir():
            raise OSError(
                f"The teacher {source} is no folder (in {Path.cwd()}), and can't be loaded by that name: {error}"
            ) from error
        reason, kind = str(error).rstrip("."), FileNotFoundError if isinstance(error, OSError) else ValueError
        raise kind(
            f"The teacher's folder {source} can't be loaded: {reason}. It must hold config.json and model.safetensors "
            "as save_pretrained() writes them, both whole (not a pointer of git-lfs)."
        ) from error
    return model, sorted(report["missing_keys"])


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
