"""Which headers go past us: a client's to the upstream, and the upstream's back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

#: Only what is named here leaves us, so that no client's key can, whatever header it comes in.
_SENT: Final = frozenset(
    {
        "accept",
        "content-length",
        "content-type",
        "http-referer",
        "idempotency-key",
        "openai-beta",
        "range",
        "user-agent",
        "x-client-request-id",
        "x-title",
    }
)
_KEPT: Final = frozenset(
    {
        "accept-ranges",
        "content-disposition",
        "content-length",
        "content-range",
        "content-type",
        "retry-after",
        "retry-after-ms",
        "x-should-retry",
    }
)
_KEPT_FAMILIES: Final = ("openai-", "x-ratelimit-")
#: whose key it is that the upstream was shown
_WHOSE: Final = frozenset({"openai-organization", "openai-project"})


def sent(headers: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str]:
    """Return what an upstream is sent: the client's headers that are fit for it, then our own."""
    given = {name: value for name, value in headers.items() if name in _SENT}
    given.setdefault("user-agent", "trialogue")
    return {**given, "accept-encoding": "identity", **own}


def kept(headers: Mapping[str, str]) -> dict[str, str]:
    """Return what a client is sent of an upstream's headers; its request id under another name."""
    found = {}
    for name, value in headers.items():
        low = name.lower()
        if low in _KEPT or (low.startswith(_KEPT_FAMILIES) and low not in _WHOSE):
            found[low] = value
        elif low == "x-request-id":
            found["x-upstream-request-id"] = value
    return found
