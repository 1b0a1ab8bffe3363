"""Encoders as ONNX files: exported, made smaller by int8, and compared with PyTorch."""

import inspect
import math
import os
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..encoding import SentenceEncoder
from ..modes import evaluating
from .embedding import EmbeddingGraph
from .session import onnx_library, open_session, run_session

FLOAT32_FILE = "model.onnx"
INT8_FILE = "model-int8.onnx"

# How far a float32 file may be from PyTorch, as a share of the largest output.
TOLERANCE = 1e-4

_OPSET = 17
# Widths on both sides of what positions are relative to (buckets, windows), and of the width that is traced.
_TRACED_SHAPE = (3, 11)
_CHECKED_SHAPES = ((1, 1), (3, 11), (8, 33), (5, 150), (2, 512))


@dataclass(frozen=True)
class OnnxAgreement:
    """How far an ONNX file agrees with the PyTorch model that it was made of.

    Attributes:
        max_difference: the largest difference of an output, as a share of the largest output of the PyTorch model.
        same_class: share of the rows, or of the tokens that are not padding, with the same highest logit; None for
            encoders without a head.
    """

    max_difference: float
    same_class: float | None


def export_onnx(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: str | os.PathLike) -> Path:
    """Write `model.onnx`, for batches of any number of rows and any width.

    Its inputs, int64 and `[batch, width]`, are those that the tokenizer makes and the model takes: `input_ids`,
    `attention_mask` and, for some, `token_type_ids`. Its output is the model's first one: `logits`, or
    `last_hidden_state` of an encoder without a head. The file is compared with PyTorch on padded batches of random
    tokens before it gets its name.

    Args:
        model: an encoder, with or without a head, in float32.
        tokenizer: the one that it was trained with.
        folder: where to write; made if need be.

    Returns:
        The file's path.

    Raises:
        ValueError: the model is not in float32.
        RuntimeError: the file's outputs differ from PyTorch's by more than `TOLERANCE`. Nothing was written then.
        ImportError: onnx or onnxruntime is not installed.
    """
    names = [name for name in tokenizer.model_input_names if name in inspect.signature(model.forward).parameters]
    return _export(model, names, folder, most=tokenizer.model_max_length)


def export_embeddings(encoder: SentenceEncoder, folder: str | os.PathLike) -> Path:
    """Write `model.onnx` of an encoder with its pooling and all that comes after it: tokens in, embeddings out.

    Its inputs are those of `export_onnx`; if prompts are not pooled also `prompt_length`, int64 and `[batch]`, how many
    tokens each row's prompt has, special ones before it included (`embedding_inputs` makes all of them). Its outputs
    are `sentence_embedding` `[batch, embedding_size]`, as `SentenceTransformer.encode` makes it of these tokens, and
    `last_hidden_state` `[batch, width, hidden]`. The file is compared with PyTorch as in `export_onnx`.

    Args:
        encoder: in float32. Its prompts stand in the tokens that the file is given.
        folder: where to write; made if need be.

    Returns:
        The file's path.

    Raises:
        ValueError: the encoder is a causal model, or not in float32.
        RuntimeError: as of `export_onnx`.
        ImportError: onnx or onnxruntime is not installed.
    """
    graph = EmbeddingGraph(encoder)
    taken = inspect.signature(graph.model.forward).parameters
    names = [name for name in encoder.tokenizer.model_input_names if name in taken]
    names += [] if encoder.modules.include_prompt else ["prompt_length"]
    return _export(graph, names, folder, most=encoder.max_length)


def _export(model: PreTrainedModel | EmbeddingGraph, names: list[str], folder: str | os.PathLike, most: int) -> Path:
    """Trace a model of inputs of these names, and compare the file with it on rows of at most `most` tokens."""
    onnx_library("onnx")
    if model.dtype != torch.float32:
        raise ValueError(f"The model is in {model.dtype}, but is exported in float32: call model.float() first.")
    with _written_whole(Path(folder) / FLOAT32_FILE) as path:
        _trace(model, names, path)
        found = onnx_agreement(model, path, _random_batches(model, most, names))
        # A difference that is not a number is not small.
        if not found.max_difference <= TOLERANCE:
            raise RuntimeError(
                f"The ONNX file of {type(model).__name__} differs from PyTorch by {found.max_difference:.1e} of the "
                f"largest output; at most {TOLERANCE:.0e} is rounding. Its forward pass depends on values of its "
                "inputs in a way that tracing cannot see (torch.onnx.export)."
            )
    return Path(folder) / FLOAT32_FILE


def quantize_int8(folder: str | os.PathLike) -> Path:
    """Write `model-int8.onnx` beside the `model.onnx` of a folder, about a quarter of its size, and return its path.

    In int8 are the weights of linear maps (one scale for each output), of LSTMs, and the embedding tables (one scale
    for each table), word embeddings among them. Activations are quantised as they come, before every linear map, with
    one scale for the whole batch: outputs of a row depend a little on the rows beside it. Biases, norms, and the
    products of queries, keys and values stay in float32. This is ONNX Runtime's dynamic quantisation: no data is
    needed. On processors without VNNI or AMX, sums may saturate: measure where the file will run.

    Raises:
        FileNotFoundError: the folder has no `model.onnx`.
        ImportError: onnx or onnxruntime is not installed.
    """
    onnx_library("onnx")
    quantization = onnx_library("onnxruntime.quantization")
    source = Path(folder) / FLOAT32_FILE
    if not source.is_file():
        raise FileNotFoundError(f"There is no {source} to quantise. Write it with export_onnx first.")
    with _written_whole(Path(folder) / INT8_FILE) as path:
        simplified = path.with_name("simplified.onnx")
        # Folds constants. DeBERTa's maps of relative positions would stay in float32 without it. Symbolic shapes are
        # of no use to dynamic quantisation, and can't be inferred for all families.
        quantization.shape_inference.quant_pre_process(source, simplified, skip_symbolic_shape=True)
        quantization.quantize_dynamic(simplified, path, per_channel=True, weight_type=quantization.QuantType.QInt8)
    return Path(folder) / INT8_FILE


def onnx_agreement(
    model: PreTrainedModel | EmbeddingGraph, path: str | os.PathLike, batches: Iterable[Mapping[str, Tensor]]
) -> OnnxAgreement:
    """Compare an ONNX file's first output with that of the PyTorch model that it was made of, but for the padding.

    Args:
        model: the PyTorch model.
        path: the file.
        batches: the file's inputs, `attention_mask` among them; at least one batch.
    """
    session = open_session(path)
    differences, sizes, same, count = [], [], 0, 0
    with evaluating(model), torch.inference_mode():
        for inputs in batches:
            expected = model(**{name: tensor.to(model.device) for name, tensor in inputs.items()})[0].cpu()
            found = run_session(session, inputs)
            if expected.dim() == 3:
                real = inputs["attention_mask"].bool().cpu()
                expected, found = expected[real], found[real]
            differences.append((expected - found).abs().max())
            sizes.append(expected.abs().max())
            same += int((expected.argmax(-1) == found.argmax(-1)).sum())
            count += len(expected)
    # Not Python's max, which may overlook a NaN.
    difference = float(torch.stack(differences).max() / torch.stack(sizes).max())
    has_classes = session.get_outputs()[0].name == "logits"
    return OnnxAgreement(difference, same / count if has_classes else None)


class _Traced(nn.Module):
    """A model as a function of tensors: positional arguments in, the outputs of some names out."""

    def __init__(self, model: nn.Module, inputs: list[str], outputs: list[str]):
        super().__init__()
        self.model = model
        self.inputs = inputs
        self.outputs = outputs

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        made = self.model(**dict(zip(self.inputs, tensors, strict=True)))
        return tuple(made[name] for name in self.outputs)


def _trace(model: PreTrainedModel | EmbeddingGraph, names: list[str], path: Path) -> None:
    inputs = _random_batch(model, names, *_TRACED_SHAPE)
    with evaluating(model), torch.no_grad(), warnings.catch_warnings():
        # Tracing warns of each branch of Python that it fixes. Whether one matters is measured afterwards.
        warnings.simplefilter("ignore")
        outputs = model(**inputs)
        made = list(outputs) if isinstance(model, EmbeddingGraph) else list(outputs)[:1]
        row_wise = {name for name in made if outputs[name].dim() == 2} | {"prompt_length"}
        torch.onnx.export(
            _Traced(model, names, made).eval(),
            tuple(inputs.values()),
            path,
            # The newer exporter (dynamo=True) can't export packed sequences, and fixes the width of an LSTM's.
            dynamo=False,
            opset_version=_OPSET,
            input_names=names,
            output_names=made,
            dynamic_axes={
                name: {0: "batch"} if name in row_wise else {0: "batch", 1: "width"} for name in (*names, *made)
            },
        )


def _random_batches(
    model: PreTrainedModel | EmbeddingGraph, most: int, names: list[str]
) -> Iterator[dict[str, Tensor]]:
    # RoBERTa and MPNet count positions from 2.
    positions = getattr(model.config, "max_position_embeddings", math.inf) - 2
    for rows, width in _CHECKED_SHAPES:
        yield _random_batch(model, names, rows, int(min(width, most, positions)))


def _random_batch(
    model: PreTrainedModel | EmbeddingGraph, names: list[str], rows: int, width: int
) -> dict[str, Tensor]:
    """Rows of `width` tokens, half as many, a third, ..., padded on the right; in pairs of texts."""
    config = model.config
    generator = torch.Generator().manual_seed(0)
    lengths = torch.tensor([max(1, width // (row + 1)) for row in range(rows)])
    mask = (torch.arange(width) < lengths[:, None]).long()
    tokens = torch.randint(config.vocab_size, (rows, width), generator=generator)
    # Models of one text alone have one type, or none and take no heed of it.
    last_type = max(getattr(config, "type_vocab_size", 1) - 1, 0)
    made = {
        "input_ids": torch.where(mask.bool(), tokens, config.pad_token_id or 0),
        "attention_mask": mask,
        "token_type_ids": mask * last_type * (torch.arange(width) > width // 4),
        "prompt_length": lengths // 2,
    }
    return {name: made[name].to(model.device) for name in names}


@contextmanager
def _written_whole(path: Path) -> Iterator[Path]:
    """Give a path in a temporary folder; what is written there takes `path`'s name if the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Names that begin with an underscore are not pushed to the Hub, should a kill leave one behind.
    with tempfile.TemporaryDirectory(prefix="_incomplete-", dir=path.parent) as staging:
        temporary = Path(staging) / path.name
        yield temporary
        os.replace(temporary, path)
