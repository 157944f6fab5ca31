"""Put an upstream's complaints in OpenAI's shape, keeping its words but not its key or address."""

from __future__ import annotations

import unicodedata
from typing import Any

import orjson

from server.openai_protocol.normalize import encode
from server.upstream.remote.errors import complaint_of
from server.upstream.remote.redaction import Clean

#: so deep, and so wide, is an error looked into
_DEPTH = 4
_MOST = 50
#: what is said of an error in its own place
_SHAPE = ("message", "type", "param", "code", "detail", "error")
_PLAIN = str.maketrans(
    {"‘": "'", "’": "'", "“": '"', "”": '"', "–": "-", "—": "-", "…": "...", "\xa0": " "}
)


def refusal(status: int, body: bytes, clean: Clean) -> bytes:
    """Return the body of an error answer: `{"error": {message, type, param, code, …}}`."""
    try:
        said = orjson.loads(body)
    except orjson.JSONDecodeError:
        said = body.decode("utf-8", "replace")
    if isinstance(said, list) and said:
        said = said[0]
    rest = {}
    if isinstance(said, dict) and isinstance(said.get("error"), dict):
        rest = {name: _clean(value, clean, 1) for name, value in said.items() if name != "error"}
        said = said["error"]
    return encode({"error": shaped(said, clean, status), **rest})


def shaped(said: object, clean: Clean, status: int = 500) -> dict[str, Any]:
    """Return an error object in OpenAI's shape; what else is in it is kept, cleaned."""
    complaint = complaint_of(said, clean)
    message = complaint.message or f"the upstream refused the request with status {status}"
    error = {
        "message": one_line(message),
        "type": complaint.type or type_of(status),
        "param": complaint.param,
        "code": complaint.code,
    }
    if isinstance(said, dict):
        more = {name: value for name, value in said.items() if name not in _SHAPE}
        error |= _clean(more, clean, 1)
    return error


def type_of(status: int) -> str:
    """Return OpenAI's type for errors of a status."""
    if status == 429:
        return "rate_limit_exceeded"
    return "server_error" if status >= 500 else "invalid_request_error"


def one_line(text: str) -> str:
    """Return a text as one line of ASCII, which some clients put into an HTTP status line."""
    plain = " ".join(text.split()).translate(_PLAIN)
    shown = plain if plain.isascii() else "".join(map(_folded, plain))
    return "".join(letter for letter in shown if letter.isprintable())


def _folded(letter: str) -> str:
    bare = unicodedata.normalize("NFKD", letter).encode("ascii", "ignore").decode()
    return bare or letter.encode("ascii", "backslashreplace").decode()


def _clean(value: Any, clean: Clean, depth: int) -> Any:
    """Clean every text in a value; what lies too deep is left out."""
    match value:
        case str():
            return clean(value)
        case dict() | list() if depth > _DEPTH:
            return None
        case dict():
            pairs = list(value.items())[:_MOST]
            return {clean(str(name)): _clean(part, clean, depth + 1) for name, part in pairs}
        case list():
            return [_clean(part, clean, depth + 1) for part in value[:_MOST]]
        case _:
            return value
