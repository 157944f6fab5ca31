"""Kinds of settings: text that is checked where it is read, and kept as it was written."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, PlainSerializer, SecretStr
from pydantic_settings import NoDecode

from server.config import database
from server.config.addresses import web_address, without_secrets
from server.config.quantities import budget, rate

Names = Annotated[tuple[str, ...], NoDecode]


def _address(value: str) -> str:
    """Return the address of a server that speaks OpenAI's API; a bare one is completed."""
    return value if web_address(value).path.strip("/") else f"{value.rstrip('/')}/v1"


Address = Annotated[str, AfterValidator(_address), PlainSerializer(without_secrets)]
DatabaseUrl = Annotated[str, AfterValidator(database.checked), PlainSerializer(database.shown)]


def sendable(key: str) -> str:
    """Return a key that can be sent. Raises ValueError, whose text does not repeat it."""
    if not (key.isascii() and key.isprintable() and " " not in key):
        raise ValueError("has characters that no header can carry, a space or a line break say")
    return key


def _secret(value: SecretStr) -> SecretStr:
    sendable(value.get_secret_value())
    return value


SentKey = Annotated[SecretStr, AfterValidator(_secret)]


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
