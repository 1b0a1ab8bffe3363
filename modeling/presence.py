"""Whether a model that is named by folder or Hub id exists."""

import json
from pathlib import Path

from huggingface_hub import hf_hub_download, snapshot_download
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError


def require_model(key: str, source: str) -> None:
    """Check that a model exists, without loading it.

    Args:
        key: where the name is from, such as `teacher` or `--model`.
        source: a folder or Hub id.

    Raises:
        ValueError: the model is a file, or neither a folder nor on the Hub.
    """
    if source and Path(source).is_file():
        raise ValueError(f"{key} is {source!r}, a file. Name the model's folder, or a Hub id.")
    is_folder = source and Path(source).is_dir()  # an empty path is the current folder
    if not is_folder and not _is_reachable(source):
        raise ValueError(
            f"{key} is {source!r}, but there is no such folder, and no such model can be reached on the Hub (is it "
            "misspelt, private or gated, or is the network off?)."
        )


def has_files_of(folder: str | Path, model: str) -> bool:
    """Whether a folder is that of a model, or of one of its sentence-transformers modules."""
    home = Path(model).resolve()
    if not model or not home.is_dir():
        return False
    try:
        paths = [module["path"] for module in json.loads((home / "modules.json").read_text())]
    except (OSError, ValueError, TypeError, KeyError):  # absent, or damaged, which is refused where it is read
        paths = []
    return Path(folder).resolve() in {home, *(home / path for path in paths)}


def _is_reachable(hub_id: str) -> bool:
    """Whether a model is readable on the Hub, or in the local cache."""
    try:
        hf_hub_download(hub_id, "config.json")
    except LocalEntryNotFoundError:  # no network, but other files of it may be cached
        return _is_kept(hub_id)
    except EntryNotFoundError:  # a SentenceTransformer, or an adapter, has its configuration elsewhere
        return True
    except (OSError, ValueError):
        return False
    return True


def _is_kept(hub_id: str) -> bool:
    try:
        snapshot_download(hub_id, local_files_only=True)
    except (OSError, ValueError):
        return False
    return True
