"""The folder of local models: `NAME.gguf`, and beside it in `NAME.json` where it came from."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from server.upstream.llama.files.gguf import Header
from server.upstream.llama.files.pieces import begins, files_of, header_of
from storage.sqlite.files import fresh, replace, sync

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_PIECE = 1 << 20
#: of a hash, in the name of a folder
_DIGITS = 12


class ModelFileError(Exception):
    """A model's file that is not there, in use, or not what it should be; one line that says so."""


@dataclass(frozen=True, slots=True)
class Record:
    """Where a model came from, and what its file must be."""

    #: `hf:OWNER/NAME/FILE`, an address, or a path
    source: str
    #: the commit that the source had
    revision: str | None
    size: int
    #: of a model in several files that of the first, and in `more` those of the others
    sha256: str
    licence: str | None
    more: tuple[str, ...] = ()

    @property
    def hashes(self) -> list[str]:
        """The hashes of all its files."""
        return [self.sha256, *self.more]


_RECORD = TypeAdapter(Record)


@dataclass(frozen=True, slots=True)
class Entry:
    """A model of the folder."""

    name: str
    path: Path
    #: what it is in: `path`, or where that leads to the first of several the files there, in order
    files: tuple[Path, ...]
    #: of all its files as they are
    size: int
    #: None where nobody recorded it: a file that was put there by hand
    record: Record | None

    def header(self) -> Header:
        """Read what its files say of it. Raises NotGGUFError, OSError."""
        return header_of(self.files)


class Library:
    """The models of one folder, read anew at each question; safe among processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def names(self) -> list[str]:
        """Return the names of all models, in order."""
        try:
            found = [path.stem for path in self.folder.iterdir() if path.suffix == ".gguf"]
        except OSError:
            return []
        return sorted(name for name in found if is_name(name) and begins(f"{name}.gguf"))

    def there(self) -> list[str]:
        """Return the names of those whose file is there: a link may lead nowhere."""
        return [name for name in self.names() if self.path(name).is_file()]

    def entry(self, name: str) -> Entry:
        """Return a model. Raises ModelFileError."""
        path = self.path(name)
        files = files_of(path)
        try:
            size = sum(one.stat().st_size for one in files)
        except OSError as error:
            there = ", ".join(self.there()) or "none"
            lost = error.errno == errno.ENOENT and path.is_symlink() and len(files) == 1
            why = f"{path} leads nowhere" if lost else error.strerror
            if len(files) > 1:
                why = f"{error.filename}: {error.strerror}"
            told = f"model {name!r}: {why}; in {self.folder}: {there}"
            raise ModelFileError(told) from None
        return Entry(name, path, tuple(files), size, _read_record(path.with_suffix(".json")))

    def path(self, name: str) -> Path:
        """Return where a model's file is, or would be. Raises ModelFileError for a wrong name."""
        if not is_name(name):
            raise ModelFileError(f"{name!r} is no name: letters, digits, dot, dash, underscore")
        return self.folder / f"{name}.gguf"

    def part(self, name: str) -> Path:
        """Return where the beginning of a file lies that is being fetched."""
        return self.path(name).with_suffix(".gguf.part")

    def pieces(self, name: str, hashes: Sequence[str]) -> Path:
        """Return the folder where the files of a model in several of them lie, or would."""
        digest = hashlib.sha256("".join(hashes).encode()).hexdigest()
        return self.path(name).with_name(f".{name}.{digest[:_DIGITS]}")

    @contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Hold a model for this process alone. Raises ModelFileError where another has it."""
        path = self.path(name)
        self.folder.mkdir(parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        file = os.open(path.with_name(f".{name}.lock"), flags, 0o600)
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise ModelFileError(f"model {name!r}: another process is at it") from None
            yield
        finally:
            os.close(file)

    def install(self, name: str, made: Path, record: Record) -> None:
        """Give a whole, checked file a model's name, durably, in the place of what had it.

        Dying within leaves a model without a record, never one with another's; the next `pull`
        sees that the file is the right one, and records it.
        """
        path = self.path(name)
        path.with_suffix(".json").unlink(missing_ok=True)
        if not made.is_symlink():
            sync(made)
        made.replace(path)
        sync(self.folder)
        self.record(name, record)
        self._drop_pieces(name, but=path.resolve().parent)

    def record(self, name: str, record: Record) -> None:
        """Keep where the model that is there came from."""
        path = self.path(name).with_suffix(".json")
        with fresh(path) as made:
            made.write_text(json.dumps({"name": name, **asdict(record)}, indent=1) + "\n", "utf-8")
            replace(made, path)

    def link(self, name: str, file: Path, record: Record) -> None:
        """Let a model be a file that lies elsewhere."""
        self._point(name, file.resolve(), record)

    def install_pieces(self, name: str, first: Path, record: Record) -> None:
        """Let a model be the files that `pieces` has, whole and checked; see `install`."""
        sync(first.parent)
        self._point(name, first.relative_to(self.folder), record)

    def _point(self, name: str, file: Path, record: Record) -> None:
        made = self.path(name).with_suffix(".gguf.link")
        made.unlink(missing_ok=True)
        made.symlink_to(file)
        self.install(name, made, record)

    def remove(self, name: str) -> int:
        """Remove a model and what is left of fetching it; return how many bytes that gave back.

        Of a file that lies elsewhere only the link goes. Raises ModelFileError.
        """
        path, part = self.path(name), self.part(name)
        if not (path.is_symlink() or path.exists() or part.exists() or self._folders(name)):
            self.entry(name)
        with self.locked(name):
            gone = [part, *(files_of(path) if _owns(path) else [path])]
            freed = sum(one.stat().st_size for one in gone if _owns(one))
            for one in (*gone, *(path.with_suffix(end) for end in _BESIDE)):
                one.unlink(missing_ok=True)
            return freed + self._drop_pieces(name)

    def _folders(self, name: str) -> list[Path]:
        """Return where files of a model in several of them lie, wanted or left."""
        ours = re.compile(rf"\.{re.escape(name)}\.[0-9a-f]{{{_DIGITS}}}")
        try:
            return [one for one in self.folder.iterdir() if ours.fullmatch(one.name)]
        except OSError:
            return []

    def _drop_pieces(self, name: str, but: Path | None = None) -> int:
        """Remove files that were a model's; return how many bytes that gave back."""
        freed = 0
        for folder in self._folders(name):
            if but is None or folder.resolve() != but:
                freed += sum(one.stat().st_size for one in folder.iterdir() if _owns(one))
                shutil.rmtree(folder)
        return freed


_BESIDE = (".gguf.part.json", ".json", ".gguf.link")


def is_name(name: str) -> bool:
    """Say whether a model can be called so."""
    return _NAME.fullmatch(name) is not None


def default_folder(env: Mapping[str, str] = os.environ, platform: str = sys.platform) -> Path:
    """Return the folder where models lie unless a setting names another."""
    home = Path(env.get("HOME") or "~").expanduser()
    if platform == "darwin":
        return home / "Library" / "Application Support" / "trialogue" / "models"
    if platform == "win32":
        return Path(env.get("LOCALAPPDATA") or home) / "trialogue" / "models"
    return Path(env.get("XDG_DATA_HOME") or home / ".local" / "share") / "trialogue" / "models"


def sha256_of(path: Path, seen: Callable[[int], None] = lambda _: None) -> str:
    """Return the hash of a file; `seen` is told how many bytes were read."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
            seen(len(piece))
    return digest.hexdigest()


def _owns(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _read_record(path: Path) -> Record | None:
    """Return what was recorded; None where nothing was, or what is there is damaged."""
    try:
        return _RECORD.validate_json(path.read_bytes(), strict=True)
    except (OSError, ValidationError):
        return None
