"""Saves an encoder of queries and an encoder of documents as one SentenceTransformer with a `Router`."""

import json
import os
from pathlib import Path
from typing import Any

from ...data import replace_files, write_json
from ...modeling.encoding import SentenceEncoder

_ROUTER = "sentence_transformers.base.modules.router.Router"


def save_router(query: SentenceEncoder, document: SentenceEncoder, folder: str | os.PathLike) -> None:
    """Write a folder that `SentenceTransformer(folder)` loads.

    `encode_query` embeds with `query` and its prompt for queries; `encode_document`, and `encode` without a task, with
    `document` and its prompt for documents. The subfolders `query` and `document` are SentenceTransformer folders, too.

    Args:
        query: the encoder of queries, such as a small student.
        document: the encoder of documents, such as its teacher.
        folder: where to write.

    Raises:
        ValueError: the embeddings have different sizes, so they can't be compared.
    """
    if query.embedding_size != document.embedding_size:
        raise ValueError(
            f"Embeddings of queries have {query.embedding_size} dimensions, those of documents "
            f"{document.embedding_size}, so they can't be compared. Train the query encoder with keep_projector, which "
            "gives its embeddings the size of its teacher's."
        )
    encoders = {"query": query, "document": document}
    with replace_files(folder) as staging:
        for name, encoder in encoders.items():
            encoder.save_pretrained(staging / name)
        types = {name: _types(staging, name) for name in encoders}
        parameters = {"default_route": "document", "allow_empty_key": True, "route_mappings": {}}
        structure = {name: list(found) for name, found in types.items()}
        listed = {"types": types["query"] | types["document"], "structure": structure, "parameters": parameters}
        write_json(staging / "router_config.json", listed)
        write_json(staging / "config_sentence_transformers.json", _settings(query, document, staging))
        write_json(staging / "modules.json", [{"idx": 0, "name": "0", "path": "", "type": _ROUTER}])


def _types(folder: Path, route: str) -> dict[str, str]:
    """Path of each module of a route -> its class, in order."""
    entries = _read(folder / route / "modules.json")
    return {f"{route}/{entry['path']}" if entry["path"] else route: entry["type"] for entry in entries}


def _settings(query: SentenceEncoder, document: SentenceEncoder, folder: Path) -> dict[str, Any]:
    """Settings of both routes: those of the documents, with the prompts of each."""
    prompts = {"query": query.modules.query_prompt, "document": document.modules.document_prompt}
    # sentence-transformers truncates the embeddings of all routes. It changes none that are as short already.
    truncate_dim = query.modules.truncate_dim or document.modules.truncate_dim
    settings = _read(folder / "document" / "config_sentence_transformers.json")
    settings |= {"prompts": prompts, "default_prompt_name": "document" if prompts["document"] else None}
    return settings | ({"truncate_dim": truncate_dim} if truncate_dim else {})


def _read(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))
