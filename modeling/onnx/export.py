"""Exports encoders to ONNX, quantises the files to int8, and compares them with PyTorch."""

import inspect
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

from ..encoding import SentenceEncoder, most_positions
from ..modes import evaluating
from .embedding import EmbeddingGraph
from .mark import mark
from .session import onnx_library, open_session, run_session

FLOAT32_FILE = "model.onnx"
INT8_FILE = "model-int8.onnx"

# Maximal difference between a float32 file and PyTorch, as a share of the largest output.
TOLERANCE = 1e-4

_OPSET = 17
# The checked widths are below and above the traced width, and the limits of position buckets and attention windows.
_TRACED_SHAPE = (3, 11)
_CHECKED_SHAPES = ((1, 1), (3, 11), (8, 33), (5, 150), (2, 512))


@dataclass(frozen=True)
class OnnxAgreement:
    """Agreement of an ONNX file with the PyTorch model that it was exported from.

    Attributes:
        max_difference: the largest difference of an output, as a share of the largest output of the PyTorch model.
        same_class: share of the rows, or of the tokens without padding, whose predicted class is the same; None for
            encoders without a head.
    """

    max_difference: float
    same_class: float | None


def export_onnx(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: str | os.PathLike) -> Path:
    """Write `model.onnx`, for batches of any number of rows and any width.

    Its inputs, int64 `[batch, width]`, are the tokenizer's outputs that the model takes: `input_ids`, `attention_mask`
    and, for some models, `token_type_ids`. Its output is the model's first one: `logits`, or `last_hidden_state` of an
    encoder without a head. The file is compared with PyTorch on padded batches of random tokens before it is moved to
    its final name.

    Args:
        model: an encoder, with or without a head, in float32.
        tokenizer: the model's tokenizer.
        folder: where to write; created if needed.

    Returns:
        The file's path.

    Raises:
        ValueError: the model is not in float32.
        RuntimeError: the file's outputs differ from PyTorch's by more than `TOLERANCE`, or the model can't be
            exported. Nothing is written.
        ImportError: onnx or onnxruntime is not installed.
    """
    names = [name for name in tokenizer.model_input_names if name in inspect.signature(model.forward).parameters]
    return _export(model, names, folder, most=tokenizer.model_max_length)


def export_embeddings(encoder: SentenceEncoder, folder: str | os.PathLike) -> Path:
    """Write `model.onnx` of an encoder with its pooling and the modules after it: tokens in, embeddings out.

    Its inputs are those of `export_onnx`. If prompts are not pooled, there is also `prompt_length`, int64 `[batch]`,
    the number of tokens in each row's prompt, including special tokens before it. `embedding_inputs` makes all inputs.
    The outputs are `sentence_embedding` `[batch, embedding_size]`, as from `SentenceTransformer.encode`, and
    `last_hidden_state` `[batch, width, hidden]`. The file is compared with PyTorch as in `export_onnx`.

    Args:
        encoder: a sentence encoder in float32. The file's input tokens have to include the prompt.
        folder: where to write; created if needed.

    Returns:
        The file's path.

    Raises:
        ValueError: the encoder is a causal model, or not in float32.
        RuntimeError: as in `export_onnx`.
        ImportError: onnx or onnxruntime is not installed.
    """
    graph = EmbeddingGraph(encoder)
    taken = inspect.signature(graph.model.forward).parameters
    names = [name for name in encoder.tokenizer.model_input_names if name in taken]
    names += [] if encoder.modules.include_prompt else ["prompt_length"]
    return _export(graph, names, folder, most=encoder.max_length)


def _export(model: PreTrainedModel | EmbeddingGraph, names: list[str], folder: str | os.PathLike, most: int) -> Path:
    """Export a model with inputs of these names, and compare the file with it on rows of at most `most` tokens."""
    onnx_library("onnx")
    if model.dtype != torch.float32:
        raise ValueError(f"The model is in {model.dtype}, but must be exported in float32: call model.float() first.")
    with _atomic_file(Path(folder) / FLOAT32_FILE) as path:
        _trace(model, names, path)
        with _named(model, "ONNX Runtime can't run the file at other shapes than it was traced at"):
            found = onnx_agreement(model, path, _random_batches(model, most, names))
        # Written so that NaN is refused.
        if not found.max_difference <= TOLERANCE:
            raise RuntimeError(
                f"The ONNX file of {type(model).__name__} differs from PyTorch by {found.max_difference:.1e} of the "
                f"largest output; rounding causes at most {TOLERANCE:.0e}. Its forward pass depends on values of its "
                "inputs in a way that torch.onnx.export can't trace."
            )
        mark(path)
    return Path(folder) / FLOAT32_FILE


def quantize_int8(folder: str | os.PathLike) -> Path:
    """Write `model-int8.onnx`, about a quarter of the size, beside the `model.onnx` of a folder, and return its path.

    This is ONNX Runtime's dynamic quantisation, which needs no data. The weights of linear maps (one scale for each
    output) and LSTMs and all embedding tables (one scale for each table) are stored in int8. Activations are quantised
    before every linear map with one scale for the whole batch, so the outputs of a row depend slightly on the other
    rows. Biases, norms, and the products of queries, keys and values stay in float32. On CPUs without VNNI or AMX, sums
    may saturate: measure on the CPU where the file will run.

    Raises:
        FileNotFoundError: the folder has no `model.onnx`.
        ImportError: onnx or onnxruntime is not installed.
    """
    onnx_library("onnx")
    quantization = onnx_library("onnxruntime.quantization")
    source = Path(folder) / FLOAT32_FILE
    if not source.is_file():
        raise FileNotFoundError(f"There is no {source} to quantise. Write it with export_onnx first.")
    with _atomic_file(Path(folder) / INT8_FILE) as path:
        simplified = path.with_name("simplified.onnx")
        # Folds constants; otherwise DeBERTa's maps of relative positions would stay in float32. Dynamic quantisation
        # doesn't need symbolic shapes, and they can't be inferred for all families.
        quantization.shape_inference.quant_pre_process(source, simplified, skip_symbolic_shape=True)
        quantization.quantize_dynamic(simplified, path, per_channel=True, weight_type=quantization.QuantType.QInt8)
        mark(path)
    return Path(folder) / INT8_FILE


def onnx_agreement(
    model: PreTrainedModel | EmbeddingGraph, path: str | os.PathLike, batches: Iterable[Mapping[str, Tensor]]
) -> OnnxAgreement:
    """Compare the first output of an ONNX file with that of its PyTorch model, ignoring padding.

    Args:
        model: the PyTorch model.
        path: the file.
        batches: the file's inputs, including `attention_mask`; at least one batch.
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
    # Not Python's max, which may ignore NaN.
    difference = float(torch.stack(differences).max() / torch.stack(sizes).max())
    has_classes = session.get_outputs()[0].name == "logits"
    return OnnxAgreement(difference, same / count if has_classes else None)


class _Traced(nn.Module):
    """A wrapper for tracing: takes a model's inputs as positional arguments and returns the named outputs."""

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
        # Tracing warns of each Python branch that becomes constant. The comparison afterwards finds those that matter.
        warnings.simplefilter("ignore")
        outputs = model(**inputs)
        made = list(outputs) if isinstance(model, EmbeddingGraph) else list(outputs)[:1]
        row_wise = {name for name in made if outputs[name].dim() == 2} | {"prompt_length"}
        with _named(model, "torch.onnx.export can't write its forward pass"):
            torch.onnx.export(
                _Traced(model, names, made).eval(),
                tuple(inputs.values()),
                path,
                # The newer exporter (dynamo=True) can't export packed sequences, and makes an LSTM's width constant.
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
    positions = most_positions(model.config) - 2
    for rows, width in _CHECKED_SHAPES:
        yield _random_batch(model, names, rows, int(min(width, most, positions)))


def _random_batch(
    model: PreTrainedModel | EmbeddingGraph, names: list[str], rows: int, width: int
) -> dict[str, Tensor]:
    """Pairs of texts, padded on the right: the rows have `width`, `width / 2`, `width / 3`, ... tokens."""
    config = model.config
    generator = torch.Generator().manual_seed(0)
    lengths = torch.tensor([max(1, width // (row + 1)) for row in range(rows)])
    mask = (torch.arange(width) < lengths[:, None]).long()
    tokens = torch.randint(config.vocab_size, (rows, width), generator=generator)
    # Models for single texts have one token type, or ignore token types.
    last_type = max(getattr(config, "type_vocab_size", 1) - 1, 0)
    made = {
        "input_ids": torch.where(mask.bool(), tokens, config.pad_token_id or 0),
        "attention_mask": mask,
        "token_type_ids": mask * last_type * (torch.arange(width) > width // 4),
        "prompt_length": lengths // 2,
    }
    return {name: made[name].to(model.device) for name in names}


@contextmanager
def _named(model: PreTrainedModel | EmbeddingGraph, failure: str) -> Iterator[None]:
    """Add the model's name and the way out to the errors of the exporter and of ONNX Runtime.

    Both fail in their own ways: by an exception of C++ without a name ("unordered_map::at", EmbeddingGemma, whose mask
    the exporter can't trace), UnsupportedOperatorError (FNet), InvalidArgument (Longformer).
    """
    try:
        yield
    except ImportError:
        raise
    except Exception as error:
        name = type(model.model if isinstance(model, EmbeddingGraph) else model).__name__
        raise RuntimeError(
            f"{name} can't be exported to ONNX: {failure} ({type(error).__name__}: {str(error).strip()[:300]}). Serve "
            "it by PyTorch, or distil it into a student of another architecture."
        ) from error


@contextmanager
def _atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path. The file written there is moved to `path` if the block raises no exception."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # A killed process may leave this folder. Names that begin with an underscore are not pushed to the Hub.
    with tempfile.TemporaryDirectory(prefix="_incomplete-", dir=path.parent) as staging:
        temporary = Path(staging) / path.name
        yield temporary
        os.replace(temporary, path)
