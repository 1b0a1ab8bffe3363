"""The model card of a student: what it was made of, how, how good it is, and how it is used."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from enum import Enum
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from huggingface_hub import ModelCard, ModelCardData, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError
from huggingface_hub.utils import validate_repo_id
from transformers import TrainingArguments

TEMPLATE = Path(__file__).with_name("model_card.md.jinja")

# Beginnings of the arguments that say where a run was kept and how it was watched, not what was learnt.
_HOUSEKEEPING = tuple(
    """accelerator_config dataloader_ debug disable_tqdm do_ hub_ local_rank log_ logging_ output_dir project
    push_to_hub report_to resume_from_checkpoint run_name save_ skip_memory_metrics teacher_cache trackio_
    use_cpu""".split()
)


class Size(NamedTuple):
    """Parameters, shared ones counted once, and megabytes (10^6 bytes) of weights."""

    parameters: int
    megabytes: float


@dataclass(frozen=True, kw_only=True)
class CardFacts:
    """All that a card says.

    Attributes:
        name: title.
        load_as: hub id or folder that the usage example loads.
        architecture: in words, such as "A BERT encoder of 3 layers".
        pipeline_tag: the Hub's name of the task, such as "sentence-similarity" or "token-classification".
        teachers: their names.
        base_models: those of the teachers that lie on the Hub, by their ids.
        objectives: what was compared, in words -> its weight.
        data: name of a dataset or file -> rows that were trained on.
        size: the student's.
        teacher_size: one teacher's; None if it was not loaded.
        summary: a sentence for the top, such as the title of a report.
        sentence_transformer: whether the folder has the layout of sentence-transformers.
        remote_code: whether the folder carries the model's code, which its user has to trust.
        embeddings: in words: how many numbers, pooled how, of unit length or not, of how many tokens at most.
        layer_map: the pairs of layers that were compared.
        arguments: those that differ from their defaults (see `changed_arguments`).
        results: a Markdown table.
        measured: on what data and machine, with what batch sizes, and when.
        languages: ISO 639 codes.
        license, license_name, license_link: the teacher's (see `teacher_license`).
        versions: package -> version (see `package_versions`).
        citations: BibTeX entries (see `citations.citations_of`).
        limits: sentences, besides those that hold for every student.

    Raises:
        HFValidationError: one of `base_models` cannot be an id. The Hub refuses cards that name a folder there.
    """

    name: str
    load_as: str
    architecture: str
    pipeline_tag: str
    teachers: tuple[str, ...]
    objectives: Mapping[str, float]
    data: Mapping[str, int]
    size: Size
    base_models: tuple[str, ...] = ()
    teacher_size: Size | None = None
    summary: str = ""
    sentence_transformer: bool = False
    remote_code: bool = False
    embeddings: str = ""
    layer_map: str = ""
    arguments: Mapping[str, str] = field(default_factory=dict)
    results: str = ""
    measured: str = ""
    languages: tuple[str, ...] = ()
    license: str | None = None
    license_name: str | None = None
    license_link: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    citations: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()

    def __post_init__(self):
        for model_id in self.base_models:
            validate_repo_id(model_id)


def render_card(facts: CardFacts) -> str:
    """The card as Markdown with the Hub's metadata on top. Equal facts give equal text."""
    metadata = ModelCardData(
        language=list(facts.languages) or None,
        license=facts.license,
        license_name=facts.license_name,
        license_link=facts.license_link,
        library_name="sentence-transformers" if facts.sentence_transformer else "transformers",
        pipeline_tag=facts.pipeline_tag,
        tags=["retort", "distillation", *(["sentence-transformers"] if facts.sentence_transformer else [])],
        base_model=list(facts.base_models) or None,
        # The Hub knows adapter, merge, quantized and finetune; a student is nearest to the last.
        base_model_relation="finetune" if facts.base_models else None,
    )
    card = ModelCard.from_template(metadata, template_path=str(TEMPLATE), facts=facts)
    return str(card).rstrip() + "\n"


def teacher_license(name_or_path: str | os.PathLike) -> dict[str, str]:
    """The license that a teacher's own card names, as arguments for `CardFacts`; empty if it names none.

    Args:
        name_or_path: a folder, or a model id on the Hub.
    """
    path = Path(name_or_path) / "README.md"
    if not Path(name_or_path).is_dir():
        try:
            path = Path(hf_hub_download(os.fspath(name_or_path), "README.md"))
        except EntryNotFoundError:
            return {}
    if not path.is_file():
        return {}
    metadata = ModelCard.load(path, ignore_metadata_errors=True).data.to_dict()
    keys = ("license", "license_name", "license_link")
    return {key: str(metadata[key]) for key in keys if metadata.get(key)}


def changed_arguments(args: TrainingArguments) -> dict[str, str]:
    """The training arguments that differ from their defaults, as JSON, without those about storage and logging."""
    values, changed = args.to_dict(), {}
    for each in fields(args):
        default = each.default_factory() if each.default_factory is not MISSING else each.default
        default = default.value if isinstance(default, Enum) else default
        value = values.get(each.name)
        unset = value == default or (default is None and value is False)
        if each.init and not unset and not each.name.startswith(_HOUSEKEEPING):
            changed[each.name] = json.dumps(value, default=str)
    return changed


@cache  # every checkpoint has a card, and all of a package's metadata is parsed for its version
def package_versions() -> Mapping[str, str]:
    """Versions of the packages that a run's numbers depend on."""
    return {name: version(name) for name in ("retort", "torch", "transformers", "tokenizers", "datasets", "accelerate")}
