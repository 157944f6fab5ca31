"""The tables of trialogue.toml that have names: upstreams, characters, templates."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PositiveFloat, model_validator


def _address(value: str) -> str:
    """Return the address of a server that speaks OpenAI's API; a bare one is completed."""
    url = urlsplit(value)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ValueError("must be a URL such as http://localhost:8080/v1")
    return value if url.path.strip("/") else f"{value.rstrip('/')}/v1"


Address = Annotated[str, AfterValidator(_address)]


class UpstreamTable(BaseModel):
    """One `[[upstreams]]` of trialogue.toml; its key stays in the variable that it names."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    base_url: Address
    key_variable: str | None = None
    #: the models that it serves: names, or patterns such as gpt-*
    models: tuple[str, ...] = ("*",)
    #: names of ours for models of its own
    aliases: dict[str, str] = {}
    #: models that take no messages, only text
    completions_only: tuple[str, ...] = ()
    #: in seconds; unset: the settings for all upstreams
    timeout: PositiveFloat | None = None
    first_byte_timeout: PositiveFloat | None = None
    between_timeout: PositiveFloat | None = None


def _told(value: str) -> str:
    """Return text that a prompt can have."""
    if not value.strip() or "\x00" in value:
        raise ValueError("must be text")
    return value


def _template(value: str) -> str:
    """Return the text of a template that can be read."""
    from server.templates.parse import read
    from server.templates.template import TemplateError

    try:
        read(_told(value))
    except TemplateError as error:
        raise ValueError(str(error)) from None
    return value


Told = Annotated[str, AfterValidator(_told)]


class CharacterTable(BaseModel):
    """One `[characters.NAME]` of trialogue.toml: what it is told of itself, and says first."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    system_prompt: Told | None = None
    greeting: Told | None = None
    #: of conversations that name none
    model: Told | None = None

    @model_validator(mode="after")
    def _somebody(self) -> CharacterTable:
        if self.system_prompt is None and self.greeting is None:
            raise ValueError("must have a system_prompt, or a greeting")
        return self


class TemplateTable(BaseModel):
    """One `[templates.NAME]` of trialogue.toml: how a conversation is written as one text."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    template: Annotated[str, AfterValidator(_template)]
    #: where an answer ends
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = Field((), max_length=4)
