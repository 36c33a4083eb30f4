"""Checksums of files, each in a file beside it."""

import hashlib
from pathlib import Path

from mtlcluster.sweep.files import replace_text


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def checksum_file(path: Path) -> Path:
    """The file beside `path` that holds its checksum."""
    return path.with_name(path.name + ".sha256")


def write_checksum(path: Path) -> None:
    """Writes the checksum of `path` beside it, in the form that `sha256sum -c` reads."""
    replace_text(checksum_file(path), f"{sha256(path)}  {path.name}\n")


def has_valid_checksum(path: Path) -> bool:
    """True if the file and its checksum are there and fit."""
    if not (path.is_file() and checksum_file(path).is_file()):  # opening a FIFO would wait
        return False
    try:
        return checksum_file(path).read_text("utf-8").split()[0] == sha256(path)
    except (OSError, IndexError, UnicodeDecodeError):
        return False
