"""Prints the environment for a bug report."""

import argparse
import platform
from importlib.metadata import PackageNotFoundError, version

import torch
from transformers import BertConfig, BertModel

from .. import __version__
from ..evaluation.cost import describe_machine
from ..modeling.encoding import AttentionSettings
from ..recipes import supports_bf16

PACKAGES = (
    *("torch", "transformers", "datasets", "accelerate", "peft", "evaluate", "seqeval", "huggingface_hub"),
    *("sentence-transformers", "deepspeed", "onnx", "onnxruntime"),
)


def run(options: argparse.Namespace) -> None:
    """Print the environment."""
    for name, value in described().items():
        print(f"{name:<22}{value}")


def described() -> dict[str, str]:
    """Versions, devices, precision and the attention back end."""
    device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    dtype = torch.bfloat16 if supports_bf16() else torch.float32
    count = torch.accelerator.device_count() if device.type != "cpu" else 1
    return {
        "retort": __version__,
        "Python": f"{platform.python_version()} on {platform.platform()}",
        **{name: _version(name) for name in PACKAGES},
        "device": f"{count} x {device.type}: {describe_machine(device)}",
        "bf16: auto": "on" if supports_bf16() else "off",
        "attention back end": str(AttentionSettings(device, dtype).choose(_small_bert())),
    }


def _small_bert() -> BertModel:
    """A model that supports all back ends."""
    sizes = {"hidden_size": 64, "num_attention_heads": 1, "num_hidden_layers": 1, "intermediate_size": 64}
    return BertModel(BertConfig(vocab_size=8, **sizes))


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
