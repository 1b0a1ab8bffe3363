"""Marks the ONNX files that retort writes, so that those of other programs are not taken for them."""

from importlib.metadata import version
from pathlib import Path

from .session import onnx_library


def mark(file: Path) -> None:
    """Add retort's mark to a file's metadata."""
    onnx = onnx_library("onnx")
    model = onnx.load(file, load_external_data=False)
    model.metadata_props.add(key=_key(file), value=version("retort"))
    onnx.save(model, file)


def is_marked(file: Path) -> bool:
    """Whether a file has retort's mark."""
    onnx = onnx_library("onnx")
    try:
        properties = onnx.load(file, load_external_data=False).metadata_props
    except Exception:  # absent, or no ONNX file: protobuf has errors of its own
        return False
    return any(each.key == _key(file) for each in properties)


def _key(file: Path) -> str:
    # With the name: another program's quantisation of retort's file may keep that file's metadata.
    return f"retort/{file.name}"
