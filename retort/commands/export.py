"""Exports a trained model to ONNX, compares it with PyTorch and measures its speed.

The file of a sentence-transformers folder includes pooling and modules. Prompts are part of the input tokens, so they
are saved beside it. Differences and speed are measured on docstrings of Python's standard library.
"""

import argparse
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ..data.readers import docstring_corpus
from ..evaluation.cost import Footprint, compare_speed, describe_machine
from ..evaluation.report import aligned
from ..modeling import load_finished, require_model
from ..modeling.encoding import SentenceEncoder, read_int8_ranges, read_routes, read_sentence_modules
from ..modeling.onnx import (
    FLOAT32_FILE,
    INT8_FILE,
    EmbeddingGraph,
    OnnxModel,
    embedding_inputs,
    onnx_agreement,
    quantize_int8,
)
from ..trainers.saving import check_own_folder, has_own_onnx, others_onnx, save_embeddings_onnx, save_onnx

SENTENCES, BATCH_SIZE, MAX_LENGTH = 256, 32, 128


def run(options: argparse.Namespace) -> None:
    """Export the model and print the comparison."""
    source, is_local = options.model, Path(options.model).exists()
    if is_local and not any((Path(source) / name).is_file() for name in ("config.json", "modules.json")):
        raise SystemExit(f"{source} has no config.json: --model takes the folder of a trained model.")
    if not (is_local or options.output_dir):
        raise SystemExit(f"There is no folder {source}. For a model on the Hub, set --output_dir.")
    require_model("--model", source)
    output_dir = Path(options.output_dir or source)
    routes = read_routes(source)
    beside_model = output_dir.resolve() == Path(source).resolve()
    for folder in (output_dir, *(output_dir / route for route in routes)):
        _check_folder(folder, beside_model, int8=options.int8)
    for route in routes or [None]:
        if route is not None:
            print(f"\nRoute {route}:")
        export(source, route, output_dir / route if route else output_dir, int8=options.int8)


def _check_folder(folder: Path, beside_model: bool, *, int8: bool) -> None:
    """Refuse a folder whose files would be replaced, but are another model's or none of retort's."""
    if not beside_model and _has_model(folder):
        raise SystemExit(f"{folder} has another model, whose files would be replaced. Name another --output_dir.")
    if other := others_onnx(folder, int8=int8):
        raise SystemExit(
            f"{folder} has a file {other} without retort's mark, which would be replaced. Name another --output_dir, "
            "or move the file."
        )
    if not beside_model and not has_own_onnx(folder):
        check_own_folder(folder, model_only=True)


def _has_model(folder: Path) -> bool:
    """Whether a folder has a model's weights, or a `modules.json` that doesn't lie beside an exported model."""
    weights = (f"{place}{name}" for place in ("", "0_*/") for name in ("*.safetensors", "pytorch_model*.bin"))
    if any(next(folder.glob(pattern), None) for pattern in weights):
        return True
    return (folder / "modules.json").exists() and not has_own_onnx(folder)


def export(source: str, route: str | None, output_dir: Path, *, int8: bool) -> None:
    """Export a model, or a route of a model with a Router, and print the comparison."""
    beside_model = output_dir.resolve() == Path(source).resolve()
    model: PreTrainedModel | EmbeddingGraph
    encode: Callable[[list[str]], Mapping[str, Tensor]]
    if read_sentence_modules(source, route=route) is not None:
        encoder = SentenceEncoder.from_pretrained(source, route=route)
        save_embeddings_onnx(encoder, output_dir, beside_model, read_int8_ranges(source))
        model, encode = EmbeddingGraph(encoder), partial(embedding_inputs, encoder)
    else:
        model, tokenizer = load_finished(source)
        save_onnx(model, tokenizer, output_dir, beside_model)
        longest = min(MAX_LENGTH, tokenizer.model_max_length)
        encode = partial(tokenizer, padding=True, truncation=True, max_length=longest, return_tensors="pt")
    files = [FLOAT32_FILE]
    if int8:
        quantize_int8(output_dir)
        files.append(INT8_FILE)
    print(f"{comparison(model, encode, output_dir, files)}\n\n{output_dir}/: {', '.join(files)}")


def comparison(
    model: PreTrainedModel | EmbeddingGraph,
    encode: Callable[[list[str]], Mapping[str, Tensor]],
    folder: Path,
    files: list[str],
) -> str:
    """A table that compares the PyTorch model and its files: size, agreement with PyTorch, speed."""
    texts = docstring_corpus().sentences["test"]["text"][:SENTENCES]
    batches = [encode(texts[start : start + BATCH_SIZE]) for start in range(0, len(texts), BATCH_SIZE)]
    found = {file: onnx_agreement(model, folder / file, batches) for file in files}
    models = {"PyTorch": model} | {file: OnnxModel(folder, file) for file in files}
    speeds = compare_speed({name: partial(outputs, made, encode) for name, made in models.items()}, texts)
    lines = [["", "MB", "max difference", "same class", "ms, 1 sentence", f"sentences/s, {BATCH_SIZE}", "speed-up"]]
    for name, speed in speeds.items():
        size = Footprint.of(model) if name == "PyTorch" else Footprint.of_file(folder / name, model)
        agreement = found.get(name)
        same = agreement and agreement.same_class
        lines.append(
            [
                name,
                f"{size.megabytes:.1f}",
                f"{agreement.max_difference:.1e}" if agreement else "-",
                "-" if same is None else f"{100 * same:.2f} %",
                f"{speed.milliseconds:.1f} ({speed.latency_speedup:.2f}x)",
                f"{speed.sentences_per_second:,.0f}",
                f"{speed.speedup:.2f}x",
            ]
        )
    note = f"Max difference: share of the largest output. Speed: medians of interleaved rounds on {describe_machine()}."
    return "\n".join([*aligned(lines, gap=3), "", note])


@torch.inference_mode()
def outputs(
    model: PreTrainedModel | EmbeddingGraph | OnnxModel,
    encode: Callable[[list[str]], Mapping[str, Tensor]],
    texts: list[str],
) -> object:
    """A model's outputs for texts."""
    return model(**encode(texts))
