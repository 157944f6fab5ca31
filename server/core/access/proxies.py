"""Reverse proxies: whose X-Forwarded-* headers are believed, and what they say of a request."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from server.config.hosts import is_prefix
from server.core.access.concurrency import ConcurrencyLimit

#: everybody who connects
ANYBODY = "*"
_NAMES = re.compile("x-forwarded-(for|host|prefix|proto)", re.IGNORECASE)

_IP = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Forwarded:
    """What is believed of a request: who asks, from which host's page, below which path."""

    #: of the client; None where no proxy says it
    address: str | None = None
    host: str | None = None
    scheme: str | None = None
    #: what a proxy has taken off the path
    prefix: str | None = None


NOTHING = Forwarded()


class Proxies:
    """Those whose word is taken, by address or network; of their headers, the last word.

    What stands before it may be the client's own: a proxy adds its word behind that, or alone.
    """

    def __init__(self, believed: Iterable[str] = ()) -> None:
        named = tuple(believed)
        self._anybody = ANYBODY in named
        self._networks = [ipaddress.ip_network(one) for one in named if one != ANYBODY]

    def believes(self, peer: str) -> bool:
        """Say whether the word of who has connected is taken, by address."""
        if self._anybody:
            return True
        address = _address(peer)
        return address is not None and any(address in network for network in self._networks)

    def told(self, peer: str, headers: Iterable[tuple[str, str]]) -> Forwarded:
        """Return what a peer's headers say of a request: nothing, where it is not believed."""
        said: dict[str, list[str]] = {}
        for name, value in headers:
            if (match := _NAMES.fullmatch(name)) is not None:
                words = (word.strip() for word in value.split(","))
                said.setdefault(match[1].lower(), []).extend(word for word in words if word)
        if not said or not self.believes(peer):
            return NOTHING
        host, scheme, prefix = (said.get(name, [""])[-1] for name in ("host", "proto", "prefix"))
        prefix = prefix.rstrip("/")
        return Forwarded(
            self._client(said.get("for", [])),
            host or None,
            scheme.lower() if scheme.lower() in ("http", "https") else None,
            prefix if prefix and is_prefix(prefix) else None,
        )

    def _client(self, chain: list[str]) -> str | None:
        """Return the first of those who are not believed, from the near end of a chain."""
        found = None
        for one in reversed(chain):
            address = _address(one)
            if address is None:
                break
            found = str(address)
            if not self.believes(found):
                break
        return found


class AddressLimit:
    """How many connections and calls an address may have at once, on all wires together.

    Behind a proxy all have its address. So of one that is believed no connection is counted, but
    each request that it hands on, by the client that it is of.
    """

    def __init__(self, most: int | None, proxies: Proxies) -> None:
        self._proxies = proxies
        self._limit = ConcurrencyLimit(most, "address")

    def enter(self, peer: str) -> int:
        """Count a connection, and return by how many there are too many now."""
        return 0 if self._proxies.believes(peer) else self._limit.enter(peer)

    def leave(self, peer: str) -> None:
        """Take back what `enter` counted."""
        if not self._proxies.believes(peer):
            self._limit.leave(peer)

    @contextmanager
    def request(self, peer: str, forwarded: Forwarded) -> Iterator[None]:
        """Count a request over a connection. Raises RateLimitedError for one too many."""
        if not self._proxies.believes(peer):
            yield
            return
        with self._limit.within(forwarded.address or peer):
            yield

    @contextmanager
    def call(self, peer: str, forwarded: Forwarded) -> Iterator[None]:
        """Count a call where no connection is counted. Raises RateLimitedError."""
        with self._limit.within(forwarded.address or peer):
            yield


def _address(text: str) -> _IP | None:
    """Return an address, with a port or without; IPv4 within IPv6 as what it is."""
    bare = text.strip('"')
    if bare.startswith("["):
        bare = bare[1:].partition("]")[0]
    elif bare.count(":") == 1:
        bare = bare.partition(":")[0]
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        return None
    return (address.ipv4_mapped if address.version == 6 else None) or address
