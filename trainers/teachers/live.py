"""The teacher: frozen, in eval, outside the student's modules, run without gradients, and no further than asked."""

import copy
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import torch
from accelerate import Accelerator
from peft import PeftConfig, PeftModel
from safetensors import SafetensorError
from transformers import AutoConfig, PreTrainedModel

from ...collators import Batch
from ...modeling import auto_class_for, head_of
from ...modeling.encoding import EncoderOutput, OutputRequest, encode
from ..arguments import DistillTrainingArguments
from ..objectives import Dimensions

TeacherSource = PreTrainedModel | PeftModel | str | Path


class LiveTeacher:
    """Runs one model, or several whose outputs are averaged.

    Args:
        models: the teachers. They are frozen and put in eval; nothing else about them changes.
        request: what to return. No layer above the deepest one asked for is run, nor a head that no one asked for.
        weights: of each teacher in the average; scaled to sum to 1. Default: equal.
        autocast: number format to which float32 teachers are cast for a forward pass, as the student is under bf16.
        stop_early: False for engines that count on a forward pass running to its end (ZeRO-3 shards).
    """

    def __init__(
        self,
        models: Sequence[PreTrainedModel],
        request: OutputRequest,
        *,
        weights: Sequence[float] | None = None,
        autocast: torch.dtype | None = None,
        stop_early: bool = True,
    ):
        weights = [1.0] * len(models) if weights is None else list(weights)
        if len(weights) != len(models) or min(weights) < 0 or sum(weights) == 0:
            raise ValueError(
                f"{len(models)} teachers need as many weights, none below 0, not all 0, but teacher_weights={weights}."
            )
        self.models = [model.requires_grad_(False).eval() for model in models]
        self.weights = [weight / sum(weights) for weight in weights]
        self.request = request
        self.autocast = autocast
        self.stop_early = stop_early
        self.dimensions = common_dimensions(models)

    @torch.no_grad()
    def outputs(self, batch: Batch) -> EncoderOutput:
        """The teacher's outputs for one batch, on the batch's device, without gradients."""
        view = batch.get("teacher", batch["student"])
        layout = batch.get("teacher_layout", batch["layout"])
        results = []
        for model in self.models:
            model.eval()  # whoever shares the model may have called train() since
            precision = self.precision_of(model)
            with torch.autocast(layout.lengths.device.type, dtype=precision, enabled=precision != model.dtype):
                results.append(encode(model, view, layout, self.request, stop_early=self.stop_early))
        return results[0] if len(results) == 1 else weighted_mean(results, self.weights)

    def precision_of(self, model: PreTrainedModel) -> torch.dtype:
        """The number format in which one of the models computes."""
        return self.autocast if self.autocast is not None and model.dtype == torch.float32 else model.dtype


def common_dimensions(models: Sequence[PreTrainedModel]) -> Dimensions:
    """The dimensions of several teachers, which must agree for their outputs to be averaged."""
    found = {Dimensions.of(model.config) for model in models}
    if len(found) > 1:
        raise ValueError(
            "Outputs of several teachers are averaged, so the teachers must agree in depth, width, heads, labels and "
            "vocabulary, but they are: " + "; ".join(map(str, found))
        )
    return found.pop()


def weighted_mean(results: list[EncoderOutput], weights: list[float]) -> EncoderOutput:
    """Average every output of several passes."""

    def mean(parts):
        if parts[0] is None:
            return None
        if isinstance(parts[0], dict):
            return {key: mean([part[key] for part in parts]) for key in parts[0]}
        return sum(weight * part.float() for weight, part in zip(weights, parts, strict=True))

    return EncoderOutput(**{f.name: mean([getattr(r, f.name) for r in results]) for f in fields(EncoderOutput)})


def load_teacher(source: TeacherSource, student: PreTrainedModel, args: DistillTrainingArguments) -> PreTrainedModel:
    """Turn what the user named as a teacher into a model with the student's kind of head.

    Args:
        source: a model; a PEFT model or the folder of an adapter, merged into a copy for the run; a folder or hub id.
        student: decides which head the teacher needs.
        args: number format.

    Raises:
        ValueError: the student itself, damaged files, or weights that lack the head (which would be random numbers).
        FileNotFoundError: a folder without weights.
        OSError: no such folder, and no such model on the Hub.
    """
    if source is student:
        raise ValueError(
            "The teacher is the student itself. Pass a copy, or build the student with shrink(teacher, ...)."
        )
    if isinstance(source, PeftModel):
        return copy.deepcopy(source).merge_and_unload()
    if isinstance(source, PreTrainedModel):
        return source
    folder = Path(source)
    if (folder / "adapter_config.json").is_file():
        return _load_adapter(folder, student, args)
    return _load_pretrained(str(source), student, args)


def _load_adapter(folder: Path, student: PreTrainedModel, args: DistillTrainingArguments) -> PreTrainedModel:
    adapter = PeftConfig.from_pretrained(folder)
    base, brought = adapter.base_model_name_or_path, getattr(adapter, "modules_to_save", None) or ()
    labels = {}
    if brought and head_of(type(student).__name__) not in map(
        head_of, AutoConfig.from_pretrained(base).architectures or ()
    ):
        # The folder does not say how many classes its head has, and its base is an encoder without one.
        labels = {"id2label": student.config.id2label, "label2id": student.config.label2id}
    model = _load_pretrained(base, student, args, brought, **labels)
    return PeftModel.from_pretrained(model, str(folder)).merge_and_unload()


def _load_pretrained(source, student, args, brought: Sequence[str] = (), **config) -> PreTrainedModel:
    """Load a teacher. `brought` are modules whose weights an adapter holds, `config` what to change in its settings."""
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
    # Sentence encoders that average tokens are saved without a pooler, which is no harm unless it is asked for.
    known = brought if args.poolers[1] == "cls" else ("pooler", *brought)
    new = [key for key in report["missing_keys"] if not any(f".{name}." in f".{key}" for name in known)]
    if new:
        raise ValueError(
            f"The teacher {source} holds no weights for {', '.join(sorted(new)[:4])}{' …' if len(new) > 4 else ''}: "
            f"they would be random. A teacher for {type(student).__name__} must have been trained with that head; "
            "fine-tune it first."
        )
    return model


def place_teacher(
    models: Sequence[PreTrainedModel], request: OutputRequest, args: DistillTrainingArguments, accelerator: Accelerator
) -> LiveTeacher:
    """A teacher of the models, each whole on this rank's device, or sharded over all ranks."""
    placed = [_shard_over_ranks(each, accelerator) if args.shard_teacher else each.to(args.device) for each in models]
    return LiveTeacher(
        placed,
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
