"""Hosts and origins as browsers send them, and which can only mean this machine."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

_PREFIX = re.compile(r"(/(?!\.\.?(/|\Z))[A-Za-z0-9._~-]+)*")


def is_here(host: str) -> bool:
    """Say whether a Host value, with a port or without, can only mean this machine itself."""
    return is_loopback(host_name(host))


def is_loopback(name: str) -> bool:
    """Say whether a host's name, or its address, is this machine's own; 127.example.com is none."""
    address = address_of(name)
    if address is None:
        return name == "localhost" or name.endswith(".localhost")
    return address.is_loopback


def address_of(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the address that a host's name is, if it is one."""
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


def host_name(host: str) -> str:
    """Return a Host value without its port, in lower case."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:  # brackets that hold no IPv6 address
        return ""


def is_prefix(path: str) -> bool:
    """Say whether a path can stand before all of ours: nothing in it is written in two ways."""
    return _PREFIX.fullmatch(path) is not None


def as_sent(name: str) -> str:
    """Return an origin or a host as browsers send it: in lower case, without a slash at the end."""
    name = name.strip().lower()
    bare = name.rstrip("/")
    return f"{bare}//" if bare.endswith(":") and "://" in name else bare  # file:// has no host
