"""Running an ONNX file with ONNX Runtime, on PyTorch's tensors."""

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
    """Import a library of the extra `onnx`; an ImportError tells how to install it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(f"ONNX files need {name}, which is not installed: pip install 'retort[onnx]'.") from error


def open_session(path: str | os.PathLike, threads: int | None = None) -> InferenceSession:
    """Load an ONNX file for the CPU.

    Args:
        path: the file.
        threads: for one operator; as many as PyTorch uses now if None, so that speeds can be compared.

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
        inputs: name -> int64, `[rows, width]` or `[rows]`; those that the file does not take are left out. Without
            `token_type_ids`, all tokens belong to the first text, as in transformers.

    Raises:
        ValueError: an input that the file takes is missing.
    """
    wanted = [node.name for node in session.get_inputs()]
    given = {"token_type_ids": torch.zeros_like(inputs["input_ids"])} | dict(inputs)
    if missing := [name for name in wanted if name not in given]:
        raise ValueError(f"The ONNX file takes {', '.join(wanted)}, but {', '.join(missing)} was not given.")
    first = session.get_outputs()[0].name
    (output,) = session.run([first], {name: given[name].cpu().numpy() for name in wanted})
    return torch.from_numpy(output)


class OnnxModel:
    """An ONNX file beside a model's configuration, called as the PyTorch model is, on the CPU.

    `Tagger(OnnxModel(folder), tokenizer)` predicts as `Tagger(AutoModelForTokenClassification...)` does.

    Args:
        folder: holds `config.json` and the file.
        file: its name: `model.onnx` or `model-int8.onnx`.
        threads: for one operator; as many as PyTorch uses if None.

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
        """Forward arguments, `[rows, width]` each, to the file's first output, under its name.

        That is `logits`, `last_hidden_state` of an encoder without head, or `sentence_embedding` of one with all that
        makes an embedding (which may take `prompt_length` `[rows]`).

        Raises:
            ValueError: an input that the file takes is missing.
        """
        return ModelOutput({self._session.get_outputs()[0].name: run_session(self._session, inputs)})
