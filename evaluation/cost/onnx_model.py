"""An exported model in the place of a PyTorch one."""

import os
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoConfig
from transformers.utils import ModelOutput

from ...modeling.onnx import open_session, run_session


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
        self.config = AutoConfig.from_pretrained(folder)

    def __call__(self, **inputs: Tensor) -> ModelOutput:
        """Forward arguments, `[rows, width]` each, to `logits`, or `last_hidden_state` of an encoder without head.

        Raises:
            ValueError: an input that the file takes is missing.
        """
        return ModelOutput({self._session.get_outputs()[0].name: run_session(self._session, inputs)})
