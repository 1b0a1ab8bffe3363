"""Loads models with the head that their configuration names."""

import os

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


def load_finished(source: str | os.PathLike) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a model in float32 and in eval mode, and its tokenizer.

    Args:
        source: folder or hub id.

    Raises:
        SystemExit: the architecture is neither a token classifier, nor a sequence classifier, nor a bare encoder.
    """
    architecture = (AutoConfig.from_pretrained(source).architectures or ["none"])[0]
    endings = ("ForTokenClassification", "ForSequenceClassification", "Model")
    if not architecture.endswith(endings):
        raise SystemExit(
            f"The configuration of {source} names {architecture} as its architecture. Expected an architecture whose "
            f"name ends in {', '.join(endings)}."
        )
    auto_class = AUTO_CLASSES.get(head_of(architecture), AutoModel)
    return auto_class.from_pretrained(source, dtype=torch.float32).eval(), AutoTokenizer.from_pretrained(source)
