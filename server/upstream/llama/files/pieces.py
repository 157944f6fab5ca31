"""A model in several GGUF files: how they are called, where they are, and what they are together.

llama.cpp is given the first, and finds the others beside it by their names.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from server.upstream.llama.files.gguf import Header, NotGGUFError, read_header

_NAME = re.compile(r"(?P<model>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Piece:
    """What the name of one of several files says: of which model, and which of how many it is."""

    model: str
    #: counted from 1
    number: int
    count: int

    @property
    def names(self) -> list[str]:
        """The names of all files of the model, in order."""
        return [piece_name(self.model, one, self.count) for one in range(1, self.count + 1)]


def piece_name(model: str, number: int, count: int) -> str:
    """Return what one of the files of a model is called."""
    return f"{model}-{number:05}-of-{count:05}.gguf"


def piece_of(file_name: str) -> Piece | None:
    """Read a file's name; None for one that is a model alone."""
    found = _NAME.fullmatch(file_name)
    if found is None:
        return None
    number, count = int(found["number"]), int(found["count"])
    return Piece(found["model"], number, count) if 1 <= number <= count and count > 1 else None


def begins(file_name: str) -> bool:
    """Say whether a file is a model, or the first of several that are one."""
    piece = piece_of(file_name)
    return piece is None or piece.number == 1


def files_of(path: Path) -> list[Path]:
    """Return the files of the model that a file begins, itself first; whether they are is open."""
    real = path.resolve() if path.is_symlink() else path
    piece = piece_of(real.name)
    if piece is None or piece.number != 1:
        return [path]
    return [real, *(real.with_name(name) for name in piece.names[1:])]


def header_of(files: Sequence[Path]) -> Header:
    """Return what the files of a model say of it. Raises NotGGUFError; OSError."""
    headers = [read_piece(file, at, len(files)) for at, file in enumerate(files)]
    return replace(headers[0], parameters=sum(header.parameters for header in headers))


def read_piece(file: Path, at: int, count: int) -> Header:
    """Read the header of one file of so many. Raises NotGGUFError where it is another; OSError."""
    header = read_header(file)
    if (header.piece, header.files) != (at, count):
        told = f"piece {header.piece + 1} of {header.files}" if header.files > 1 else "a whole"
        wanted = f"piece {at + 1} of {count}" if count > 1 else "a model in one file"
        raise NotGGUFError(f"it is {told}, and not {wanted}")
    return header
