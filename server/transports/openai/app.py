"""OpenAI's API under `/v1`: which request goes where, and how it is refused."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from starlette.types import Receive, Scope, Send

from server.config.limits import WebsocketLimits
from server.core.access.auth import Auth
from server.core.completions import StoredCompletions, UpstreamObjects
from server.core.conversations import Conversations
from server.core.errors import DrainingError
from server.transports.http.mount import Mount
from server.transports.openai.azure import AZURE, AzurePaths, azure_streams_past
from server.transports.openai.chat.conversation import Joined
from server.transports.openai.chat.routes import ChatRoutes
from server.transports.openai.chat.stored import Stored
from server.transports.openai.chat.templates import Shaped
from server.transports.openai.completions.routes import CompletionRoutes
from server.transports.openai.errors import (
    ClientLeftError,
    note,
    refusal,
    unknown_url,
    wrong_method,
)
from server.transports.openai.exchange import Exchange
from server.transports.openai.legacy import Legacy
from server.transports.openai.models import Models
from server.transports.openai.passthrough import PassthroughRoutes
from server.transports.openai.paths import PREFIX, streams_past
from server.transports.openai.responses.compaction import CompactionRoute
from server.transports.openai.responses.conversations import ConversationRoutes
from server.transports.openai.responses.creation import Creation
from server.transports.openai.responses.finding import Finding
from server.transports.openai.responses.handing_on import HandingOn
from server.transports.openai.responses.routes import ResponseRoutes
from server.transports.openai.responses.socket_session import Shared
from server.transports.openai.responses.websocket_mode import Staying, WebsocketMode
from server.transports.openai.stored_objects.ownership import Ownership

#: Seconds that those who are still answered have at the end, to read it or to be told of it.
_LAST_WORDS = 0.2
_DRAINING = "The server is shutting down. Please try again in a few seconds."

Endpoint = Callable[[Exchange], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Route:
    """What each method does at a path; `path` is what the log shows."""

    path: str
    endpoints: dict[str, Endpoint]
    #: what its body names is kept here, and not at an upstream
    own: bool = False

    @property
    def pattern(self) -> re.Pattern[str]:
        return re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>.+)", self.path.removeprefix(PREFIX)))


class Facade:
    """An ASGI application; its routes are tried in order, and what none has is the upstream's."""

    def __init__(
        self,
        conversations: Conversations,
        completions: StoredCompletions,
        objects: UpstreamObjects,
        *,
        default_model: str,
        whole_bytes: int,
    ) -> None:
        self._conversations = conversations
        self._ownership = Ownership(objects)
        plain = PassthroughRoutes(conversations.passthrough, self._ownership, whole_bytes)
        finding = Finding(conversations, self._ownership, whole_bytes)
        self._creation = Creation(conversations, finding)
        self._whole_bytes = whole_bytes
        stateful = _stateful(conversations, plain, finding, self._creation)
        self.routes = _routes(conversations, completions, plain, stateful, default_model)
        self._fixed = {route.path.removeprefix(PREFIX): route for route in self.routes}
        self._patterns = [(route.pattern, route) for route in self.routes if "{" in route.path]
        self._anything = Route("/v1/*", {})
        self._pass = plain.anything
        #: those that are being answered
        self.exchanges: dict[asyncio.Task[object], Exchange] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(scope, receive, send)
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - we are in one
        self.exchanges[task] = exchange
        try:
            async with exchange.cancelled_on_disconnect():
                await self._serve(scope, exchange)
        except ClientLeftError:
            return
        except Exception as error:
            if exchange.started:
                raise  # too late for an answer: the cut shows that what was sent is not whole
            note(error, scope["state"]["request_id"])
            await exchange.refuse(error)
        finally:
            del self.exchanges[task]

    def mounts(self) -> tuple[Mount, Mount]:
        """Return it for the HTTP port, under its own paths and under Azure's."""
        return (
            Mount(self, "openai", refusal, PREFIX, streams_past),
            Mount(AzurePaths(self), "openai", refusal, AZURE, azure_streams_past),
        )

    def websocket_mode(
        self, auth: Auth, limits: WebsocketLimits, staying: Staying, page_port: int
    ) -> WebsocketMode:
        """Return what websockets at its paths are served by; see WebsocketMode."""
        requests = self._conversations.requests
        shared = Shared(self._creation, requests, auth, limits, self._whole_bytes)
        return WebsocketMode(self._conversations, shared, staying, page_port)

    async def close(self) -> None:
        """End what is still being answered after a drain: everybody is told."""
        if self.exchanges:  # some are just writing the end of a turn
            await asyncio.wait(set(self.exchanges), timeout=_LAST_WORDS)
        for exchange in self.exchanges.values():
            exchange.revoke(DrainingError(_DRAINING))
        if self.exchanges:
            await asyncio.wait(set(self.exchanges), timeout=_LAST_WORDS)

    async def _serve(self, scope: Scope, exchange: Exchange) -> None:
        if self._conversations.draining:
            raise DrainingError(_DRAINING)
        scope["route"], endpoint = route, _ = self._find(exchange)
        if endpoint != self._pass and not route.own:
            exchange.body.guard = partial(self._ownership.guarded, exchange.request)
        await endpoint(exchange)

    def _find(self, exchange: Exchange) -> tuple[Route, Endpoint]:
        route = self._fixed.get(exchange.request.path) or self._patterned(exchange)
        if route is None:
            if not exchange.request.path or {".", ".."} & set(exchange.request.path.split("/")):
                raise unknown_url(exchange.request.method, f"{PREFIX}{exchange.request.path}")
            return self._anything, self._pass
        method = "GET" if exchange.request.method == "HEAD" else exchange.request.method
        if method not in route.endpoints:
            allowed = ", ".join(route.endpoints)
            raise wrong_method(exchange.request.method, f"{PREFIX}{exchange.request.path}", allowed)
        return route, route.endpoints[method]

    def _patterned(self, exchange: Exchange) -> Route | None:
        for pattern, route in self._patterns:
            if (match := pattern.fullmatch(exchange.request.path)) is not None:
                exchange.request.names = match.groupdict()
                return route
        return None


def _routes(
    conversations: Conversations,
    completions: StoredCompletions,
    plain: PassthroughRoutes,
    stateful: tuple[Route, ...],
    default_model: str,
) -> tuple[Route, ...]:
    """Return the table of what is not simply handed on."""
    passthrough = conversations.passthrough
    stored = Stored(passthrough, completions)
    shaped = Shaped(passthrough, conversations)
    joined = Joined(passthrough, conversations, stored)
    chat = ChatRoutes(passthrough, stored, shaped, joined)
    of_text = CompletionRoutes(passthrough, default_model, shaped)
    models = Models(passthrough)
    return (
        Route("/v1/chat/completions", {"POST": chat.create, "GET": stored.list}),
        Route("/v1/chat/completions/input_tokens", {"POST": plain.anything}),
        Route("/v1/chat/completions/{id}/messages", {"GET": stored.messages}),
        Route(
            "/v1/chat/completions/{id}",
            {"GET": stored.read, "POST": stored.change, "DELETE": stored.delete},
        ),
        *stateful,
        Route("/v1/completions", {"POST": of_text.create}),
        Route("/v1/models", {"GET": models.list}),
        Route("/v1/models/{id}", {"GET": models.read, "DELETE": plain.anything}),
        Route("/v1/embeddings", {"POST": plain.embed}),
        Route("/v1/moderations", {"POST": plain.moderate}),
        *_of_old(chat, of_text, models, plain, Legacy(passthrough, of_text, default_model)),
    )


def _of_old(
    chat: ChatRoutes,
    of_text: CompletionRoutes,
    models: Models,
    plain: PassthroughRoutes,
    legacy: Legacy,
) -> tuple[Route, ...]:
    """Return the routes that OpenAI has given up, Azure's, and those of other servers."""
    return (
        Route("/v1/engines", {"GET": models.list_engines}),
        Route("/v1/engines/{id}/chat/completions", {"POST": chat.create_of_old}),
        Route("/v1/engines/{id}/completions", {"POST": of_text.create_of_old}),
        Route("/v1/engines/{id}/generate", {"POST": of_text.generate}),
        Route("/v1/engines/{id}/embeddings", {"POST": plain.embed}),
        Route("/v1/engines/{id}", {"GET": models.read_engine}),
        Route("/v1/deployments/{id}/chat/completions", {"POST": chat.create_deployed}),
        Route("/v1/deployments/{id}/completions", {"POST": of_text.create_of_old}),
        Route("/v1/deployments/{id}/embeddings", {"POST": plain.embed}),
        Route("/v1/text_completion", {"POST": of_text.create_of_old}),
        Route("/v1/edits", {"POST": legacy.edit}),
        Route("/v1/internal/logits", {"POST": legacy.logits}),
    )


def _stateful(
    conversations: Conversations, plain: PassthroughRoutes, finding: Finding, creation: Creation
) -> tuple[Route, ...]:
    """Return the routes whose state is ours, whoever answers."""
    handing_on = HandingOn(conversations.passthrough, plain)
    responses = ResponseRoutes(conversations, finding, creation, handing_on)
    compaction = CompactionRoute(conversations, finding)
    own = ConversationRoutes(conversations, finding)
    table: tuple[tuple[str, dict[str, Endpoint]], ...] = (
        ("/v1/responses", {"POST": responses.create}),
        ("/v1/responses/input_tokens", {"POST": responses.input_tokens}),
        ("/v1/responses/compact", {"POST": compaction.create}),
        ("/v1/responses/{id}/cancel", {"POST": responses.cancel}),
        ("/v1/responses/{id}/input_items", {"GET": responses.input_items}),
        ("/v1/responses/{id}", {"GET": responses.read, "DELETE": responses.delete}),
        ("/v1/conversations", {"POST": own.create}),
        ("/v1/conversations/{id}/items", {"GET": own.list_items, "POST": own.add_items}),
        (
            "/v1/conversations/{id}/items/{item}",
            {"GET": own.read_item, "DELETE": own.delete_item},
        ),
        (
            "/v1/conversations/{id}",
            {"GET": own.read, "POST": own.change, "DELETE": own.delete},
        ),
    )
    return tuple(Route(path, endpoints, own=True) for path, endpoints in table)
