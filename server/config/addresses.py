"""Addresses of servers: which are near, and what of one may be shown."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit

#: in the place of what may be secret
MASK = "***"
_NAMES = (".localhost", ".local", ".internal", ".lan", ".home.arpa")


def web_address(url: str) -> SplitResult:
    """Return the parts of a URL that can be asked for. Raises ValueError, without a word of it."""
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").encode("idna")
        good = parts.scheme in ("http", "https") and host and parts.port != 0
    except ValueError:  # of a port that is none, or a host that is no name
        good = False
    if not good or not url.isprintable() or " " in url:
        raise ValueError("must be a URL such as http://localhost:8080/v1, its port at most 65535")
    return parts


def without_secrets(url: str) -> str:
    """Return a URL without its password, a name that stands alone for a key, and its query."""
    parts = urlsplit(url)
    login, at, where = parts.netloc.rpartition("@")
    name, colon, _ = login.partition(":")
    masked = f"{name}:{MASK}{at}" if colon else MASK + at if at else ""
    return parts._replace(netloc=masked + where, query=MASK if parts.query else "").geturl()


def is_near(url: str) -> bool:
    """Say whether a URL names this machine, or one beside it; no name is looked up.

    A name without a dot is one of a container beside us, or of this network.
    """
    host = (urlsplit(url).hostname or "").rstrip(".")
    try:
        address = ip_address(host)
    except ValueError:
        return bool(host) and ("." not in host or host.endswith(_NAMES))
    return address.is_private or address.is_loopback or address.is_link_local
