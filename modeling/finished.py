"""Finished models, each with the head that its configuration names."""

from __future__ import annotations

from pathlib import Path

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
    """The part of a model's class name that says which head it has."""
    return next((suffix for suffix in AUTO_CLASSES if architecture.endswith(suffix)), None)


HEADS = {ending: AUTO_CLASSES[ending] for ending in ("ForTokenClassification", "ForSequenceClassification")} | {
    "Model": AutoModel
}


def load_finished(source: str | Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a model in float32 and in eval mode, and its tokenizer.

    Args:
        source: folder or hub id.

    Raises:
        SystemExit: an architecture that neither tags, nor classifies, nor is an encoder without a head.
    """
    architecture = (AutoConfig.from_pretrained(source).architectures or ["none"])[0]
    for ending, auto_class in HEADS.items():
        if architecture.endswith(ending):
            model = auto_class.from_pretrained(source, dtype=torch.float32).eval()
            return model, AutoTokenizer.from_pretrained(source)
    raise SystemExit(
        f"The configuration of {source} names {architecture} as its architecture, but expected is one that ends in "
        f"{', '.join(HEADS)}."
    )
