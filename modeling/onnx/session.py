"""Runs ONNX files with ONNX Runtime on PyTorch tensors."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from transformers import AutoConfig
from transformers.utils import ModelOutput

from ..encoding import encoder_subfolder

if TYPE_CHECKING:
    from onnxruntime import InferenceSession


def onnx_library(name: str) -> ModuleType:
    """Import a library of the extra `onnx`. The ImportError says how to install it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(f"ONNX files need {name}, which is not installed: pip install 'retort[onnx]'.") from error


def open_session(path: str | os.PathLike, threads: int | None = None) -> InferenceSession:
    """Load an ONNX file for the CPU.

    Args:
        path: the file.
        threads: threads per operator. None takes PyTorch's current number, so that speeds can be compared.

    Raises:
        FileNotFoundError: there is no such file.
        ImportError: onnxruntime is not installed.
    """
    onnxruntime = onnx_library("onnxruntime")
    if not Path(path).is_file():
        raise FileNotFoundError(f"There is no file {path}. Export the model first: retort export --model FOLDER.")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads() if threads is None else threads
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run_session(session: InferenceSession, inputs: Mapping[str, Tensor]) -> Tensor:
    """The first output of a session, on the CPU in float32.

    Args:
        session: from `open_session`.
        inputs: name -> int64, `[rows, width]` or `[rows]`. Inputs that the file doesn't take are ignored. If
            `token_type_ids` are missing, they are 0, as in transformers.

    Raises:
        ValueError: an input of the file is missing.
    """
    wanted = [node.name for node in session.get_inputs()]
    given = {"token_type_ids": torch.zeros_like(inputs["input_ids"])} | dict(inputs)
    if missing := [name for name in wanted if name not in given]:
        raise ValueError(f"The ONNX file takes {', '.join(wanted)}, but {', '.join(missing)} was not given.")
    first = session.get_outputs()[0].name
    (output,) = session.run([first], {name: given[name].cpu().numpy() for name in wanted})
    return torch.from_numpy(output)


class OnnxModel:
    """An ONNX file in a model's folder that is called like the PyTorch model, on the CPU.

    `Tagger(OnnxModel(folder), tokenizer)` predicts as `Tagger(AutoModelForTokenClassification...)` does.

    Args:
        folder: folder with `config.json` and the file.
        file: name of the file: `model.onnx` or `model-int8.onnx`.
        threads: threads per operator. None takes PyTorch's current number.

    Raises:
        FileNotFoundError: there is no such file.
        ImportError: onnxruntime is not installed.
    """

    device = torch.device("cpu")

    def __init__(self, folder: str | os.PathLike, file: str = "model.onnx", threads: int | None = None):
        self.path = Path(folder) / file
        self._session = open_session(self.path, threads)
        self.config = AutoConfig.from_pretrained(folder, subfolder=encoder_subfolder(folder))

    def __call__(self, **inputs: Tensor) -> ModelOutput:
        """Run the file on forward arguments, `[rows, width]` each, and return its first output under its name.

        The output is `logits`, `last_hidden_state` of an encoder without a head, or `sentence_embedding` of a sentence
        encoder, which may also need `prompt_length` `[rows]`.

        Raises:
            ValueError: an input of the file is missing.
        """
        return ModelOutput({self._session.get_outputs()[0].name: run_session(self._session, inputs)})
