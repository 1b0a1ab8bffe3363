"""Loads teachers with the student's kind of head."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedConfig, PreTrainedModel, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.utils import logging

from ...modeling import auto_class_for, encoder_class, from_config, has_files_of, head_of
from ...modeling.encoding import SentenceEncoder, SentenceModules, encoder_subfolder, read_sentence_modules
from ..arguments import DistillTrainingArguments
from .live import model_of

# Or a `PeftModel` or a `SentenceTransformer`, whose libraries are only imported when needed.
TeacherSource = PreTrainedModel | SentenceEncoder | str | Path


def load_teacher(
    source: TeacherSource, student: PreTrainedModel, args: DistillTrainingArguments
) -> PreTrainedModel | SentenceEncoder:
    """Load a teacher with the student's kind of head.

    Args:
        source: a model; a PEFT model or the folder of an adapter, which are merged into a copy for the run; or a folder
            or hub id. For a student without a head, a sentence-transformers model is loaded as a `SentenceEncoder`.
        student: defines the head that the teacher needs.
        args: arguments with the dtype.

    Raises:
        TypeError: the source is none of these.
        ValueError: the teacher is the student itself, or its files are in `args.output_dir`; files are damaged; the
            weights of the head are missing (it would be random); or a sentence-transformers model has unsupported
            modules, or another pooling than `args.teacher_pooler`.
        FileNotFoundError: the folder has no weights.
        OSError: there is no such folder, and no such model on the Hub.
    """
    from peft import PeftConfig, PeftModel

    source = _as_model(source, student, args)
    if isinstance(source, PeftModel):
        return copy.deepcopy(source).merge_and_unload()
    if not isinstance(source, str | Path):
        return source
    base, settings = _base_of(source, student)
    model, missing = _load_pretrained(base, student, args, **settings)
    if _is_adapter(source):
        brought = getattr(PeftConfig.from_pretrained(str(source)), "modules_to_save", None) or ()
        missing = [key for key in missing if not any(f".{name}." in f".{key}" for name in brought)]
        model = PeftModel.from_pretrained(model, str(source)).merge_and_unload()
    # Encoders that average tokens often have no weights for the pooler. This only matters if the pooler is used.
    pooler = [key for key in missing if ".pooler." in f".{key}"]
    _require_weights(source, student, sorted(set(missing) - set(pooler)))
    teacher = _with_modules(source, model, settings.get("subfolder", ""), student, args)
    pooled_by = str(teacher.modules.pooling) if isinstance(teacher, SentenceEncoder) else args.poolers[1]
    if pooler and pooled_by == "cls":
        _require_weights(source, student, pooler)
    return teacher


def outline_teacher(
    source: TeacherSource, student: PreTrainedModel, args: DistillTrainingArguments
) -> PreTrainedModel | SentenceEncoder:
    """The result of `load_teacher` without weights, to check a run before anything large is loaded.

    Args: see `load_teacher`.

    Returns:
        A model on torch's meta device, if `source` is a folder or hub id.

    Raises:
        TypeError: as in `load_teacher`.
        ValueError: as in `load_teacher`, without the checks of weights.
        OSError: there is no such folder, and no such model on the Hub.
    """
    from peft import PeftModel

    source = _as_model(source, student, args)
    if isinstance(source, PeftModel):
        return source.get_base_model()
    if not isinstance(source, str | Path):
        return source
    base, settings = _base_of(source, student)
    with _named(base):
        config = AutoConfig.from_pretrained(base, **settings)
        with torch.device("meta"):
            model = from_config(config, _class_for(student, config), **_attention(args))
    return _with_modules(source, model, settings.get("subfolder", ""), student, args)


def _as_model(source: TeacherSource, student: PreTrainedModel, args: DistillTrainingArguments) -> TeacherSource:
    """The source itself, or the model of a `SentenceEncoder` whose embeddings are not used."""
    _check_kind(source)
    if isinstance(source, SentenceEncoder):
        if _reads_layers_alone(args):
            source = source.model
        else:
            _check_pooler(source, source.modules, args)
            modules = source.modules.with_prompt(args.teacher_prompt_name)
            source = SentenceEncoder(source.model, source.tokenizer, modules)
    place = str(source) if isinstance(source, str | Path) else model_of(source).name_or_path
    if has_files_of(args.output_dir, place) or _is_checkpoint_of(args.output_dir, place):
        raise ValueError(
            f"output_dir={args.output_dir!r}: the teacher is {place}, whose files the student's would replace. Name "
            "another output_dir."
        )
    if model_of(source) is student:
        raise ValueError(
            "The teacher is the student itself. Pass a copy, or build the student with shrink(teacher, ...)."
        )
    return source


def _check_kind(source: Any) -> None:
    """Refuse an object that is no teacher."""
    is_pretrained = isinstance(source, nn.Module) and hasattr(source, "name_or_path")
    if is_pretrained or isinstance(source, str | Path | SentenceEncoder):
        return
    way_out = ""
    if isinstance(source, TrainingArguments):
        way_out = " Pass arguments by name, args=...: the second argument of a trainer is its teacher."
    elif type(source).__name__ == "CrossEncoder":
        way_out = " Pass its .model, or train on its scores of documents (see score_groups)."
    raise TypeError(
        f"The teacher is of type {type(source).__name__}, but must be a transformers or PEFT model, a "
        f"SentenceTransformer or SentenceEncoder, a folder or hub id, or a list of these.{way_out}"
    )


def _is_checkpoint_of(output_dir: str, model: str) -> bool:
    """Whether a model is a checkpoint in a run's folder. The run would resume from it, and remove it."""
    path = Path(model).resolve()
    return path.parent == Path(output_dir).resolve() and path.name.startswith(PREFIX_CHECKPOINT_DIR)


def _reads_layers_alone(args: DistillTrainingArguments) -> bool:
    """Whether the mean of the embedding layer is used (Ding et al. 2022, section 3.2), rather than an embedding."""
    return args.teacher_pooler == "mean_first"


def _with_modules(
    source: str | Path, model: PreTrainedModel, folder: str, student: PreTrainedModel, args: DistillTrainingArguments
) -> PreTrainedModel | SentenceEncoder:
    """A loaded encoder, as a `SentenceEncoder` if its files define its embeddings."""
    embeds = auto_class_for(student) is AutoModel and not _reads_layers_alone(args)
    modules = read_sentence_modules(source, model.config) if embeds else None
    if modules is None:
        return model
    _check_pooler(source, modules, args)
    modules = modules.with_prompt(args.teacher_prompt_name)
    return SentenceEncoder(model, AutoTokenizer.from_pretrained(source, subfolder=folder), modules)


def _check_pooler(source: TeacherSource, modules: SentenceModules, args: DistillTrainingArguments) -> None:
    if args.teacher_pooler not in (None, str(modules.pooling)):
        raise ValueError(
            f"teacher_pooler={args.teacher_pooler!r}, but the sentence-transformers modules of the teacher {source} "
            f"pool by '{modules.pooling}'. Leave teacher_pooler out."
        )


def _require_weights(source: str | Path, student: PreTrainedModel, missing: list[str]) -> None:
    if missing:
        raise ValueError(
            f"The teacher {source} has no weights for {', '.join(missing[:4])}{' …' if len(missing) > 4 else ''}: "
            f"they would be random. A teacher for {type(student).__name__} needs a trained head: fine-tune it first."
        )


def _is_adapter(source: str | Path) -> bool:
    return Path(source, "adapter_config.json").is_file()


def _base_of(source: str | Path, student: PreTrainedModel) -> tuple[str, dict[str, Any]]:
    """The folder or hub id of a teacher's model, which of an adapter is its base, and the arguments to load it."""
    from peft import PeftConfig

    if not _is_adapter(source):
        return str(source), {"subfolder": encoder_subfolder(source)}
    adapter = PeftConfig.from_pretrained(str(source))
    base, brought = adapter.base_model_name_or_path, getattr(adapter, "modules_to_save", None)
    heads = map(head_of, AutoConfig.from_pretrained(base).architectures or ()) if brought else ()
    if not brought or head_of(type(student).__name__) in heads:
        return base, {}
    # The adapter's folder doesn't have the number of classes, and its base is an encoder without a head.
    return base, {"id2label": student.config.id2label, "label2id": student.config.label2id}


def _load_pretrained(source, student, args, **config) -> tuple[PreTrainedModel, list[str]]:
    """Load a teacher with changes of its configuration. Returns it and the names of missing weights."""
    dtype = args.compute_dtype if args.teacher_dtype == "auto" else getattr(torch, args.teacher_dtype)
    with _named(source), _without_report():
        theirs = AutoConfig.from_pretrained(source, **config)
        model, report = _class_for(student, theirs).from_pretrained(
            source, dtype=dtype, output_loading_info=True, **_attention(args), **config
        )
    return model, sorted(report["missing_keys"])


def _class_for(student: PreTrainedModel, config: PreTrainedConfig):
    """The class that loads a teacher of this configuration with the student's kind of head."""
    auto_class = auto_class_for(student)
    return encoder_class(config) if auto_class is AutoModel else auto_class


def _attention(args: DistillTrainingArguments) -> dict[str, str]:
    """Eager attention if attention maps are needed, since no other implementation returns them."""
    return {"attn_implementation": "eager"} if args.attention_weight else {}


@contextmanager
def _without_report() -> Iterator[None]:
    """Turn off transformers' table of missing and unexpected weights. `load_teacher` refuses those that matter."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)


@contextmanager
def _named(source: str) -> Iterator[None]:
    """Add the teacher's name and the expected files to errors of loading."""
    try:
        yield
    except (OSError, ValueError, SafetensorError) as error:
        if not Path(source).is_dir():
            raise OSError(
                f"The teacher {source} is not a folder (in {Path.cwd()}), and can't be loaded as a hub id: {error}"
            ) from error
        reason, kind = str(error).rstrip("."), FileNotFoundError if isinstance(error, OSError) else ValueError
        raise kind(
            f"The teacher's folder {source} can't be loaded: {reason}. It must have config.json and model.safetensors, "
            "as written by save_pretrained() (complete files, not git-lfs pointers)."
        ) from error
