"""An application on the HTTP port, and what the middleware has to know of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from starlette.responses import Response
from starlette.types import ASGIApp


def _never(_: str) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Mount:
    """`app` answers under `prefix` (empty: everywhere else); the rest says so of its paths."""

    app: ASGIApp
    #: what it is called in logs and metrics
    wire: str
    #: the answer that an error is
    refuse: Callable[[BaseException], Response]
    prefix: str = ""
    #: the body goes by without being held, and may be as large as an upload
    streams_past: Callable[[str], bool] = _never
    #: no key is needed
    public: Callable[[str], bool] = _never
    #: does not count against the rate limit
    free: Callable[[str], bool] = _never

    def has(self, path: str) -> bool:
        """Say whether a path is under the prefix."""
        return not self.prefix or path == self.prefix or path.startswith(f"{self.prefix}/")


def mount_of(mounts: Sequence[Mount], path: str) -> Mount:
    """Return the first that has a path; the last one has all."""
    return next(mount for mount in mounts if mount.has(path))
