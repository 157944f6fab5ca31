"""The tables of trialogue.toml: upstreams, characters, templates, MCP servers, local models."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from server.config.kinds import Address, Tokenizer
from server.config.quantities import duration
from server.config.upstream_names import own_name


class UpstreamTable(BaseModel):
    """One `[[upstreams]]` of trialogue.toml; its key stays in the variable that it names."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(min_length=1), AfterValidator(own_name)]
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
    #: tokens of the window: of all its models, or by their names; unset: what it tells itself
    context_window: PositiveInt | dict[str, PositiveInt] | None = None
    #: how tokens are counted, of all its models or by their names: tiktoken:NAME, upstream (it is
    #: asked), learn (from the usage that it tells); unset: the best of these that there is
    tokenizer: Tokenizer | dict[str, Tokenizer] | None = None
    #: strict: what is sent obeys every chat template's rules; lenient: sent as it was said
    template: Literal["strict", "lenient"] = "strict"
    #: it has the Responses API itself: what holds no state and only it can do is handed on
    responses: bool = False


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


class McpTable(BaseModel):
    """One `[[mcp]]` of trialogue.toml: a server of tools, begun by us or asked at its address."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9-]{1,32}$")]
    #: the program and its words; it is spoken to over its standard input and output
    command: tuple[str, ...] | None = Field(None, min_length=1)
    #: the variables of ours that the program has, besides PATH, HOME and their like
    variables: tuple[str, ...] = ()
    #: in place of a command: where it listens (streamable HTTP)
    url: Address | None = None
    #: the variable that has the key for the address, sent as a bearer's
    key_variable: str | None = None
    #: the names of the keys whose turns may use it
    keys: tuple[str, ...] = ("*",)
    #: the models that are offered its tools: names, or patterns
    models: tuple[str, ...] = ("*",)
    #: those of its tools that are offered: names, or patterns
    tools: tuple[str, ...] = ("*",)
    #: those of them that somebody has to approve before each call: names, or patterns
    approve: tuple[str, ...] = ()
    #: seconds that one call may take
    timeout: PositiveFloat = 60.0

    @model_validator(mode="after")
    def _reached(self) -> McpTable:
        if (self.command is None) == (self.url is None):
            raise ValueError("must have either a command or a url")
        return self


class LocalTable(BaseModel):
    """`[local]` of trialogue.toml: how models on this machine are run, all of them alike."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: tokens of the window of each conversation; less where the model or the memory has no more
    context: int = Field(8192, ge=256)
    #: answers that are written at once; each has a window of its own
    parallel: PositiveInt = Field(2, le=64)
    #: unset: as many as there are cores, less one
    threads: PositiveInt | None = None
    #: layers that the GPU computes; unset: as many as it has room for
    gpu_layers: int | None = Field(None, ge=0)
    #: bytes of GPUs that models may be put in; unset: what llama-server says is free of CUDA's
    #: and ROCm's
    gpu_memory: ByteSize | None = Field(None, ge=0)
    #: seconds, or `10m`, after which an unused one gives its memory back; 0: never
    idle_unload: Annotated[float, BeforeValidator(duration)] = 600.0
    #: so many are loaded at once
    keep_loaded: PositiveInt = 1
    #: bytes that they may take together; unset: what is free
    memory_limit: ByteSize | None = Field(None, gt=0)
    #: `llama-server`: llama.cpp's own program; `wheel`: what the extra `local` brings
    engine: Literal["auto", "llama-server", "wheel"] = "auto"
