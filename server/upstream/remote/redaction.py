"""Redact what an upstream says, to repeat it: one short line without its key or its address.

What is taken out must not tell what the key is: an upstream repeats its caller's words, and a
caller who sees which of them are taken out reads the key by guessing. So nothing is looked for but
the key whole, and what has a key's shape or mask whatever our key is; and what the request itself
says stays as it was said, be it the key.
"""

from __future__ import annotations

import base64
import json
import re
from urllib.parse import quote, unquote, urlsplit

from server.openai_protocol.errors import Clean
from server.upstream.remote.request_words import NOTHING, SHAPED, Sent, plain

_LONGEST = 1_000
#: so much is looked at; the rest of a longer text is never shown
_LOOKED_AT = 4_000
#: a shorter secret may be a piece of an ordinary word
_SHORT = 8
_WORD = r"[^\s\"'`<>()\[\]{},;]"


class Redactor:
    """Cleans texts of one upstream's key and address; called, as if nothing had been sent."""

    def __init__(self, key: str | None, base_url: str) -> None:
        url = urlsplit(base_url)
        self._forms = sorted({form for one in _secrets(key, url.netloc) for form in _forms(one)})
        self._host = url.hostname or ""
        self._key = re.compile("|".join(map(_exactly, sorted(self._forms, key=len, reverse=True))))
        self._address = re.compile(_address(self._host))
        self._longest = max(map(len, (*self._forms, self._host)), default=0)

    def __call__(self, text: str) -> str:
        return self._clean(text, NOTHING)

    def of(self, sent: Sent) -> Clean:
        """Return what cleans the answers to a request: what the request says is left alone."""
        return lambda text: self._clean(text, sent)

    def _clean(self, text: str, sent: Sent) -> str:
        """Return the text on one line of at most 1,000 characters, key and address replaced."""
        line = plain(text[:_LOOKED_AT])
        if len(text) > _LOOKED_AT:
            line = line[: max(len(line) - self._longest, 0)]  # it may end within the key
        if self._forms and self._key.search(line) and not sent.says(*self._forms):
            line = self._key.sub("[key]", line)
        if self._host and self._address.search(line) and not sent.says(self._host):
            line = self._address.sub("[upstream]", line)
        line = SHAPED.sub(lambda found: found[0] if sent.shows(found[0]) else "[key]", line)
        return _short(line)


def _short(line: str) -> str:
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"


def _secrets(key: str | None, netloc: str) -> list[str]:
    """Return what must not be seen: the key, a login's password, and the login as it is sent."""
    name, _, password = netloc.rpartition("@")[0].partition(":")
    login = base64.b64encode(f"{unquote(name)}:{unquote(password)}".encode()).decode()
    return [one for one in (key, *((password or name, login) if name else ())) if one]


def _forms(secret: str) -> set[str]:
    """Return a secret as it may stand in a text: plain, or escaped for JSON or for a URL."""
    bare = unquote(secret)
    return {secret, bare, json.dumps(secret)[1:-1], quote(bare), quote(bare, safe="")}


def _exactly(secret: str) -> str:
    escaped = re.escape(secret)
    return escaped if len(secret) >= _SHORT else rf"(?<!\w){escaped}(?!\w)"


def _address(host: str) -> str:
    return rf"(?i)(?<![\w.\-])(?:https?://)?{re.escape(host)}(?![\w\-])(?::\d+)?(?:/{_WORD}*)?"
