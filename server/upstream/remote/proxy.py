"""Which proxy leads to an address, as the environment names them."""

from __future__ import annotations

import urllib.request
from urllib.parse import SplitResult

from server.config.hosts import is_loopback


def proxy_of(address: SplitResult) -> str | None:
    """Return the proxy for an address; None where there is none, or the address is this machine."""
    host = address.hostname or ""
    if is_loopback(host) or urllib.request.proxy_bypass(host):
        return None
    proxies = urllib.request.getproxies()
    return proxies.get(address.scheme) or proxies.get("all")
