"""Make an upstream's own words fit to repeat: one short line without its key or its address."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from server.upstream.letters import whole

_LONGEST = 1_000
#: so much is looked at; the rest of a longer text is never shown
_LOOKED_AT = 4_000
#: a piece of the key that is as long as this gives it away
_TELLING = 8
_WORD = r"[^\s\"'`<>()\[\]{},;]"
_KEYS = (
    # keys by the names that providers give them, whole or masked
    r"(?<![A-Za-z0-9])(?:sk|pk|rk|gsk|csk|xai|hf|nvapi|pplx)[-_][\w*.…\-]*[\w*…]",
    r"(?<![A-Za-z0-9])AIza[\w*\-]+",
    # whatever somebody masked
    rf"[\w\-.]{{0,64}}(?:\*{{3}}|•{{3}}){_WORD}*",
    rf"(?i:(?<=bearer ){_WORD}{{16,}})",
)


class Scrubber:
    """Clean texts of one upstream's key and address."""

    def __init__(self, key: str | None, base_url: str) -> None:
        url = urlsplit(base_url)
        secrets = [text for text in (key, url.password) if text]
        patterns = [*(_secret(secret) for secret in secrets), *_KEYS]
        self._keys = re.compile("|".join(patterns))
        self._address = re.compile(_address(url.hostname)) if url.hostname else None

    def __call__(self, text: str) -> str:
        """Return the text on one line of at most 1,000 characters, key and address replaced."""
        line = "".join(_printable(text[:_LOOKED_AT])).strip()
        line = self._keys.sub("[key]", line)
        if self._address is not None:
            line = self._address.sub("[upstream]", line)
        return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"


def _printable(text: str) -> Iterator[str]:
    """Yield the text's words with single spaces between, control characters and halves gone."""
    for word in whole(text).split():
        yield "".join(letter for letter in word if letter.isprintable())
        yield " "


def _secret(secret: str) -> str:
    if len(secret) < _TELLING:
        return rf"(?<!\w){re.escape(secret)}(?!\w)"
    starts = range(len(secret) - _TELLING + 1)
    windows = "|".join(re.escape(secret[start : start + _TELLING]) for start in starts)
    return rf"(?:{windows}){_WORD}*"


def _address(host: str) -> str:
    return rf"(?i)(?<![\w.\-])(?:https?://)?{re.escape(host)}(?![\w\-])(?::\d+)?(?:/{_WORD}*)?"
