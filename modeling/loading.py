"""Loads models with the head that their configuration names."""

import os
from collections.abc import Iterable
from typing import Any

import torch
import transformers
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoModelForTextEncoding,
    AutoModelForTokenClassification,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

AUTO_CLASSES = {
    "ForTokenClassification": AutoModelForTokenClassification,
    "ForSequenceClassification": AutoModelForSequenceClassification,
    "ForMaskedLM": AutoModelForMaskedLM,
}
# How transformers calls the encoder of an encoder-decoder that is a model of its own, e.g. T5EncoderModel.
_ENCODER_ALONE = "EncoderModel"
# The arguments of `from_pretrained` that say where files are, and whether their code may run.
_PLACE = """subfolder revision token cache_dir local_files_only force_download proxies trust_remote_code
code_revision""".split()


def auto_class_for(model: PreTrainedModel):
    """The Auto class that loads a model with the same kind of head."""
    return AUTO_CLASSES.get(head_of(type(model).__name__), AutoModel)


def head_of(architecture: str) -> str | None:
    """The end of a model's class name that names its head, e.g. `"ForMaskedLM"`; None for other classes."""
    return next((suffix for suffix in AUTO_CLASSES if architecture.endswith(suffix)), None)


def encoder_class(config: PreTrainedConfig):
    """The class that loads the encoder of this configuration without a head: `AutoModel` for nearly all.

    For T5 and its like, `AutoModel` loads an encoder and a decoder. The encoder's own class is the one that the
    configuration names or, in files of both, the one that transformers has for texts.
    """
    named = getattr(transformers, (config.architectures or [""])[0], None)
    usual = AutoModelForTextEncoding._model_mapping.get(type(config), None)
    for each in (named, usual):
        if each is not None and each.__name__.endswith(_ENCODER_ALONE) and each.config_class is type(config):
            return each
    return AutoModel


def load_encoder(source: str | os.PathLike, **settings: Any) -> Any:
    """`AutoModel.from_pretrained` with these arguments, but by `encoder_class`.

    Args:
        source: folder or hub id.
        settings: arguments of `from_pretrained`.
    """
    config = settings.get("config")
    if not isinstance(config, PreTrainedConfig):
        try:
            config = AutoConfig.from_pretrained(source, **{name: settings[name] for name in _PLACE if name in settings})
        except (OSError, ValueError):  # an adapter, which AutoModel loads; or AutoModel will say what is wrong
            return AutoModel.from_pretrained(source, **settings)
    return encoder_class(config).from_pretrained(source, **settings)


def from_config(config: PreTrainedConfig, auto_class: Any, **settings: Any) -> PreTrainedModel:
    """A model of this configuration without a checkpoint's weights. `auto_class` is an Auto class or a model's."""
    make = auto_class._from_config if issubclass(auto_class, PreTrainedModel) else auto_class.from_config
    return make(config, **settings)


def without_decoder(model: PreTrainedModel) -> str | None:
    """The name of the encoder-decoder that `AutoModel` would load, if `model` is the encoder of one; otherwise None."""
    whole = AutoModel._model_mapping.get(type(model.config), None)
    return whole.__name__ if whole is not None and type(model).__name__.endswith(_ENCODER_ALONE) else None


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
    config = AutoConfig.from_pretrained(source)
    architecture = (config.architectures or ["none"])[0]
    endings = ("ForTokenClassification", "ForSequenceClassification", "Model")
    if not architecture.endswith(endings):
        raise SystemExit(
            f"The configuration of {source} names {architecture} as its architecture. Expected an architecture whose "
            f"name ends in {', '.join(endings)}."
        )
    auto_class = AUTO_CLASSES.get(head_of(architecture)) or encoder_class(config)
    model, report = auto_class.from_pretrained(source, dtype=torch.float32, output_loading_info=True)
    require_weights(source, report["missing_keys"])
    return model.eval(), AutoTokenizer.from_pretrained(source)
