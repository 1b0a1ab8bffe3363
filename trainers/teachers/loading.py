"""From what the user named as a teacher to a model with the student's kind of head."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedModel

from ...modeling import auto_class_for, head_of
from ...modeling.encoding import SentenceEncoder, SentenceModules, encoder_subfolder, read_sentence_modules
from ..arguments import DistillTrainingArguments
from .live import model_of

if TYPE_CHECKING:
    from peft import PeftConfig

# Or a `PeftModel` or a `SentenceTransformer`: their libraries are imported where such a model is met.
TeacherSource = PreTrainedModel | SentenceEncoder | str | Path


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
    from peft import PeftModel

    source = _as_model(source, student, args)
    if isinstance(source, PeftModel):
        return copy.deepcopy(source).merge_and_unload()
    if not isinstance(source, str | Path):
        return source
    folder = ""
    if _is_adapter(source):
        model, missing = _load_adapter(str(source), student, args)
    else:
        folder = encoder_subfolder(source)
        model, missing = _load_pretrained(str(source), student, args, subfolder=folder)
    # Weights of the pooler are missing where encoders average tokens: no harm unless the pooler is asked for.
    pooler = [key for key in missing if ".pooler." in f".{key}"]
    _require_weights(source, student, sorted(set(missing) - set(pooler)))
    teacher = _with_modules(source, model, folder, student, args)
    pooled_by = str(teacher.modules.pooling) if isinstance(teacher, SentenceEncoder) else args.poolers[1]
    if pooler and pooled_by == "cls":
        _require_weights(source, student, pooler)
    return teacher


def outline_teacher(
    source: TeacherSource, student: PreTrainedModel, args: DistillTrainingArguments
) -> PreTrainedModel | SentenceEncoder:
    """What `load_teacher` loads, without weights: so a run can be checked before anything large is read.

    Args: see `load_teacher`.

    Returns:
        A model on torch's meta device, if `source` is a folder or hub id.

    Raises:
        ValueError: as `load_teacher`, but for weights.
        OSError: no such folder, and no such model on the Hub.
    """
    from peft import PeftConfig, PeftModel

    source = _as_model(source, student, args)
    if isinstance(source, PeftModel):
        return source.get_base_model()
    if not isinstance(source, str | Path):
        return source
    base, changes, folder = str(source), {}, ""
    if _is_adapter(source):
        base, changes = _base_of(PeftConfig.from_pretrained(str(source)), student)
    else:
        folder = encoder_subfolder(source)
    with _named(base):
        config = AutoConfig.from_pretrained(base, subfolder=folder, **changes)
        with torch.device("meta"):
            model = auto_class_for(student).from_config(config, **_attention(args))
    return _with_modules(source, model, folder, student, args)


def _as_model(source: TeacherSource, student: PreTrainedModel, args: DistillTrainingArguments) -> TeacherSource:
    """The source itself, or the model of a `SentenceEncoder` whose embeddings nobody asks for."""
    if isinstance(source, SentenceEncoder):
        if _reads_layers_alone(args):
            source = source.model
        else:
            _check_pooler(source, source.modules, args)
    if model_of(source) is student:
        raise ValueError(
            "The teacher is the student itself. Pass a copy, or build the student with shrink(teacher, ...)."
        )
    return source


def _reads_layers_alone(args: DistillTrainingArguments) -> bool:
    """Whether the embedding layer is asked for (Ding et al. 2022, section 3.2), not an embedding of the teacher's."""
    return args.teacher_pooler == "mean_first"


def _with_modules(
    source: str | Path, model: PreTrainedModel, folder: str, student: PreTrainedModel, args: DistillTrainingArguments
) -> PreTrainedModel | SentenceEncoder:
    """A loaded encoder, with what its files say of its embeddings."""
    embeds = auto_class_for(student) is AutoModel and not _reads_layers_alone(args)
    modules = read_sentence_modules(source, model.config) if embeds else None
    if modules is None:
        return model
    _check_pooler(source, modules, args)
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


def _is_adapter(source: str | Path) -> bool:
    return Path(source, "adapter_config.json").is_file()


def _base_of(adapter: PeftConfig, student: PreTrainedModel) -> tuple[str, dict[str, Any]]:
    """The model that an adapter is for, and what to change in its configuration."""
    base, brought = adapter.base_model_name_or_path, getattr(adapter, "modules_to_save", None)
    heads = map(head_of, AutoConfig.from_pretrained(base).architectures or ()) if brought else ()
    if not brought or head_of(type(student).__name__) in heads:
        return base, {}
    # The folder does not say how many classes its head has, and its base is an encoder without one.
    return base, {"id2label": student.config.id2label, "label2id": student.config.label2id}


def _load_adapter(
    folder: str, student: PreTrainedModel, args: DistillTrainingArguments
) -> tuple[PreTrainedModel, list[str]]:
    """As `_load_pretrained`, from the folder of an adapter; the modules that it brings are not missing."""
    from peft import PeftConfig, PeftModel

    adapter = PeftConfig.from_pretrained(folder)
    base, labels = _base_of(adapter, student)
    model, missing = _load_pretrained(base, student, args, **labels)
    brought = getattr(adapter, "modules_to_save", None) or ()
    missing = [key for key in missing if not any(f".{name}." in f".{key}" for name in brought)]
    return PeftModel.from_pretrained(model, folder).merge_and_unload(), missing


def _load_pretrained(source, student, args, **config) -> tuple[PreTrainedModel, list[str]]:
    """Load a teacher, with `config` changed in its settings; tells the names of weights that its files lack."""
    dtype = args.compute_dtype if args.teacher_dtype == "auto" else getattr(torch, args.teacher_dtype)
    with _named(source):
        model, report = auto_class_for(student).from_pretrained(
            source, dtype=dtype, output_loading_info=True, **_attention(args), **config
        )
    return model, sorted(report["missing_keys"])


def _attention(args: DistillTrainingArguments) -> dict[str, str]:
    """The one implementation that makes attention maps, where they are read."""
    return {"attn_implementation": "eager"} if args.attention_weight else {}


@contextmanager
def _named(source: str) -> Iterator[None]:
    """Let an error of loading say that it is the teacher's, and what was looked for."""
    try:
        yield
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
