"""Which addresses are near: this machine's, or of a private network."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit

_NAMES = (".localhost", ".local", ".internal", ".lan", ".home.arpa")


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
