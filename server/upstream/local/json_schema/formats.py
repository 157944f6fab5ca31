"""The formats that JSON Schemas ask strings to have: a sample of each, and a test for it."""

from __future__ import annotations

import ipaddress
import re
import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta

_EPOCH = datetime(1966, 1, 1, 9, 30, tzinfo=UTC)
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_EMAIL = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@" + _HOST.pattern)
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[!#$%&'()*+,/:;=?@\[\]A-Za-z0-9._~-]+")
_RELATIVE = re.compile(r"[!#$%&'()*+,/:;=?@\[\]A-Za-z0-9._~-]*")
_DURATION = re.compile(
    r"P(?=.)(?:\d+W|(?:\d+Y)?(?:\d+M)?(?:\d+D)?(?:T(?=.)(?:\d+H)?(?:\d+M)?(?:\d+(?:\.\d+)?S)?)?)"
)
_TIME = re.compile(r"\d{2}:\d{2}:\d{2}(?:\.\d+)?(?:[Zz]|[+-]\d{2}:\d{2})")
_POINTER = re.compile(r"(?:/(?:[^~/]|~[01])*)*")
_RELATIVE_POINTER = re.compile(r"(?:0|[1-9]\d*)(?:#|(?:/(?:[^~/]|~[01])*)*)")
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")

_SAMPLES: dict[str, Callable[[int], str]] = {
    "date-time": lambda turn: _moment(turn).strftime("%Y-%m-%dT%H:%M:%SZ"),
    "date": lambda turn: _moment(turn).date().isoformat(),
    "time": lambda turn: _moment(turn).strftime("%H:%M:%SZ"),
    "duration": lambda turn: f"PT{turn % 1_000 + 50}M",
    "email": lambda turn: f"eliza{_numbered(turn)}@example.com",
    "hostname": lambda turn: f"eliza{_numbered(turn)}.example.com",
    "ipv4": lambda turn: f"192.0.2.{turn % 254 + 1}",
    "ipv6": lambda turn: f"2001:db8::{turn % 65_000 + 1:x}",
    "uri": lambda turn: f"https://example.com/eliza{_numbered(turn)}",
    "uuid": lambda turn: str(uuid.UUID(int=(0x1966 << 112) + (4 << 76) + (8 << 60) + turn)),
    "json-pointer": lambda turn: f"/eliza{_numbered(turn)}",
    "relative-json-pointer": lambda turn: f"{turn % 1_000}/eliza",
    "regex": lambda turn: f"eliza{_numbered(turn)}",
    "byte": lambda turn: f"RWxpemE{turn % 10}",
}
_ALIASES = {
    "idn-email": "email",
    "idn-hostname": "hostname",
    "iri": "uri",
    "url": "uri",
    "uri-reference": "uri",
    "iri-reference": "uri",
    "uri-template": "uri",
    "base64": "byte",
    "uuid1": "uuid",
    "uuid4": "uuid",
}


def sample(name: str, turn: int) -> str | None:
    """Return a text of a format, another for each turn; None where the format is not known."""
    write = _SAMPLES.get(_ALIASES.get(name, name))
    return None if write is None else write(max(0, turn))


def has_format(name: str, text: str) -> bool:
    """Say whether a text has a format; formats that are not known allow every text."""
    test = _TESTS.get(name) or _TESTS.get(_ALIASES.get(name, name))
    return test is None or test(text)


def _numbered(turn: int) -> str:
    return str(turn + 1) if turn else ""


def _moment(turn: int) -> datetime:
    return _EPOCH + timedelta(days=turn % 20_000, minutes=turn % 600)


def _parses(read: Callable[[str], object]) -> Callable[[str], bool]:
    def test(text: str) -> bool:
        try:
            read(text)
        except ValueError:
            return False
        return text.isascii()

    return test


def _whole(pattern: re.Pattern[str]) -> Callable[[str], bool]:
    return lambda text: pattern.fullmatch(text) is not None


def _is_time(text: str) -> bool:
    return _TIME.fullmatch(text) is not None and _parses(time.fromisoformat)(text.upper())


def _is_date(text: str) -> bool:
    return len(text) == 10 and _parses(date.fromisoformat)(text)


def _is_moment(text: str) -> bool:
    return text[10:11] in ("T", "t") and _is_date(text[:10]) and _is_time(text[11:])


_TESTS: dict[str, Callable[[str], bool]] = {
    "date-time": _is_moment,
    "date": _is_date,
    "time": _is_time,
    "duration": _whole(_DURATION),
    "email": _whole(_EMAIL),
    "hostname": lambda text: len(text) < 254 and _HOST.fullmatch(text) is not None,
    "ipv4": _parses(ipaddress.IPv4Address),
    "ipv6": lambda text: "%" not in text and _parses(ipaddress.IPv6Address)(text),
    "uri": _whole(_URI),
    "uri-reference": _whole(_RELATIVE),
    "iri-reference": _whole(_RELATIVE),
    "uri-template": _whole(_RELATIVE),
    "uuid": lambda text: len(text) == 36 and _parses(uuid.UUID)(text),
    "json-pointer": _whole(_POINTER),
    "relative-json-pointer": _whole(_RELATIVE_POINTER),
    "regex": lambda text: text.isalnum(),
    "byte": _whole(_BASE64),
}
