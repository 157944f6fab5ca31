"""The write timeout, where back-pressure ends: a peer that reads nothing for too long is cut."""

from __future__ import annotations

import asyncio
import fcntl
import sys
import termios
from contextlib import suppress


class WriteTimeout:
    """Aborts a connection whose write buffer is full, and stays as it is for so many seconds.

    A peer that reads at all, however slowly, is waited for.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, transport: asyncio.Transport) -> None:
        """Look after a transport that has just asked us to pause."""
        self.end()
        self._wait(transport, unread(transport))

    def end(self) -> None:
        """Stop: the peer has caught up, or is gone."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wait(self, transport: asyncio.Transport, before: int) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._seconds, self._judge, transport, before)

    def _judge(self, transport: asyncio.Transport, before: int) -> None:
        now = unread(transport)
        if now >= before:
            transport.abort()
        else:
            self._wait(transport, now)


def unread(transport: asyncio.Transport) -> int:
    """Return the bytes that a peer has not taken, in our buffer and in the kernel's."""
    in_kernel = bytearray(4)
    with suppress(OSError):  # not every system tells
        fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, in_kernel)
    return transport.get_write_buffer_size() + int.from_bytes(in_kernel, sys.byteorder)
