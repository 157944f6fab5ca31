"""Whom a server of a test lets in, and how a caller shows its key."""

from __future__ import annotations

from server.core.access.auth import Auth, configured
from server.core.clock import microseconds

#: everybody on this machine, without a key
OPEN_ACCESS = Auth((), None, microseconds, open_to_all=True, public=False)


def locked(keys: str) -> Auth:
    """Let in whoever shows one of these keys: `owner:key,owner:key`."""
    return Auth(configured(keys), None, microseconds, open_to_all=False, public=False)


def bearing(key: str) -> dict[str, str]:
    """Return the header that shows a key, over HTTP and at a websocket's handshake."""
    return {"authorization": f"Bearer {key}"}


#: how often keys are looked at where a test revokes one, in seconds
EAGER = 0.01
#: the code of every error that says to come again later
CODE = "rate_limit_exceeded"
#: what Ann and Bob show, whom `two_keys` lets in
ANN, BOB = bearing("one"), bearing("two")


def two_keys() -> Auth:
    """Let in Ann and Bob, who are to see nothing of each other."""
    return locked("ann:one,bob:two")
