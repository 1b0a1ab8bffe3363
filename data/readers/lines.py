"""Reads and decodes text files line by line, so that errors give file and line."""

import codecs
import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path


def format_of(path: Path) -> str:
    """The suffix of a file's name in lower case, without `.gz`."""
    return (path.with_suffix("") if is_packed(path) else path).suffix.lower()


def is_packed(path: Path) -> bool:
    """Whether a file is compressed by gzip, judged by its name."""
    return path.suffix.lower() == ".gz"


def lines_of(file: Path, encoding: str = "utf-8") -> Iterator[str]:
    r"""Lines of a file with their line ends, without a byte order mark.

    Only `\n` ends a line. A lone `\r` is an ordinary character.

    Args:
        file: the file; compressed by gzip if its name ends in .gz.
        encoding: encoding of a file without a byte order mark. Files with one are UTF-8.

    Raises:
        ValueError: the file is empty or damaged, or is not text in this encoding (with file and line).
    """
    number = offset = 0
    try:
        with gzip.open(file) if is_packed(file) else file.open("rb") as stream:
            for number, line in enumerate(stream, 1):
                start = len(codecs.BOM_UTF8) if number == 1 and line.startswith(codecs.BOM_UTF8) else 0
                encoding = "utf-8" if start else encoding
                yield _decode(line[start:], encoding, file, number, offset + start)
                offset += len(line)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{file}:{number + 1}: the gzip file is damaged or cut short ({error}).") from None
    if number == 0:
        raise ValueError(f"{file} is empty.")


def without_line_end(line: str) -> str:
    r"""A line without its `\n` or `\r\n`."""
    return line.removesuffix("\n").removesuffix("\r")


def _decode(line: bytes, encoding: str, file: Path, number: int, offset: int) -> str:
    if b"\0" in line:
        at = offset + line.index(b"\0")
        raise ValueError(
            f"{file}:{number}: holds a NUL byte (at byte {at}), so it is a binary file, UTF-16, or UTF-8 with NUL "
            "characters. Convert UTF-16 to UTF-8 first, and remove NUL characters from UTF-8."
        )
    try:
        return line.decode(encoding)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{file}:{number}: not UTF-8: byte 0x{line[error.start]:02x} at byte {offset + error.start} of the file. "
            "Convert it to UTF-8 first."
        ) from None
