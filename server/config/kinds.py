"""Kinds of settings: text that is checked where it is read, and kept as it was written."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator
from pydantic_settings import NoDecode

from server.config.quantities import budget, rate

Names = Annotated[tuple[str, ...], NoDecode]


def _address(value: str) -> str:
    """Return the address of a server that speaks OpenAI's API; a bare one is completed."""
    url = urlsplit(value)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ValueError("must be a URL such as http://localhost:8080/v1")
    return value if url.path.strip("/") else f"{value.rstrip('/')}/v1"


Address = Annotated[str, AfterValidator(_address)]


def _tokenizer(value: str) -> str:
    """Return how tokens are counted, where there is such a way."""
    from server.tokens.encoding import ENCODINGS

    kind, _, name = value.partition(":")
    if value in ("upstream", "learn") or (kind == "tiktoken" and name in ENCODINGS):
        return value
    known = ", ".join(ENCODINGS)
    raise ValueError(f"must be upstream, learn, or tiktoken: and one of {known}")


Tokenizer = Annotated[str, AfterValidator(_tokenizer)]


def _rate(value: str) -> str:
    """Return a rate that can be read."""
    rate(value)
    return value


RateText = Annotated[str, AfterValidator(_rate)]


def _budget(value: str) -> str:
    """Return a budget that can be read."""
    budget(value)
    return value


BudgetText = Annotated[str, AfterValidator(_budget)]
