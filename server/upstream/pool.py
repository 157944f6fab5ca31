"""Which connections to one upstream are kept for the next call: few, however many are in use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

#: How many, where nobody says; the server shares its descriptors out (server/limits.py).
KEPT = 100
#: What asks an upstream not to keep a connection (RFC 9112, 9.6).
_LAST = {"connection": "close"}


class Pool:
    """Counts the calls that are under way.

    The library's own pool keeps every connection that was ever in use at once, and has no bound
    for it. Nor does it bound how many there are: a call that waited in its line would wait in
    silence, so who may call at all is asked before (`server/core/crowd.py`).
    """

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._used = 0

    @contextmanager
    def using(self) -> Iterator[None]:
        """Be counted in this context."""
        self._used += 1
        try:
            yield
        finally:
            self._used -= 1

    @property
    def headers(self) -> Mapping[str, str]:
        """What a request says of its connection: whether it is the last on it."""
        return _LAST if self._used > self._kept else {}
