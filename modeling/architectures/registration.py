"""Making models of our own known to transformers."""

from __future__ import annotations

from collections.abc import Mapping

from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel


def register(config: type[PreTrainedConfig], models: Mapping[type, type[PreTrainedModel]]) -> None:
    """Let the Auto classes load an architecture, and its code travel with every model that is saved.

    Args:
        config: the class of its configuration.
        models: Auto class -> the model that it loads.
    """
    AutoConfig.register(config.model_type, config)
    config.register_for_auto_class()
    for auto_class, model in models.items():
        auto_class.register(config, model)
        model.register_for_auto_class(auto_class.__name__)
