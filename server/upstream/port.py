"""What an upstream is: whoever writes answers, and the ways in which it can fail."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from server.openai_protocol.errors import Complaint
from server.upstream.model_info import ModelInfo, Named
from storage.model import PromptMessage, Usage
from storage.parts import Part


@dataclass(frozen=True, slots=True)
class Prompt:
    """Everything an upstream needs to write one answer. None leaves a choice to the upstream.

    `text` is what is sent in place of the messages, to be continued; they are what it was made of.
    """

    model: str
    messages: tuple[PromptMessage, ...]
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    text: str | None = None
    #: tools and what else chat completions take, in their shape; not for a text
    options: Mapping[str, Any] = field(default_factory=dict)
    #: parameters beside OpenAI's own, passed on as they are
    extra: Mapping[str, Any] = field(default_factory=dict)
    #: its messages are sent as they stand, or not at all
    as_it_came: bool = False
    #: of the request that it is for, so that the upstream's log can be searched for it
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class Finish:
    """The end of an answer that came whole; `usage` is None where the upstream does not say."""

    reason: str = "stop"
    usage: Usage | None = None
    #: who wrote it, where there are several
    by: Named | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class PromptProgress:
    """How many tokens of a prompt were read, of those to be read, before an answer's first piece.

    Those that an upstream has in its cache are not among them.
    """

    read: int
    total: int


#: What an answer is told in.
Piece = str | Part | PromptProgress | Finish


class Upstream(Protocol):
    """Writes answers. Closing the iterator stops the work at once, upstream included."""

    name: str

    def complete(self, prompt: Prompt) -> AsyncIterator[Piece]:
        """Yield the answer piece by piece (none empty, no lone surrogate), then one Finish.

        A Part says what the pieces behind it are; those before the first are text. Before all of
        them an upstream may tell how far it has read the prompt.
        Raises an UpstreamError, before the first piece or after any; nothing else.
        """
        ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Call:
    """A request of OpenAI's API as a client sent it, for an upstream to answer as it is.

    `path` begins behind `/v1`, `/chat/completions` say. `body` is whole where we had to read it,
    else it is streamed and never held.
    """

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | AsyncIterator[bytes] = b""
    #: the model that the body names, where it names one
    model: str | None = None
    #: the moment of the loop's clock at which it has to be over; None where its bounds say so
    deadline: float | None = None
    #: usage that was asked for and is not told is counted in its place
    counted: bool = True
    #: whose place and tokens it takes; None where a turn has them already, or it is our own
    owner: str | None = None
    #: the one upstream that has what the call names; None where any will do
    upstream: str | None = None
    #: the path stands beside `/v1`, and not below it
    beside: bool = False
    #: a server that still loads its model is waited for
    waits: bool = False
    #: the texts of prompts that are tokens and to be echoed, for an upstream that does not
    echoed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reply:
    """What an upstream answered: its status, the headers fit to be passed on, its bytes."""

    status: int
    headers: Mapping[str, str]
    #: of a completion's stream each piece is one whole event, or several; see sse.events_of
    body: AsyncIterator[bytes]
    #: whose answer it is, where there are several
    upstream: str = ""
    #: what the upstream complained of so far, cleaned, in its own words
    complaints: list[Complaint] = field(default_factory=list)


class OpenAISpeaker(Protocol):
    """An upstream that answers calls of OpenAI's API in OpenAI's own words."""

    name: str

    def call(self, call: Call) -> AbstractAsyncContextManager[Reply]:
        """Send a call and yield the reply as soon as its head is there.

        Leaving the context closes the upstream's connection at once, its body unread or not.
        Raises UpstreamFailedError or UpstreamTimeoutError where no reply can be had; a reply with
        an error status is a Reply.
        """
        ...

    async def models(self) -> Sequence[Mapping[str, Any]]:
        """Return the models that it serves, as OpenAI's model objects."""
        ...

    async def close(self) -> None: ...


class Models(Protocol):
    """Knows what is asked for a model, and asks it about it. Never raises."""

    def named(self, model: str) -> Named:
        """Return who is asked first for a model, and under which name."""
        ...

    async def info(self, model: str) -> ModelInfo:
        """Return what is known of it there; an upstream that does not say is not waited for."""
        ...

    async def count(self, info: ModelInfo, messages: Sequence[PromptMessage]) -> int | None:
        """Return the tokens of a whole prompt as the upstream counts; None where it does not."""
        ...


class ModelTable:
    """Knows models by their names alone: where nobody can be asked."""

    def named(self, model: str) -> Named:
        """Return the name as it is given."""
        return Named("", model)

    async def info(self, model: str) -> ModelInfo:
        """Return the row of the table of models, if there is one."""
        return ModelInfo(self.named(model))

    async def count(self, info: ModelInfo, messages: Sequence[PromptMessage]) -> int | None:
        """Count nothing."""
        return None


class UpstreamError(Exception):
    """An answer could not be had; the text is fit for the caller to read (no key, no address)."""


@dataclass
class UpstreamRejectedError(UpstreamError):
    """The upstream refused the request, with this 4xx status and its own code."""

    message: str
    status: int
    code: str | None = None
    param: str | None = None

    def __str__(self) -> str:
        return self.message


@dataclass
class UpstreamOverflowError(UpstreamRejectedError):
    """The prompt was too long; of how many tokens, and for what window, where it was said."""

    tokens: int | None = None
    window: int | None = None
    #: who refused it, where there are several
    by: Named | None = None

    def __str__(self) -> str:
        return self.message


@dataclass
class UpstreamRateLimitedError(UpstreamError):
    """The upstream asks to wait; `retry_after` is in seconds where it said how long."""

    message: str
    retry_after: float | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.message


class UpstreamQuotaError(UpstreamRateLimitedError):
    """The upstream's quota is spent: asking it again does not help, asking another one may."""


class UpstreamFailedError(UpstreamError):
    """The upstream broke: a 5xx, no connection, a cut or unreadable stream."""


class UpstreamBrokeError(UpstreamFailedError):
    """A failure that may pass; `retry_after` is in seconds where the upstream said how long."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class UpstreamLoadingError(UpstreamBrokeError):
    """The upstream is there, and still loads its model."""


class UpstreamTimeoutError(UpstreamError):
    """The upstream did not answer in time."""
