"""Reads and writes the files of a sentence-transformers folder."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HFValidationError, RepositoryNotFoundError
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerBase

from .layout import most_positions
from .sentence_format import CLASSES, StoredModule, parse_modules, require_known, store_modules, store_settings
from .sentence_modules import SentenceModules
from .sentence_routes import refuse_route, resolve_route

_WITH_WEIGHTS = ("WeightedLayerPooling", "Dense", "LayerNorm")
INT8_RANGES_FILE = "int8_ranges.npy"
_LONGEST = 2**31 - 1  # a tokenizer without a limit has a model_max_length of 10^30, which tokenizers can't take
_ROUTERS = ("Router", "Asym")  # before version 5 a Router was called Asym


def read_sentence_modules(
    name_or_path: str | os.PathLike, config: PreTrainedConfig | None = None, *, route: str | None = None
) -> SentenceModules | None:
    """Read the modules around the encoder of a sentence-transformers model of any version.

    Args:
        name_or_path: a folder, or a model id on the Hub.
        config: configuration of the encoder, if the folder has none, as an adapter's.
        route: the task ("query", "document") or route whose modules are read from a model with a `Router`. Default: the
            model's default.

    Returns:
        The modules; None if there is no `modules.json`. The user must then choose a pooler.

    Raises:
        ValueError: the model processes texts or embeddings in a way that retort doesn't support, which the message
            names; or there is no such route.
    """
    source = os.fspath(name_or_path)
    listed = _listed_modules(source, route)
    if listed is None:
        return None
    kinds = [kind for kind, _ in listed]
    require_known(source, kinds)
    folder = listed[0][1]
    if kinds[0] == "StaticEmbedding" and "vocab_size" not in (_json(source, _inside(folder, "config.json")) or {}):
        raise ValueError(
            f"{source} has static token vectors without the sizes (vocab_size, hidden_size) in config.json that retort "
            "writes. retort loads only the static models that it trained."
        )
    config = config or AutoConfig.from_pretrained(source, subfolder=folder)
    names = ("sentence_bert_config.json", f"sentence_{config.model_type}_config.json")
    encoder = next((found for name in names if (found := _json(source, _inside(folder, name)))), {})
    if encoder.get("do_lower_case"):
        require_lowercase(source, AutoTokenizer.from_pretrained(source, subfolder=folder))
    stored = [StoredModule(kinds[0], encoder)]
    for kind, path in listed[1:]:
        weights = _weights(source, path) if kind in _WITH_WEIGHTS else {}
        stored.append(StoredModule(kind, _json(source, f"{path}/config.json") or {}, weights))
    settings = _json(source, "config_sentence_transformers.json") or {}
    return parse_modules(source, stored, settings, _max_length(source, folder, encoder, config))


def encoder_subfolder(name_or_path: str | os.PathLike, *, route: str | None = None) -> str:
    """The subfolder of a model that holds its encoder and tokenizer, for `from_pretrained(subfolder=...)`; "" for none.

    Args: see `read_sentence_modules`.
    """
    listed = _listed_modules(os.fspath(name_or_path), route)
    return listed[0][1] if listed else ""


def read_routes(name_or_path: str | os.PathLike) -> tuple[str, ...]:
    """The routes of a model with a `Router`, in a folder or on the Hub; empty for any other model."""
    source = os.fspath(name_or_path)
    routers = [entry["path"] for entry in _json(source, "modules.json") or () if _kind(entry["type"]) in _ROUTERS]
    found = _router(source, routers[0]) if routers else None
    return tuple(found["structure"]) if found else ()


def _listed_modules(source: str, route: str | None) -> list[tuple[str, str]] | None:
    """Kind and folder of each module, with a Router replaced by its route's modules; None without `modules.json`."""
    entries = _json(source, "modules.json")
    if entries is None:
        return None
    if not any(_kind(entry["type"]) in _ROUTERS for entry in entries):
        refuse_route(source, route)
    listed: list[tuple[str, str]] = []
    for entry in entries:
        kind, path = _kind(entry["type"]), entry["path"]
        router = _router(source, path) if kind in _ROUTERS else None
        if router is None:
            listed.append((kind, path))
        else:
            chosen = resolve_route(source, router["structure"], router["parameters"], route)
            listed += [(_kind(router["types"][name]), _inside(path, name)) for name in router["structure"][chosen]]
    return listed


def _kind(type_name: str) -> str:
    return type_name.rsplit(".", 1)[-1]


def _router(source: str, folder: str) -> Any:
    """A Router's routes and settings; None if its files don't contain them."""
    files = (_inside(folder, name) for name in ("router_config.json", "config.json"))
    return next((found for file in files if "structure" in (found := _json(source, file) or {})), None)


def _inside(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _file(source: str, path: str) -> Path | None:
    """A model's file, from its folder or from the Hub; None if there is no such file or no such model.

    A missing model is reported when its weights are loaded.
    """
    if os.path.isdir(source):
        return local if (local := Path(source, path)).is_file() else None
    try:
        return Path(hf_hub_download(source, path))
    except (EntryNotFoundError, RepositoryNotFoundError, HFValidationError):
        return None


def _json(source: str, path: str) -> Any:
    if (file := _file(source, path)) is None:
        return None
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{source}: {path} is damaged ({error}).") from error


def _weights(source: str, folder: str) -> dict[str, Tensor]:
    if file := _file(source, f"{folder}/model.safetensors"):
        return load_file(file)
    if file := _file(source, f"{folder}/pytorch_model.bin"):
        return torch.load(file, map_location="cpu", weights_only=True)
    raise ValueError(f"{source}/{folder} has neither model.safetensors nor pytorch_model.bin.")


def require_lowercase(source: str, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a model that lowercases texts outside its tokenizer."""
    normalizer = tokenizer.backend_tokenizer.normalizer
    if normalizer is None or normalizer.normalize_str("A") != "a":
        raise ValueError(
            f"{source} lowercases texts outside its tokenizer (do_lower_case), and retort does not. Lowercase the "
            "texts, and use a copy of the model whose do_lower_case is false."
        )


def _max_length(source: str, folder: str, settings: Mapping[str, Any], config: PreTrainedConfig) -> int:
    if length := settings.get("max_seq_length"):
        return min(length, _LONGEST)
    tokenizer = _json(source, _inside(folder, "tokenizer_config.json")) or {}
    limits = tokenizer.get("model_max_length") or math.inf, most_positions(config)
    if min(limits) == math.inf:
        raise ValueError(f"The files of {source} give no maximal length of texts (max_seq_length).")
    return min(*limits, _LONGEST)


def write_sentence_modules(
    folder: str | os.PathLike, modules: SentenceModules, saved: str | os.PathLike, padding_side: str | None = None
) -> None:
    """Write the files that turn an encoder's folder into a sentence-transformers folder.

    The tokenizer's `model_max_length` is set to `modules.max_length`, since sentence-transformers reads it there.

    Args:
        folder: where to write; may be `saved`.
        modules: the modules around the encoder.
        saved: folder to which the encoder and its tokenizer were saved by `save_pretrained`.
        padding_side: the tokenizer's padding side, which it doesn't save itself; None leaves the file's.

    Raises:
        ValueError: a module doesn't fit the encoder's width.
    """
    folder, saved = Path(folder), Path(saved)
    stored = store_modules(modules, AutoConfig.from_pretrained(saved))
    tokenizer = json.loads((saved / "tokenizer_config.json").read_text(encoding="utf-8"))
    tokenizer |= {"model_max_length": modules.max_length} | ({"padding_side": padding_side} if padding_side else {})
    versions = {"transformers": transformers.__version__, "pytorch": str(torch.__version__)}
    paths = ["", *(f"{index}_{module.kind}" for index, module in enumerate(stored) if index)]
    _write(folder / "tokenizer_config.json", tokenizer)
    if stored[0].kind == "StaticEmbedding":
        _write_static_files(folder, saved, modules)
    else:
        _write(folder / "sentence_bert_config.json", stored[0].config)
    _write(folder / "config_sentence_transformers.json", store_settings(modules, versions))
    for path, module in zip(paths[1:], stored[1:], strict=True):
        _write(folder / path / "config.json", module.config)
        if module.weights:
            save_file(dict(module.weights), folder / path / "model.safetensors")
    listed = [
        {"idx": index, "name": str(index), "path": path, "type": CLASSES[module.kind]}
        for index, (path, module) in enumerate(zip(paths, stored, strict=True))
    ]
    _write(folder / "modules.json", listed)


def _write_static_files(folder: Path, saved: Path, modules: SentenceModules) -> None:
    """Write tokenizer and configuration as sentence-transformers' StaticEmbedding and model2vec read them: the one
    truncates texts only if tokenizer.json says so, the other normalises only if config.json says so."""
    tokenizer = Tokenizer.from_file(str(saved / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(min(modules.max_length, _LONGEST))
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = json.loads((saved / "config.json").read_text(encoding="utf-8"))
    _write(folder / "config.json", config | {"normalize": modules.normalizes})


def _write(file: Path, content: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_int8_ranges(folder: str | os.PathLike, ranges: Tensor) -> None:
    """Write the ranges that `quantize_embeddings(..., ranges=...)` of sentence-transformers takes.

    Args:
        folder: folder of a sentence-transformers model.
        ranges: `[2, dims]`, the minimum and maximum of each dimension of its embeddings.
    """
    np.save(Path(folder) / INT8_RANGES_FILE, ranges.detach().float().cpu().numpy())


def read_int8_ranges(folder: str | os.PathLike) -> Tensor | None:
    """The ranges that `write_int8_ranges` wrote, `[2, dims]`, float32; None if there are none."""
    file = Path(folder) / INT8_RANGES_FILE
    return torch.from_numpy(np.load(file)) if file.exists() else None
