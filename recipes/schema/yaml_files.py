"""Reads YAML where `5e-4` is a number and duplicate keys are errors."""

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml


class _Loader(yaml.SafeLoader):
    """PyYAML reads YAML 1.1, where `5e-4` is a string. It also accepts duplicate keys without a warning."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Construct a mapping, and raise an error for duplicate keys."""
        seen = []
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge":  # `<<: *settings`
                continue
            name = self.construct_object(key, deep=True)
            if name in seen:
                raise yaml.constructor.ConstructorError(None, None, f"duplicate key {name!r}", key.start_mark)
            seen.append(name)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def parse_yaml(text: str, where: str) -> Any:
    """Parse YAML. If it is not valid, a ValueError has a message of one line that begins with `where`."""
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise ValueError(f"{where} {' '.join(str(error).split())}") from error


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML file with names and values.

    Raises:
        SystemExit: the file is missing, is not valid YAML, or doesn't have names and values.
    """
    try:
        settings = parse_yaml(Path(path).read_text(encoding="utf-8"), "is not valid YAML:")
    except IsADirectoryError:
        raise SystemExit(f"{path} is a folder. Name a YAML file in it.") from None
    except UnicodeDecodeError as error:
        raise SystemExit(f"{path} is not UTF-8 (at byte {error.start}). Save it as UTF-8.") from error
    except (OSError, ValueError) as error:
        raise SystemExit(f"{path}: {error}") from error
    if not isinstance(settings, dict):
        found = "nothing" if settings is None else type(settings).__name__
        raise SystemExit(f"{path}: expected names and values (name: value), but found {found}.")
    return settings
