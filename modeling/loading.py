"""Loads models with the head that their configuration names."""

import os
from collections.abc import Iterable

import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

AUTO_CLASSES = {
    "ForTokenClassification": AutoModelForTokenClassification,
    "ForSequenceClassification": AutoModelForSequenceClassification,
    "ForMaskedLM": AutoModelForMaskedLM,
}


def auto_class_for(model: PreTrainedModel):
    """The Auto class that loads a model with the same kind of head."""
    return AUTO_CLASSES.get(head_of(type(model).__name__), AutoModel)


def head_of(architecture: str) -> str | None:
    """The end of a model's class name that names its head, e.g. `"ForMaskedLM"`; None for other classes."""
    return next((suffix for suffix in AUTO_CLASSES if architecture.endswith(suffix)), None)


def require_weights(source: str | os.PathLike, missing: Iterable[str]) -> None:
    """Refuse a model that lacks weights, which would be random. Encoders may lack those of the pooler.

    Raises:
        ValueError: with the names of the first ones.
    """
    lacking = sorted(name for name in missing if "pooler." not in name)
    if lacking:
        more = " …" if len(lacking) > 3 else ""
        raise ValueError(
            f"{source} lacks {len(lacking)} weights that its configuration asks for, which would be random: "
            f"{', '.join(lacking[:3])}{more}. Its files are incomplete, or config.json is another model's."
        )


def load_finished(source: str | os.PathLike) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a model in float32 and in eval mode, and its tokenizer.

    Args:
        source: folder or hub id.

    Raises:
        SystemExit: the architecture is neither a token classifier, nor a sequence classifier, nor a bare encoder.
        ValueError: weights are missing.
    """
    architecture = (AutoConfig.from_pretrained(source).architectures or ["none"])[0]
    endings = ("ForTokenClassification", "ForSequenceClassification", "Model")
    if not architecture.endswith(endings):
        raise SystemExit(
            f"The configuration of {source} names {architecture} as its architecture. Expected an architecture whose "
            f"name ends in {', '.join(endings)}."
        )
    auto_class = AUTO_CLASSES.get(head_of(architecture), AutoModel)
    model, report = auto_class.from_pretrained(source, dtype=torch.float32, output_loading_info=True)
    require_weights(source, report["missing_keys"])
    return model.eval(), AutoTokenizer.from_pretrained(source)
