"""Turn the bytes of an event stream into the data of its events, bounded and without any I/O."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence

_BOM = b"\xef\xbb\xbf"


class OversizedEventError(ValueError):
    """An event, finished or not, holds more bytes than allowed."""


class EventStream:
    """Collect pushed bytes into events (WHATWG HTML, 9.2 Server-sent events).

    Lines end in CR, LF or CRLF. Only `data` fields matter: comments, other fields and events
    without data give nothing. No line and no event may be longer than `limit` bytes, and one that
    grows beyond is refused before its end has come.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._line = bytearray()
        self._data: list[bytes] = []
        self._size = 0
        self._after_cr = False
        self._begun = False

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes and return the data of the events that they complete."""
        if not data:
            return []
        text = data.removeprefix(b"\n") if self._after_cr else data
        self._after_cr = data.endswith(b"\r")
        lines = text.splitlines()
        rest = lines.pop() if lines and not text.endswith((b"\r", b"\n")) else b""
        if lines and self._line:
            lines[0] = bytes(self._line + lines[0])
            self._line.clear()
        events = [event for line in lines if (event := self._take(line)) is not None]
        self._line += rest
        self._check(len(self._line))
        return events

    def close(self) -> list[bytes]:
        """Return the data of an event that the stream ended in without its blank line."""
        lines = [bytes(self._line), b""]
        self._line.clear()
        return [event for line in lines if (event := self._take(line)) is not None]

    def _take(self, line: bytes) -> bytes | None:
        if not self._begun:
            self._begun = True
            line = line.removeprefix(_BOM)
        if line.startswith(b"data:"):
            self._keep(line[6:] if line.startswith(b"data: ") else line[5:])
        elif not line:
            return self._dispatch()
        elif line == b"data":
            self._keep(b"")
        return None

    def _keep(self, value: bytes) -> None:
        self._size += len(value) + 1
        self._check(self._size)
        self._data.append(value)

    def _dispatch(self) -> bytes | None:
        if not self._data:
            return None
        event = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
        self._data = []
        self._size = 0
        return event

    def _check(self, size: int) -> None:
        if size > self._limit:
            raise OversizedEventError(f"an event is longer than {self._limit} bytes")


#: A line end is CRLF, LF, or a CR that something else follows; two of them end an event.
_BORDER = re.compile(rb"(?>\r\n|\n|\r(?=[^\n])){2}")
#: so much of a border may have come when the rest has not
_PARTIAL = 3


class Cutter:
    """Collect pushed bytes into whole events (WHATWG HTML, 9.2 Server-sent events).

    No event may be longer than `limit` bytes; one that grows beyond is refused before its end.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._rest = bytearray()
        self._searched = 0
        self._returns = False

    @property
    def rest(self) -> bytes:
        """What has come of an event whose end has not."""
        return bytes(self._rest)

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes and return the events that they complete, borders included."""
        self._rest += data
        self._returns = self._returns or b"\r" in data
        found = self._cut_slowly() if self._returns else self._cut()
        self._searched = max(0, len(self._rest) - _PARTIAL)
        if max(map(len, (*found, self._rest))) > self._limit:
            raise OversizedEventError(f"an event is longer than {self._limit} bytes")
        return found

    def close(self) -> list[bytes]:
        """Return the event that the stream ended in without a border, with one put behind it."""
        rest = bytes(self._rest).rstrip(b"\r\n")
        self._rest.clear()
        return [rest + b"\n\n"] if rest else []

    def _cut(self) -> list[bytes]:
        if self._rest.find(b"\n\n", self._searched) < 0:
            return []
        *events, self._rest = self._rest.split(b"\n\n")
        return [bytes(event) + b"\n\n" for event in events]

    def _cut_slowly(self) -> list[bytes]:
        """Cut where lines may end in CR, which takes far longer."""
        ends = [border.end() for border in _BORDER.finditer(self._rest, self._searched)]
        events = [bytes(self._rest[a:b]) for a, b in zip([0, *ends], ends, strict=False)]
        if ends:
            del self._rest[: ends[-1]]
        return events


def joined(events: Sequence[bytes]) -> Sequence[bytes]:
    """Return whole events as few pieces that `events_of` takes apart again."""
    if len(events) < 2 or any(b"\r" in event for event in events):
        return events  # whether a CR ends a line is seen by what follows
    return [b"".join(events)]


def events_of(piece: bytes) -> Sequence[bytes]:
    """Return the whole events that a piece of a stream has; see `joined`."""
    if piece.find(b"\n\n", 0, -2) < 0 or b"\r" in piece:
        return [piece]
    *events, rest = piece.split(b"\n\n")
    return [event + b"\n\n" for event in events] + ([rest] if rest else [])


async def one_by_one(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield the whole events that pieces have, one after the other."""
    async for piece in pieces:
        for event in events_of(piece):
            yield event


def is_plain(event: bytes) -> bool:
    """Say whether a whole event is one line of data and nothing else."""
    one_line = event.startswith(b"data: ") and event.find(b"\n", 6) == len(event) - 2
    return one_line and b"\r" not in event


def data_of(event: bytes) -> bytes:
    """Return the data of one whole event; empty where it has none."""
    if is_plain(event):
        return event[6:-2]
    fields = (line.removeprefix(b"\xef\xbb\xbf").partition(b":") for line in event.splitlines())
    return b"\n".join(value.removeprefix(b" ") for name, _, value in fields if name == b"data")


def without_comments(event: bytes) -> bytes:
    """Return an event without its comment lines, every other byte as it was."""
    if is_plain(event):
        return event
    lines = event.splitlines(keepends=True)
    return b"".join(line for line in lines if not line.startswith(b":"))
