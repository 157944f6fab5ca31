"""Which connections to one upstream are kept for the next call: few, however many are in use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

#: How many, where nobody says; the server shares its descriptors out (server/config/limits.py).
KEPT = 100


class Pool:
    """Counts the calls that are under way.

    The library's own pool keeps every connection that was ever in use at once, and has no bound
    for it. Nor does it bound how many there are: a call that waited in its line would wait in
    silence, so who may call at all is asked before (`server/core/access/concurrency.py`).
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
    def crowded(self) -> bool:
        """Whether the connection of a call that begins now is to be closed behind it."""
        return self._used > self._kept
