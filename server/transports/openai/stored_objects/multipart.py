"""Look at the fields of a form while it goes by: files stream past, a field waits for its check."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from server.openai_protocol.errors import ApiError

#: A file so short may be read as a field.
_SHORT: Final = 512
#: A head of a part, and a field: what is longer is refused.
_LONGEST_HEAD: Final = 8 << 10
_LONGEST_FIELD: Final = 256 << 10
_BOUNDARY = re.compile(r';\s*boundary=(?:"([^"\\]{0,69}[^"\\\s])"|([^\s;"]{1,70}))', re.IGNORECASE)
_TOKEN = re.compile(r"[A-Za-z0-9'+_.\-]+")
_PARAMETER = rb';[ \t]*([\w*]+)=("[^"\\]*"|[^\s;"\\]+)[ \t]*'
_DISPOSITION = re.compile(rb"content-disposition:[ \t]*form-data[ \t]*((?:%b)*)" % _PARAMETER, re.I)
#: what would have a field read otherwise than as it stands there
_ODD = re.compile(
    rb"content-transfer-encoding(?!:[ \t]*(?:binary|[78]bit)[ \t]*\Z)"
    rb"|content-type:[ \t]*multipart/|[ \t]",
    re.I,
)

Check = Callable[[str, bytes], Awaitable[None]]


def boundary_of(content_type: str) -> str:
    """Return what stands between a form's parts. Raises RefusedError where nothing can."""
    found = _BOUNDARY.findall(content_type)
    if len(found) != 1:
        raise _unreadable()
    return "".join(found[0])


def content_type(boundary: str) -> str:
    """Return the one way to tell of a form with this boundary."""
    plain = _TOKEN.fullmatch(boundary) is not None
    quoted = boundary if plain else f'"{boundary}"'
    return f"multipart/form-data; boundary={quoted}"


class Form:
    """A form's bytes, none of them changed, each field yielded once `check` has let it pass.

    Only the strict form of RFC 7578 is let through: what two readers could read in two ways would
    hide a field from this one. `check` is given a field's name and value, files are not its
    concern; what it raises ends the body, and so the call.
    """

    def __init__(self, body: AsyncIterator[bytes], boundary: str, check: Check) -> None:
        self._body = body
        self._border = b"--" + boundary.encode("latin-1")
        self._check = check
        self._held = bytearray()
        self._ended = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        await self._need(len(self._border) + 2)
        if not self._held.startswith(self._border):
            raise _unreadable()
        while not await self._is_last():
            head, name = await self._head()
            yield head
            if name is None:
                async for piece in self._file():
                    yield piece
            else:
                value = await self._field()
                await self._check(name, value)
                yield value
        yield bytes(self._held)

    async def _is_last(self) -> bool:
        """Look at what stands behind a border, which is held; the end has nothing behind it."""
        size = len(self._border)
        await self._need(size + 2)
        behind = bytes(self._held[size : size + 2])
        if behind == b"\r\n":
            return False
        await self._need(size + 5)
        if behind != b"--" or bytes(self._held[size + 2 :]) not in (b"", b"\r\n"):
            raise _unreadable()
        return True

    async def _head(self) -> tuple[bytes, str | None]:
        """Take a border and the head behind it; return the name of a field, None for a file."""
        while (end := self._held.find(b"\r\n\r\n")) < 0:
            if len(self._held) > _LONGEST_HEAD or not await self._more():
                raise _unreadable()
        head = self._take(end + 4)
        return head, _named(head[len(self._border) + 2 : -4])

    async def _field(self) -> bytes:
        while (end := self._end()) < 0:
            if len(self._held) > _LONGEST_FIELD or not await self._more():
                raise _unreadable()
        return self._take(end)

    async def _file(self) -> AsyncIterator[bytes]:
        """Yield a file up to the border behind it, but what might be the beginning of one."""
        first = True
        while (end := self._end()) < 0:
            safe = len(self._held) - len(self._border) - 1
            if safe > (_SHORT if first else 0):
                first = False
                yield self._take(safe)
            if not await self._more():
                raise _unreadable()
        value = self._take(end)
        if first:
            await self._check("", value)
        yield value

    def _end(self) -> int:
        """Return where the next border's line begins, -1 where it has not come yet."""
        border = self._held.find(self._border)
        if border < 0:
            return -1
        if border < 2 or self._held[border - 2 : border] != b"\r\n":
            raise _unreadable()
        return border

    def _take(self, size: int) -> bytes:
        taken = bytes(self._held[:size])
        del self._held[:size]
        return taken

    async def _need(self, size: int) -> None:
        """Wait until so much is held, or all that there is."""
        while len(self._held) < size and await self._more():
            pass

    async def _more(self) -> bool:
        if self._ended:
            return False
        try:
            self._held += await anext(self._body)
        except StopAsyncIteration:
            self._ended = True
        return not self._ended


def _named(head: bytes) -> str | None:
    """Return the name of the field whose head this is, None for a file's."""
    lines = head.split(b"\r\n")
    placed = [line for line in lines if line.lower().startswith(b"content-disposition")]
    found = _DISPOSITION.fullmatch(placed[0]) if len(placed) == 1 else None
    if found is None or any(_ODD.match(line) or {*line} & {10, 13} for line in lines):
        raise _unreadable()
    pairs = [(name.lower(), value) for name, value in re.findall(_PARAMETER, found[1])]
    given = dict(pairs)
    if len(given) != len(pairs) or b"name" not in given or b"name*" in given:
        raise _unreadable()
    if b"filename" in given or b"filename*" in given:
        return None
    name: bytes = given[b"name"]
    return name.strip(b'"').decode("utf-8", "replace")


def _unreadable() -> ApiError:
    return ApiError("We could not parse your request: its form is not as RFC 7578 has it.")
