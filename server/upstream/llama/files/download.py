"""Fetches one file to `NAME.gguf.part`, goes on where it was cut, and checks what came."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from pydantic import TypeAdapter, ValidationError

from server.upstream.llama.files.hub import Wanted
from server.upstream.llama.files.library import ModelFileError
from server.upstream.llama.files.web import BREAKS, Web, broken, refuse
from storage.sqlite.files import room

#: so much of the disk stays free, in bytes
SPARE = 64 << 20
#: tries in a row that bring nothing, before it is given up
_PATIENCE = 5
_PIECE = 1 << 20
#: errors that are the disk's
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")

#: told how many bytes there are, and how many there will be, where that is known
Progress = Callable[[int, int | None], None]


@dataclass(frozen=True, slots=True)
class _Begun:
    """What is kept beside a part, for whoever goes on with it."""

    address: str
    sha256: str | None
    size: int | None
    etag: str | None


_BEGUN = TypeAdapter(_Begun)


class Download:
    """One file on its way. What has come survives a cut, and this process."""

    def __init__(
        self, web: Web, wanted: Wanted, part: Path, progress: Progress, backoff: float = 1.0
    ) -> None:
        self._web = web
        self._wanted = wanted
        self._part = part
        self._about = _about(part)
        self._progress = progress
        self._backoff = backoff
        self._digest = hashlib.sha256()
        self._have = 0
        self._etag: str | None = None
        self._size = wanted.size

    async def fetch(self) -> str:
        """Fetch the whole file and return its sha256. Raises ModelFileError, one line.

        A part with a wrong hash is thrown away; any other is kept, to be gone on with.
        """
        self._resume()
        self._check_room()
        tries = 0
        while not self._whole():
            before = self._have
            try:
                await self._go_on()
            except BREAKS as error:
                if isinstance(error, OSError) and not isinstance(error, aiohttp.ClientError):
                    self._check_disk(error)
                tries = 0 if self._have > before else tries + 1
                if tries >= _PATIENCE:
                    why = broken(self._wanted.address, error)
                    raise ModelFileError(f"{why}; what has come is kept, run it again") from None
                await asyncio.sleep(self._backoff * 2**tries)
        found = self._digest.hexdigest()
        if self._wanted.sha256 not in (None, found):
            forget(self._part)
            told = f"what came has the sha256 {found}, and not {self._wanted.sha256}"
            raise ModelFileError(f"{told}; it was thrown away")
        return found

    def _whole(self) -> bool:
        return self._size is not None and self._have == self._size

    def _resume(self) -> None:
        """Take up what an earlier run left, if it is of the very same file."""
        about = self._read_about()
        wanted = (self._wanted.address, self._wanted.sha256)
        if about is None or (about.address, about.sha256) != wanted:
            forget(self._part)
            return
        self._etag = about.etag
        self._size = self._size or about.size
        with suppress(FileNotFoundError), self._part.open("rb") as file:
            while piece := file.read(_PIECE):
                self._digest.update(piece)
                self._have += len(piece)
        if self._size is not None and self._have > self._size:
            self._restart()

    def _restart(self) -> None:
        self._digest = hashlib.sha256()
        self._have = 0
        self._etag = None
        self._part.unlink(missing_ok=True)

    def _check_room(self) -> None:
        if self._size is not None:
            check_room(self._part.parent, self._size - self._have)

    def _leave_room(self) -> None:
        """Stop before others on this disk, the database say, find no room."""
        if not self._whole() and room(self._part.parent) < SPARE // 2:
            told = f"{self._part.parent}: the disk is all but full; what has come is kept"
            raise ModelFileError(told)

    def _check_disk(self, error: OSError) -> None:
        """Raise what keeps the disk from taking more; another error is the network's."""
        if error.filename is not None or error.errno in _DISK:
            told = f"{self._part.parent}: {error.strerror}"
            raise ModelFileError(f"{told}; what has come is kept, run it again") from None

    async def _go_on(self) -> None:
        """Ask for what is missing, and keep it."""
        if not (self._etag or self._wanted.sha256):
            self._restart()  # nothing would say that what came before is of the same file
        headers = {"Range": f"bytes={self._have}-"} if self._have else {}
        if self._have and self._etag:
            headers["If-Range"] = self._etag
        async with self._web.get(self._wanted.address, headers) as response:
            if response.status == 416:
                self._restart()
                raise aiohttp.ClientPayloadError
            if response.status in (408, 429) or response.status >= 500:
                raise aiohttp.ClientPayloadError(f"{response.status}")
            if response.status not in (200, 206):
                raise refuse(response)
            self._begin(response)
            await self._read(response)

    def _begin(self, response: aiohttp.ClientResponse) -> None:
        """Understand from where an answer goes on, and how long the whole is."""
        told = response.content_length
        if response.status == 206:
            found = _RANGE.fullmatch(response.headers.get("content-range", ""))
            if found is None or int(found[1]) != self._have:
                self._restart()
                raise aiohttp.ClientPayloadError("another range than was asked for")
            told = int(found[3])
        elif self._have:  # it is another file now, or cannot be gone on with
            self._restart()
        if self._size is not None and told is not None and told != self._size:
            forget(self._part)
            raise ModelFileError(
                f"the file has {told:,} bytes, and not {self._size:,}: it was changed at its source"
            )
        self._size = self._size or told
        etag = response.headers.get("etag", "")
        self._etag = etag if etag.startswith('"') else None  # a weak one compares nothing
        self._write_about()
        self._check_room()

    async def _read(self, response: aiohttp.ClientResponse) -> None:
        with self._part.open("ab", buffering=0) as file:
            async for piece in response.content.iter_chunked(_PIECE):
                if self._size is not None and self._have + len(piece) > self._size:
                    self._restart()
                    raise ModelFileError("the source sends more than it said; try again later")
                self._keep(file, piece)
                self._progress(self._have, self._size)
                self._leave_room()
        if self._size is None:
            self._size = self._have

    def _keep(self, file: Any, piece: bytes) -> None:
        view = memoryview(piece)
        while view:  # a disk that fills up takes a piece in part
            written = file.write(view)
            self._digest.update(view[:written])
            self._have += written
            view = view[written:]

    def _read_about(self) -> _Begun | None:
        try:
            return _BEGUN.validate_json(self._about.read_bytes(), strict=True)
        except (OSError, ValidationError):
            return None

    def _write_about(self) -> None:
        begun = _Begun(self._wanted.address, self._wanted.sha256, self._size, self._etag)
        self._about.write_bytes(_BEGUN.dump_json(begun))


def check_room(folder: Path, wanted: int) -> None:
    """Raise ModelFileError where so many bytes that are to come have no room."""
    free = room(folder)
    if wanted + SPARE > free:
        told = f"{wanted / 1e9:,.2f} GB are to come, and {free / 1e9:,.2f} GB are free"
        raise ModelFileError(f"{told} in {folder}; make room")


def forget(part: Path) -> None:
    """Throw away what has come of a file, and what was kept beside it."""
    part.unlink(missing_ok=True)
    _about(part).unlink(missing_ok=True)


def _about(part: Path) -> Path:
    return part.with_suffix(".part.json")
