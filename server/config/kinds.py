"""Kinds of settings: text that is checked where it is read, and kept as it was written."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, PlainSerializer, SecretStr
from pydantic_settings import NoDecode

from server.config import database
from server.config.addresses import web_address, without_secrets
from server.config.hosts import as_sent, is_prefix
from server.config.quantities import budget, rate


def _listed(value: Any) -> Any:
    """Take what a variable says, with commas, and what trialogue.toml does as the same."""
    listed = value.split(",") if isinstance(value, str) else value
    if not isinstance(listed, list | tuple) or not all(isinstance(one, str) for one in listed):
        return value
    return tuple(dict.fromkeys(one.strip() for one in listed if one.strip()))


def _sent(value: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(as_sent(one) for one in value)


Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_listed)]
#: origins or hosts
SentNames = Annotated[Names, AfterValidator(_sent)]


def _networks(value: tuple[str, ...]) -> tuple[str, ...]:
    """Return addresses and networks that can be read; the word `none` for nobody's."""
    if value == ("none",):
        return ()
    for one in value:
        try:
            _ = one == "*" or ipaddress.ip_network(one)
        except ValueError as error:
            raise ValueError(
                f"must be addresses, networks such as 10.0.0.0/8, or *: {error}"
            ) from None
    return value


Networks = Annotated[Names, AfterValidator(_networks)]


def _root_path(value: str) -> str:
    """Return a path that all others stand behind, or nothing; no slash is at its end."""
    path = value.strip().rstrip("/")
    if not is_prefix(path):
        raise ValueError("must be a path such as /chat, of letters, digits and . _ ~ -")
    return path


RootPath = Annotated[str, AfterValidator(_root_path)]


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
