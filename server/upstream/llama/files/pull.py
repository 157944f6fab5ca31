"""Brings a model into the folder: from a hub, an address with a hash, or a file that is here."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from server.config.addresses import web_address
from server.config.hosts import is_loopback
from server.upstream.llama.files.download import Download, Progress
from server.upstream.llama.files.gguf import Header, NotGGUFError, read_header
from server.upstream.llama.files.hub import Hub, Wanted, repo_of
from server.upstream.llama.files.library import (
    Entry,
    Library,
    ModelFileError,
    Record,
    is_name,
    sha256_of,
)
from server.upstream.llama.files.web import Web

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Asked:
    """What somebody wants to have: a source, under which name, and with which hash."""

    source: str
    name: str | None = None
    sha256: str | None = None
    #: go without a hash where nobody tells one
    unchecked: bool = False


class Puller:
    """Pulls models into a library. Whatever fails leaves the model that was there as it was."""

    def __init__(
        self, library: Library, hub: Hub, web: Web, progress: Progress, backoff: float = 1.0
    ) -> None:
        self._library = library
        self._hub = hub
        self._web = web
        self._progress = progress
        self._backoff = backoff

    async def pull(self, asked: Asked) -> tuple[Entry, bool]:
        """Return the model, and whether it had to be fetched. Raises ModelFileError, one line."""
        if asked.source.startswith(("https://", "http://")):
            return await self._fetched(asked, _addressed(asked))
        if (file := _here(asked.source)) is not None:
            return self._linked(asked, file), True
        repo = repo_of(asked.source)
        if repo is None or asked.source.startswith("."):
            raise ModelFileError(
                f"{asked.source!r} is no OWNER/NAME[:QUANT] of a hub, no https address and no file"
            )
        wanted = await self._hub.wanted(repo)
        if asked.sha256 not in (None, wanted.sha256):
            raise ModelFileError(f"the hub has the sha256 {wanted.sha256}, and not {asked.sha256}")
        return await self._fetched(asked, wanted)

    async def _fetched(self, asked: Asked, wanted: Wanted) -> tuple[Entry, bool]:
        name = asked.name or _name_from(wanted.file_name)
        with self._library.locked(name):
            if (there := self._there(name, wanted)) is not None:
                return there, False
            part = self._library.part(name)
            download = Download(self._web, wanted, part, self._progress, self._backoff)
            sha256 = await download.fetch()
            try:
                _loadable(part)
            except ModelFileError:
                download.forget()
                raise
            size = part.stat().st_size
            record = Record(wanted.source, wanted.revision, size, sha256, wanted.licence)
            self._library.install(name, part, record)
            download.forget()
            return self._library.entry(name), True

    def _there(self, name: str, wanted: Wanted) -> Entry | None:
        """Return the model where it is there already. Raises ModelFileError for another's name."""
        if not self._library.path(name).exists():
            return None
        entry = self._library.entry(name)
        if entry.record is None:
            if sha256_of(entry.path) != wanted.sha256:
                raise _taken(name, "a file that was not pulled")
            record = Record(
                wanted.source, wanted.revision, entry.size, wanted.sha256, wanted.licence
            )
            self._library.record(name, record)
            return self._library.entry(name)
        if entry.record.sha256 == wanted.sha256 and entry.size == entry.record.size:
            return entry
        if entry.record.source != wanted.source:
            raise _taken(name, entry.record.source)
        return None

    def _linked(self, asked: Asked, file: Path) -> Entry:
        name = asked.name or _name_from(file.name)
        header = _loadable(file)
        size, done = file.stat().st_size, 0

        def seen(read: int) -> None:
            nonlocal done
            done += read
            self._progress(done, size)

        with self._library.locked(name):
            if self._library.path(name).exists():
                there = self._library.entry(name)
                if there.path.resolve() != file.resolve():
                    raise _taken(name, there.record.source if there.record else "another file")
            sha256 = sha256_of(file, seen)
            if asked.sha256 not in (None, sha256):
                raise ModelFileError(f"{file} has the sha256 {sha256}, and not {asked.sha256}")
            self._library.link(
                name, file, Record(str(file.resolve()), None, size, sha256, header.licence)
            )
            return self._library.entry(name)


def check(entry: Entry, seen: Callable[[int], None] = lambda _: None) -> str | None:
    """Return what is wrong with a model's file, or None; reads all of it."""
    record = entry.record
    try:
        if record is None:
            read_header(entry.path)
            return "nobody recorded its sha256; pull it again"
        if entry.size != record.size:
            return f"it has {entry.size:,} bytes, and not {record.size:,}; pull it again"
        if sha256_of(entry.path, seen) != record.sha256:
            return "its sha256 is another than when it was pulled; pull it again"
        read_header(entry.path)
    except (NotGGUFError, OSError) as error:
        return (error.strerror if isinstance(error, OSError) else None) or str(error)
    return None


def _addressed(asked: Asked) -> Wanted:
    """Return what an address and its hash stand for."""
    try:
        url = web_address(asked.source)
    except ValueError as error:
        raise ModelFileError(f"an address {error}") from None
    if url.scheme != "https" and not is_loopback(url.hostname or ""):
        raise ModelFileError("an address must begin with https://")
    if url.username or url.password:
        raise ModelFileError("an address must have no password in it: it would be recorded")
    if asked.sha256 is None and not asked.unchecked:
        raise ModelFileError("an address needs --sha256 HASH, or --unchecked to go without")
    if asked.sha256 is not None and not _SHA256.fullmatch(asked.sha256):
        raise ModelFileError("--sha256 must be 64 digits, 0 to 9 and a to f")
    file_name = unquote(url.path).rpartition("/")[2]
    bare = url._replace(query="", fragment="").geturl()
    return Wanted(asked.source, bare, file_name, asked.sha256)


def _here(source: str) -> Path | None:
    """Return the file of this machine that a source is; None where there is none."""
    file = Path(source).expanduser()
    return file if file.is_file() else None


def _name_from(file_name: str) -> str:
    """Return the name that a file's own gives its model."""
    name = file_name.removesuffix(".gguf")
    if not is_name(name):
        raise ModelFileError(f"{file_name!r} makes no name; give one with --as NAME")
    return name


def _loadable(file: Path) -> Header:
    """Read the header of a file that is to be loaded one day. Raises ModelFileError."""
    try:
        header = read_header(file)
    except NotGGUFError as error:
        raise ModelFileError(f"{file.name}: {error}") from None
    if header.files > 1:
        raise ModelFileError(f"{file.name} is a piece of a model in several files")
    return header


def _taken(name: str, source: str) -> ModelFileError:
    return ModelFileError(
        f"{name!r} is there, and is {source}; take another name with --as, or "
        f"'trialogue models rm {name}' first"
    )
