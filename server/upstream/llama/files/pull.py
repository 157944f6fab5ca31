"""Brings a model into the folder: from a hub, an address with a hash, or a file that is here."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from server.config.addresses import web_address
from server.config.hosts import is_loopback
from server.upstream.llama.files.download import Download, Progress, check_room, forget
from server.upstream.llama.files.gguf import Header, NotGGUFError
from server.upstream.llama.files.hub import Hub, Wanted, repo_of
from server.upstream.llama.files.library import (
    Entry,
    Library,
    ModelFileError,
    Record,
    is_name,
    sha256_of,
)
from server.upstream.llama.files.pieces import (
    files_of,
    header_of,
    piece_name,
    piece_of,
    read_piece,
)
from server.upstream.llama.files.web import Web
from storage.sqlite.files import sync

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
            return await self._fetched(asked, [_addressed(asked)])
        if (file := _here(asked.source)) is not None:
            return self._linked(asked, file), True
        repo = repo_of(asked.source)
        if repo is None or asked.source.startswith("."):
            raise ModelFileError(
                f"{asked.source!r} is no OWNER/NAME[:QUANT] of a hub, no https address and no file"
            )
        wanted = await self._hub.wanted(repo)
        if asked.sha256 not in (None, wanted[0].sha256):
            told = f"the hub has the sha256 {wanted[0].sha256}, and not {asked.sha256}"
            raise ModelFileError(told)
        return await self._fetched(asked, wanted)

    async def _fetched(self, asked: Asked, wanted: Sequence[Wanted]) -> tuple[Entry, bool]:
        name = asked.name or _name_from(wanted[0].file_name)
        with self._library.locked(name):
            if (there := self._there(name, wanted)) is not None:
                return there, False
            if len(wanted) > 1:
                await self._fetch_pieces(name, wanted)
                return self._library.entry(name), True
            part = self._library.part(name)
            sha256 = await self._fetch(wanted[0], part, self._progress, 0, 1)
            self._library.install(name, part, _record(wanted, part.stat().st_size, sha256))
            forget(part)
            return self._library.entry(name), True

    async def _fetch_pieces(self, name: str, wanted: Sequence[Wanted]) -> None:
        """Fetch a model in several files; those that an earlier run had are there."""
        folder = self._library.pieces(name, [str(one.sha256) for one in wanted])
        folder.mkdir(exist_ok=True)
        count, sizes = len(wanted), [one.size or 0 for one in wanted]
        files = [folder / piece_name(name, number + 1, count) for number in range(count)]
        check_room(folder, sum(sizes) - sum(one.stat().st_size for one in folder.iterdir()))
        for at, (one, file) in enumerate(zip(wanted, files, strict=True)):
            if file.exists():  # it got its name when its hash was right
                continue
            before, part = sum(sizes[:at]), file.with_suffix(".gguf.part")

            def seen(have: int, _: int | None, before: int = before) -> None:
                self._progress(before + have, sum(sizes))

            await self._fetch(one, part, seen, at, count)
            sync(part)
            part.rename(file)
            forget(part)
        size = sum(file.stat().st_size for file in files)
        self._library.install_pieces(name, files[0], _record(wanted, size))

    async def _fetch(
        self, wanted: Wanted, part: Path, progress: Progress, at: int, count: int
    ) -> str:
        """Fetch one file, which is no more than a part until it is named; return its sha256."""
        sha256 = await Download(self._web, wanted, part, progress, self._backoff).fetch()
        try:
            read_piece(part, at, count)
        except NotGGUFError as error:
            forget(part)
            raise ModelFileError(f"{wanted.file_name}: {error}") from None
        return sha256

    def _there(self, name: str, wanted: Sequence[Wanted]) -> Entry | None:
        """Return the model where it is there already. Raises ModelFileError for another's name."""
        if not self._library.path(name).exists():
            return None
        entry, hashes = self._library.entry(name), [one.sha256 for one in wanted]
        if entry.record is None:
            if [sha256_of(file) for file in entry.files] != hashes:
                raise _taken(name, "a file that was not pulled")
            self._library.record(name, _record(wanted, entry.size))
            return self._library.entry(name)
        if entry.record.hashes == hashes and entry.size == entry.record.size:
            return entry
        if entry.record.source != wanted[0].source:
            raise _taken(name, entry.record.source)
        return None

    def _linked(self, asked: Asked, file: Path) -> Entry:
        name = asked.name or _name_from(file.name)
        files = files_of(file)
        header, size = _loadable(files)
        done = 0

        def seen(read: int) -> None:
            nonlocal done
            done += read
            self._progress(done, size)

        with self._library.locked(name):
            path = self._library.path(name)
            if path.exists():
                there = self._library.entry(name)
                if path.resolve() != file.resolve():
                    raise _taken(name, there.record.source if there.record else "another file")
            sha256, *more = (sha256_of(one, seen) for one in files)
            if asked.sha256 not in (None, sha256):
                raise ModelFileError(f"{file} has the sha256 {sha256}, and not {asked.sha256}")
            source = str(file.resolve())
            record = Record(source, None, size, sha256, header.licence, tuple(more))
            if path.exists() and not path.is_symlink():  # it lies there itself
                self._library.record(name, record)
            else:
                self._library.link(name, file, record)
            return self._library.entry(name)


def check(entry: Entry, seen: Callable[[int], None] = lambda _: None) -> str | None:
    """Return what is wrong with a model's file, or None; reads all of it."""
    record = entry.record
    try:
        if record is None:
            entry.header()
            return "nobody recorded its sha256; pull it again"
        if entry.size != record.size:
            return f"it has {entry.size:,} bytes, and not {record.size:,}; pull it again"
        if [sha256_of(file, seen) for file in entry.files] != record.hashes:
            return "its sha256 is another than when it was pulled; pull it again"
        entry.header()
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
    piece = piece_of(file_name)
    name = file_name.removesuffix(".gguf") if piece is None else piece.model
    if not is_name(name):
        raise ModelFileError(f"{file_name!r} makes no name; give one with --as NAME")
    return name


def _loadable(files: Sequence[Path]) -> tuple[Header, int]:
    """Return what the files of a model say, and their size. Raises ModelFileError."""
    try:
        return header_of(files), sum(file.stat().st_size for file in files)
    except NotGGUFError as error:
        raise ModelFileError(f"{files[0].name}: {error}") from None


def _record(wanted: Sequence[Wanted], size: int, found: str | None = None) -> Record:
    """Return where a model came from; `found` is its hash where nobody told it before."""
    first, *more = wanted
    hashes = [str(one.sha256) for one in more]
    sha256 = first.sha256 or found or ""
    return Record(first.source, first.revision, size, sha256, first.licence, tuple(hashes))


def _taken(name: str, source: str) -> ModelFileError:
    return ModelFileError(
        f"{name!r} is there, and is {source}; take another name with --as, or "
        f"'trialogue models rm {name}' first"
    )
