"""YAML as recipes are written in it: `5e-4` is a number, and a key stands once."""

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml


class _Loader(yaml.SafeLoader):
    """PyYAML reads YAML 1.1, in which `5e-4` is a text and the last of two equal keys wins in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """A mapping, if each of its keys stands once."""
        seen = []
        for key, _ in node.value:
            name = self.construct_object(key, deep=True)
            if name in seen:
                raise yaml.constructor.ConstructorError(None, None, f"the key {name!r} stands twice", key.start_mark)
            seen.append(name)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def parse_yaml(text: str, where: str) -> Any:
    """A value as YAML has it.

    Args:
        text: YAML.
        where: begins the message if it isn't.

    Raises:
        ValueError: it is no YAML; in one line.
    """
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise ValueError(f"{where} {' '.join(str(error).split())}") from error


def read_yaml(path: str | Path) -> dict[str, Any]:
    """A YAML file of names and values.

    Raises:
        SystemExit: the file is missing, is not YAML, or holds something other than names and values.
    """
    try:
        settings = parse_yaml(Path(path).read_text(encoding="utf-8"), "is no YAML:")
    except (OSError, ValueError) as error:
        raise SystemExit(f"{path}: {error}") from error
    if not isinstance(settings, dict):
        raise SystemExit(f"{path}: expected names and values (name: value), but found {type(settings).__name__}.")
    return settings
