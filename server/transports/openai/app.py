"""OpenAI's API under `/v1`: which request goes where, and how it is refused."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

import structlog
from starlette.types import Receive, Scope, Send

from server.core.conversations import Conversations
from server.core.errors import Code, DrainingError, code_of
from server.openai_protocol.errors import RefusedError
from server.transports.openai.chat.conversation import Joined
from server.transports.openai.chat.routes import Chat
from server.transports.openai.chat.stored import Stored
from server.transports.openai.chat.templates import Shaped
from server.transports.openai.completions.routes import Completions
from server.transports.openai.errors import (
    ClientLeftError,
    PassedOnError,
    unknown_url,
    wrong_method,
)
from server.transports.openai.exchange import Visit
from server.transports.openai.legacy import Legacy
from server.transports.openai.models import Models
from server.transports.openai.passthrough import Plain
from server.transports.openai.paths import PREFIX
from server.transports.openai.stored_objects.ownership import Ownership
from server.upstream.pool import Upstreams

log = structlog.get_logger("trialogue.openai")

#: Seconds that those who are still answered have at the end, to read it or to be told of it.
_LAST_WORDS = 0.2
_DRAINING = "The server is shutting down. Please try again in a few seconds."

Endpoint = Callable[[Visit], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Route:
    """What each method does at a path; `path` is what the log shows."""

    path: str
    endpoints: dict[str, Endpoint]

    @property
    def pattern(self) -> re.Pattern[str]:
        return re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>.+)", self.path.removeprefix(PREFIX)))


class Facade:
    """An ASGI application; its routes are tried in order, and what none has is the upstream's."""

    def __init__(
        self,
        upstreams: Upstreams,
        conversations: Conversations,
        *,
        default_model: str,
        whole_bytes: int,
    ) -> None:
        self._conversations = conversations
        self._ownership = Ownership(conversations.objects)
        plain = Plain(upstreams, self._ownership, whole_bytes)
        self.routes = _routes(upstreams, conversations, plain, default_model)
        self._fixed = {route.path.removeprefix(PREFIX): route for route in self.routes}
        self._patterns = [(route.pattern, route) for route in self.routes if "{" in route.path]
        self._anything = Route("/v1/*", {})
        self._pass = plain.anything
        #: those that are being answered
        self.visits: dict[asyncio.Task[object], Visit] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        spending, room = self._conversations.spending, self._conversations.room
        visit = Visit(scope, receive, send, room, spending if spending.limited else None)
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - we are in one
        self.visits[task] = visit
        try:
            async with visit.while_there():
                await self._serve(scope, visit)
        except ClientLeftError:
            return
        except Exception as error:
            if visit.started:
                raise  # too late for an answer: the cut shows that what was sent is not whole
            if not isinstance(error, RefusedError | PassedOnError):
                _note(error, scope["state"]["request_id"])
            await visit.refuse(error)
        finally:
            del self.visits[task]

    async def close(self) -> None:
        """End what is still being answered after a drain: everybody is told."""
        if self.visits:  # some are just writing the end of a turn
            await asyncio.wait(set(self.visits), timeout=_LAST_WORDS)
        for visit in self.visits.values():
            visit.turn_out(DrainingError(_DRAINING))
        if self.visits:
            await asyncio.wait(set(self.visits), timeout=_LAST_WORDS)

    async def _serve(self, scope: Scope, visit: Visit) -> None:
        if self._conversations.draining:
            raise DrainingError(_DRAINING)
        scope["route"], endpoint = self._find(visit)
        if endpoint != self._pass:
            visit.guard = partial(self._ownership.guarded, visit)
        await endpoint(visit)

    def _find(self, visit: Visit) -> tuple[Route, Endpoint]:
        route = self._fixed.get(visit.path) or self._patterned(visit)
        if route is None:
            if not visit.path or {".", ".."} & set(visit.path.split("/")):
                raise unknown_url(visit.method, f"{PREFIX}{visit.path}")
            return self._anything, self._pass
        method = "GET" if visit.method == "HEAD" else visit.method
        if method not in route.endpoints:
            allowed = ", ".join(route.endpoints)
            raise wrong_method(visit.method, f"{PREFIX}{visit.path}", allowed)
        return route, route.endpoints[method]

    def _patterned(self, visit: Visit) -> Route | None:
        for pattern, route in self._patterns:
            if (match := pattern.fullmatch(visit.path)) is not None:
                visit.names = match.groupdict()
                return route
        return None


def _routes(
    upstreams: Upstreams, conversations: Conversations, plain: Plain, default_model: str
) -> tuple[Route, ...]:
    """Return the table of what is not simply handed on."""
    stored = Stored(upstreams, conversations.completions)
    shaped = Shaped(upstreams, conversations)
    joined = Joined(upstreams, conversations, stored)
    chat = Chat(upstreams, stored, shaped, joined)
    completions = Completions(upstreams, default_model, shaped)
    models = Models(upstreams)
    legacy = Legacy(upstreams, completions, default_model)
    return (
        Route("/v1/chat/completions", {"POST": chat.create, "GET": stored.list}),
        Route("/v1/chat/completions/{id}/messages", {"GET": stored.messages}),
        Route(
            "/v1/chat/completions/{id}",
            {"GET": stored.read, "POST": stored.change, "DELETE": stored.delete},
        ),
        Route("/v1/completions", {"POST": completions.create}),
        Route("/v1/models", {"GET": models.list}),
        Route("/v1/models/{id}", {"GET": models.read, "DELETE": plain.anything}),
        Route("/v1/embeddings", {"POST": plain.embed}),
        Route("/v1/moderations", {"POST": plain.moderate}),
        Route("/v1/engines", {"GET": models.list_engines}),
        Route("/v1/engines/{id}/chat/completions", {"POST": chat.create_of_old}),
        Route("/v1/engines/{id}/completions", {"POST": completions.create_of_old}),
        Route("/v1/engines/{id}/generate", {"POST": completions.generate}),
        Route("/v1/engines/{id}/embeddings", {"POST": plain.embed}),
        Route("/v1/engines/{id}", {"GET": models.read_engine}),
        Route("/v1/text_completion", {"POST": completions.create_of_old}),
        Route("/v1/edits", {"POST": legacy.edit}),
        Route("/v1/internal/logits", {"POST": legacy.logits}),
    )


def _note(error: Exception, request_id: str) -> None:
    """Log what is our fault; the text of an upstream's error may quote a prompt."""
    if code_of(error) is Code.INTERNAL:
        log.exception("request broke", request_id=request_id)
