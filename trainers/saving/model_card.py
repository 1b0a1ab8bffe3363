"""The model card of a student."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from enum import Enum
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel, TrainingArguments
from transformers.trainer_pt_utils import AcceleratorConfig
from transformers.trainer_utils import has_length

from ...data import write_text
from ...modeling import parameter_count, without_decoder
from ...modeling.encoding import SentenceEncoder, takes_projector
from ..arguments import that_change_weights
from ..objectives import Objective, Projector, ScoreObjective
from ..teachers import GivenVectors, TeacherSource, model_of
from .license import LICENSE_ENTRIES, teacher_license

if TYPE_CHECKING:
    from ..distill_trainer import DistillTrainer

PIPELINE_TAGS = {
    "ForTokenClassification": "token-classification",
    "ForSequenceClassification": "text-classification",
    "ForMaskedLM": "fill-mask",
}

# A line in the usage example of a student that is not pushed.
_IN_A_FOLDER = "# Replace the name with the path of this folder, or with the id on the Hub.\n"

_NO_TOKENIZER = "It was saved without its tokenizer: save the one of the training rows in the same folder."


class Size(NamedTuple):
    """Number of parameters (shared ones are counted once), and megabytes (10^6 bytes) of weights."""

    parameters: int
    megabytes: float

    @classmethod
    def of(cls, model: nn.Module | SentenceEncoder) -> Size:
        """The size of a model with float32 weights; a `SentenceEncoder` with the modules after its pooler."""
        if isinstance(model, SentenceEncoder):
            model = nn.ModuleList([model.model, model.modules.head])
        parameters = parameter_count(model)
        return cls(parameters, parameters * 4 / 1e6)


@dataclass(frozen=True, kw_only=True)
class CardFacts:
    """The content of a model card.

    Attributes:
        name: title.
        load_as: hub id in the usage example; empty for a student that is only in a folder.
        architecture: description, such as "A BERT encoder of 3 layers".
        pipeline_tag: the Hub's name of the task, such as "sentence-similarity" or "token-classification".
        teachers: names of the teachers.
        base_models: hub ids of the teachers on the Hub.
        objectives: description of an objective -> its weight.
        data: name of a dataset or file -> number of training rows.
        datasets: hub ids of the datasets on the Hub.
        size: size of the student.
        teacher_size: size of one teacher; None if it was not loaded, or if the sizes of several teachers differ.
        summary: first sentence, such as the title of a report.
        sentence_transformer: whether the folder is a SentenceTransformer.
        encoder_class, whole_class: for the encoder of an encoder-decoder, its class and the one that `AutoModel` loads.
        remote_code: whether loading the model runs code from the folder (`trust_remote_code`).
        embeddings: description: width, pooling, normalisation, maximum number of tokens.
        layer_map: the pairs of layers that were compared.
        arguments: training arguments that differ from their defaults (see `changed_arguments`).
        results: a Markdown table.
        measured: data, machine, batch sizes and date of the results.
        scores: name of a metric -> the student's value, for the Hub's index of results.
        test_set: short description of the data of `scores`.
        languages: ISO 639 codes.
        license, license_name, license_link: the teacher's license (see `teacher_license`).
        versions: package -> version (see `package_versions`).
        citations: BibTeX entries (see `bibtex_entries`).
        tags: tags for the Hub, in addition to those of every student.
        limits: sentences on limitations, in addition to those of every student.

    Raises:
        HFValidationError: one of `base_models` is not a valid hub id. The Hub refuses cards with a folder there.
    """

    name: str
    architecture: str
    pipeline_tag: str
    teachers: tuple[str, ...]
    objectives: Mapping[str, float]
    data: Mapping[str, int]
    size: Size
    load_as: str = ""
    base_models: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    teacher_size: Size | None = None
    summary: str = ""
    sentence_transformer: bool = False
    encoder_class: str = ""
    whole_class: str = ""
    remote_code: bool = False
    embeddings: str = ""
    layer_map: str = ""
    arguments: Mapping[str, str] = field(default_factory=dict)
    results: str = ""
    measured: str = ""
    scores: Mapping[str, float] = field(default_factory=dict)
    test_set: str = ""
    languages: tuple[str, ...] = ()
    license: str | None = None
    license_name: str | None = None
    license_link: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    citations: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()

    def __post_init__(self):
        for model_id in self.base_models:
            validate_repo_id(model_id)


def describe_run(trainer: DistillTrainer) -> CardFacts:
    """The facts of a run about its student."""
    student, objectives, args = trainer.student, trainer.objectives, trainer.args
    sources, train_dataset = trainer.teacher_sources, trainer.train_dataset
    load_as = trainer.hub_model_id or args.hub_model_id or ""
    config, head = student.config, type(student).__name__
    by_files = ("a teacher whose outputs were cached",) if args.teacher_cache else ()
    by_vectors = ("a teacher that was given by its vectors",) if isinstance(trainer.teacher, GivenVectors) else ()
    learns_scores = any(isinstance(objective, ScoreObjective) for objective in objectives)
    by_scores = ("a teacher that was given by its scores",) if learns_scores else ()
    teachers = tuple(map(_teacher_name, sources)) or by_files or by_vectors or by_scores
    sizes = {Size.of(source) for source in sources if isinstance(source, PreTrainedModel | SentenceEncoder)}
    tag = next((tag for suffix, tag in PIPELINE_TAGS.items() if head.endswith(suffix)), "feature-extraction")
    pooler = args.pooler if trainer.student_encoder is None else trainer.student_encoder.modules.pooling
    embeddings = f"{trainer.embedding_size} numbers, pooled by {pooler}" if trainer.is_sentence_transformer else ""
    whole = without_decoder(student)
    one_in_files = len(sources) == 1 and isinstance(sources[0], str | os.PathLike)
    return CardFacts(
        name=Path(load_as or args.output_dir).name,
        load_as=load_as,
        architecture=_architecture(config),
        pipeline_tag="sentence-similarity" if trainer.is_sentence_transformer else tag,
        sentence_transformer=trainer.is_sentence_transformer,
        embeddings=embeddings,
        encoder_class=head if whole else "",
        whole_class=whole or "",
        remote_code=student.is_remote_code(),
        teachers=teachers,
        base_models=tuple(filter(is_hub_id, teachers)),
        objectives={objective.description or objective.name: objective.weight for objective in objectives},
        data={"training rows": len(train_dataset)} if has_length(train_dataset) else {},
        size=_exported_size(trainer) if trainer.is_sentence_transformer else Size.of(student),
        teacher_size=sizes.pop() if len(sizes) == 1 else None,  # there is one row for all teachers
        arguments=changed_arguments(args),
        versions=package_versions(),
        citations=bibtex_entries(objectives),
        limits=() if trainer.processing_class is not None else (_NO_TOKENIZER,),
        **(teacher_license(sources[0]) if one_in_files else {}),
    )


def _exported_size(trainer: DistillTrainer) -> Size:
    """The size of a student with its own modules and a kept projector."""
    head, projector = trainer.model.head, trainer.model.projector
    modules = [] if head is None else list(head.layers)
    if isinstance(projector, Projector):
        width = modules.pop().linear.in_features if takes_projector(modules) else projector.in_features
        modules.append(nn.Linear(width, projector.out_features, device="meta"))
    return Size.of(nn.ModuleList([trainer.student, *modules]))


def _architecture(config: PreTrainedConfig) -> str:
    if not config.num_hidden_layers:
        return f"Static token vectors of width {config.hidden_size}"
    return f"{config.model_type} encoder, {config.num_hidden_layers} layers of width {config.hidden_size}"


def describe_stages(stages: Sequence[tuple[str, Mapping[str, Any]]], name: str) -> CardFacts:
    """The facts about a student of several stages.

    Args:
        stages: name of each stage, and the fields of its `CardFacts` as read from JSON.
        name: name of the student.
    """
    cards = [card for _, card in stages]
    facts = cards[-1] | {"name": name, "load_as": ""}
    if len(stages) > 1:
        for each in ("objectives", "data"):
            facts[each] = {f"{stage}: {key}": value for stage, card in stages for key, value in card[each].items()}
        facts["arguments"] = _arguments_of(stages)
        for each in ("teachers", "base_models", "citations"):
            facts[each] = tuple(dict.fromkeys(entry for card in cards for entry in card[each]))
        licensed = next((card for card in cards if card["license"]), cards[-1])
        facts |= {key: licensed[key] for key in LICENSE_ENTRIES}
        if any(card["teacher_size"] != facts["teacher_size"] for card in cards if card["teachers"]):
            facts["teacher_size"] = None  # there is one row for all teachers
    facts |= {size: Size(*facts[size]) for size in ("size", "teacher_size") if facts[size]}
    return CardFacts(**facts)


def _arguments_of(stages: Sequence[tuple[str, Mapping[str, Any]]]) -> dict[str, str]:
    """The arguments of each stage, first those that are the same in all stages."""
    listed = [(stage, card["arguments"]) for stage, card in stages]
    shared = {name: value for name, value in listed[0][1].items() if all(each.get(name) == value for _, each in listed)}
    return {f"all stages: {name}": value for name, value in shared.items()} | {
        f"{stage}: {name}": value for stage, each in listed for name, value in each.items() if name not in shared
    }


def write_card(folder: str | os.PathLike, facts: CardFacts) -> None:
    """Write the model card into a student's folder."""
    write_text(Path(folder) / "README.md", render_card(facts))


def render_card(facts: CardFacts) -> str:
    """The model card as Markdown, with the Hub's metadata at the top. Equal facts give equal text."""
    metadata = ModelCardData(
        language=list(facts.languages) or None,
        license=facts.license,
        license_name=facts.license_name,
        license_link=facts.license_link,
        library_name="sentence-transformers" if facts.sentence_transformer else "transformers",
        pipeline_tag=facts.pipeline_tag,
        tags=[
            "retort",
            *(["distillation"] if facts.teachers else []),
            *(["sentence-transformers"] if facts.sentence_transformer else []),
            *facts.tags,
        ],
        base_model=list(facts.base_models) or None,
        datasets=list(facts.datasets) or None,
        model_name=facts.name if facts.scores else None,
        eval_results=_eval_results(facts) or None,
        # The Hub's relations are adapter, merge, quantized and finetune; a student is closest to the last.
        base_model_relation="finetune" if facts.base_models else None,
    )
    template = str(Path(__file__).with_name("model_card.md.jinja"))
    card = ModelCard.from_template(
        metadata, template_path=template, facts=facts, in_a_folder="" if facts.load_as else _IN_A_FOLDER
    )
    return str(card).rstrip() + "\n"


def pushed_card(card: str, hub_id: str) -> str:
    """The card with `hub_id` in its usage example."""
    plain = card.replace(_IN_A_FOLDER, "")
    return re.sub(r'(SentenceTransformer\(|model=|from_pretrained\()"[^"]+"', rf'\1"{hub_id}"', plain, count=1)


def _eval_results(facts: CardFacts) -> list[EvalResult]:
    """The student's scores for the Hub's `model-index`, which has no intervals."""
    return [
        EvalResult(
            task_type=facts.pipeline_tag,
            dataset_type=_slug(facts.test_set or "test"),
            dataset_name=facts.test_set or "test set",
            metric_type=_slug(metric),
            metric_name=metric,
            metric_value=value,
        )
        for metric, value in facts.scores.items()
    ]


def _slug(words: str) -> str:
    return re.sub(r"\W+", "_", words.lower()).strip("_")


def changed_arguments(args: TrainingArguments) -> dict[str, str]:
    """The training arguments that differ from their defaults and change the student, as JSON."""
    values, changed = args.to_dict(), {}
    config = values["accelerator_config"].items()
    usual = AcceleratorConfig(non_blocking=args.accelerator_config.non_blocking, dispatch_batches=False)
    values["accelerator_config"] = {key: each for key, each in config if each != getattr(usual, key)} or None
    values["activation_checkpointing"] = args.activation_checkpointing or None  # its default
    learning = that_change_weights(values)
    for each in fields(args):
        default = each.default_factory() if each.default_factory is not MISSING else each.default
        default = default.value if isinstance(default, Enum) else default
        if each.init and each.name in learning and learning[each.name] != default:
            changed[each.name] = json.dumps(learning[each.name], default=str)
    return changed


@cache  # every checkpoint has a card, and reading a version parses all metadata of the package
def package_versions() -> Mapping[str, str]:
    """Versions of the packages that a run's results depend on."""
    return {name: version(name) for name in ("retort", "torch", "transformers", "tokenizers", "datasets", "accelerate")}


def bibtex_entries(objectives: Sequence[Objective]) -> tuple[str, ...]:
    """BibTeX entries of the papers of objectives, each once."""
    text = Path(__file__).with_name("citations.bib").read_text(encoding="utf-8")
    entries = {entry[2]: entry[1] for entry in re.finditer(r"(@\w+\{(\w+),.*?\n\})", text, re.DOTALL)}
    return tuple(entries[key] for key in dict.fromkeys(objective.citation for objective in objectives) if key)


def is_hub_id(name: str) -> bool:
    """Whether a name looks like a hub id with an owner."""
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return "/" in name


def _teacher_name(source: TeacherSource) -> str:
    model = model_of(source)
    return without_path(str(getattr(model, "name_or_path", model) or type(model).__name__))


def without_path(name: str) -> str:
    """The name of a model: its hub id, or the last part of its path."""
    return name if is_hub_id(name) and not Path(name).exists() else Path(name).name
