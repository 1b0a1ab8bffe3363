"""Teachers that come as a Python package, with the weights inside."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from retort.collators.readers import sha256_of


def packaged_model(package: str, folder: str, sha256: str) -> Path:
    """The folder of a model that lies in an installed package, its weights checked before anyone reads them.

    Args:
        package: import name; it is located, not imported.
        folder: the model's folder within the package.
        sha256: of `model.safetensors`.

    Raises:
        SystemExit: the package is not installed, or its weights are not the ones expected.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(
            f"The default teacher lies in the package {package}, which is not installed: run `make quickstart`, or "
            "pip install 'retort[quickstart]', or name another with --teacher."
        )
    path = Path(spec.submodule_search_locations[0]) / folder
    found = sha256_of(path / "model.safetensors")
    if found != sha256:
        raise SystemExit(
            f"{path}/model.safetensors has SHA-256 {found}, not the expected {sha256}: refusing to load it."
        )
    return path
