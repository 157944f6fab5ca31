"""Turn the bytes of an event stream into the data of its events, bounded and without any I/O."""

from __future__ import annotations

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
