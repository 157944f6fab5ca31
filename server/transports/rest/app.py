"""REST and SSE: parse, one call on the core, render."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Coroutine, Iterator, Sequence
from contextlib import aclosing
from datetime import datetime
from functools import cache, partial
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, FastAPI, Header, Query, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from server import VERSION
from server.core.errors import InvalidRequestError, RefusedError, problem_of
from server.core.rendering import micros
from server.live.news import News
from server.live.turn import Ended, TurnEvent
from server.transports import events as render
from server.transports import lists
from server.transports.http.mount import Mount
from server.transports.http.responses import GONE, JSON, refusal
from server.transports.http.upgrade import WEBSOCKET
from server.transports.rest import errors, sse
from server.transports.rest.described import (
    ALL_STREAM,
    EVENT_STREAM,
    REFUSALS,
    STREAM,
    TURN_OR_EVENTS,
    ConversationId,
    DescribedApp,
    LastEventId,
    TurnId,
    WithProgress,
    ok,
)
from server.transports.rest.pages import Pages
from server.transports.rest.probes import StateRoutes
from server.transports.rest.schemas import (
    AskBody,
    ChangeBody,
    ConversationBody,
    ConversationShape,
    HitShape,
    ListShape,
    MessageShape,
    PreviewBody,
    PreviewShape,
    RegenerateBody,
    TurnShape,
)
from server.transports.rest.state import RestState, behind, core, owner
from server.transports.rest.transfer import IMPORT_PATH, Transfer
from server.transports.status import problem_of_turn
from server.upstream.port import UpstreamError
from storage.model import Order, Role, Turn
from storage.model import Query as SearchQuery
from storage.port import StoreError

T = TypeVar("T")

_NO_WEIGHT = re.compile(r"q=0(\.0*)?")

#: What needs no key, by the path that was really asked for (never by a URL built from Host).
PUBLIC = frozenset(
    {"/", "/healthz", "/health", "/readyz", "/docs", "/openapi.json", "/favicon.ico", WEBSOCKET}
)
PUBLIC_FOLDER = "/web/"
#: To follow, to stop, and to look at the numbers does not count against the rate limit.
_FREE = re.compile(r"/metrics|/turns/[^/]+/(events|cancel)|/conversations/[^/]+/events|/events")


def has(path: str) -> bool:
    """Say whether a route of ours begins as this path does."""
    first = path.strip("/").partition("/")[0]
    return first in {path.split("/")[1] for path in _paths()}


def mount(state: RestState) -> Mount:
    """Return REST and the page, for the HTTP port."""
    rest = build()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"]["behind"] = state
        await rest(scope, receive, send)

    return Mount(
        app,
        "rest",
        lambda error: refusal(problem_of(error)),
        streams_past=IMPORT_PATH.__eq__,
        public=lambda path: path in PUBLIC or path.startswith(PUBLIC_FOLDER),
        free=lambda path: _FREE.fullmatch(path) is not None,
    )


@cache
def _routers() -> tuple[APIRouter, ...]:
    return Transfer().router, _Routes().router, StateRoutes().router, Pages().router


def _paths() -> Iterator[str]:
    for router in _routers():
        yield from (route.path for route in router.routes if isinstance(route, Route))


@cache
def build() -> FastAPI:
    """Return the application with every route of this wire.

    It has no state, and takes longer to make than anything else at a start: so there is one. What
    is behind a request is in the request's own state (see `state.py`).
    """
    app = DescribedApp(
        title="Trialogue",
        summary="One conversation, every wire.",
        version=VERSION,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,  # pages.py has it, with what is described beside
        redirect_slashes=False,  # `no_route` does: Starlette's lead out of a proxy's path
        # Spans and counts are ours, at the gate, where they cover every wire.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    *ours, pages = _routers()
    for router in ours:
        app.include_router(router, responses=REFUSALS)
    app.include_router(pages)
    routes = [route for router in _routers() for route in router.routes]
    app.add_exception_handler(RequestValidationError, errors.invalid)
    app.add_exception_handler(HTTPException, partial(errors.no_route, routes))
    for kind in (RefusedError, StoreError, UpstreamError, Exception):
        app.add_exception_handler(kind, errors.refused)
    return app


class _Routes:
    """The routes, each a parse, one call and a rendering."""

    def __init__(self) -> None:
        self.router = router = APIRouter(default_response_class=JSON)
        post, get = router.post, router.get
        post("/ask/{conversation_id}", response_model=None, responses=TURN_OR_EVENTS)(self.ask)
        get("/turns/{turn_id}", response_model=None, responses=ok(TurnShape))(self.turn)
        post("/turns/{turn_id}/cancel", response_model=None, responses=ok(TurnShape))(self.cancel)
        # A class without a media type: the description has only what `responses` says.
        stream = partial(get, response_model=None, response_class=Response, responses=STREAM)
        stream("/turns/{turn_id}/events")(self.follow)
        post(
            "/conversations",
            response_model=None,
            status_code=201,
            responses={201: {"model": ConversationShape}},
        )(self.create)
        get("/conversations", response_model=None, responses=ok(ListShape[ConversationShape]))(
            self.page
        )
        one = "/conversations/{conversation_id}"
        get(one, response_model=None, responses=ok(ConversationShape))(self.read)
        router.patch(one, response_model=None, responses=ok(ConversationShape))(self.change)
        router.delete(one, response_model=None, status_code=204)(self.delete)
        get(f"{one}/messages", response_model=None, responses=ok(ListShape[MessageShape]))(
            self.messages
        )
        stream(f"{one}/events")(self.watch)
        stream("/events", responses=ALL_STREAM)(self.watch_all)
        router.delete(f"{one}/queue/{{waiting_id}}", response_model=None, status_code=204)(
            self.withdraw
        )
        post(f"{one}/regenerate", response_model=None, responses=TURN_OR_EVENTS)(self.regenerate)
        post(f"{one}/context", response_model=None, responses=ok(PreviewShape))(self.preview)
        get("/search", response_model=None, responses=ok(ListShape[HitShape]))(self.search)

    async def ask(
        self,
        request: Request,
        conversation_id: ConversationId,
        body: AskBody,
        idempotency_key: Annotated[str | None, Header()] = None,
    ) -> Response:
        """Ask a question; the conversation is made if it is not there. Answers the Turn, or SSE."""
        if body.prompt is not None and body.content is not None:
            raise InvalidRequestError("prompt and content exclude each other.", "content")
        turn = await core(request).ask(owner(request), conversation_id, body.ask(idempotency_key))
        return await self._answer(request, turn, body)

    async def regenerate(
        self, request: Request, conversation_id: ConversationId, body: RegenerateBody | None = None
    ) -> Response:
        """Write another answer to the same question: a sibling of the one there is."""
        body = body or RegenerateBody()
        turn = await core(request).regenerate(owner(request), conversation_id, body.again())
        return await self._answer(request, turn, body)

    async def turn(self, request: Request, turn_id: TurnId) -> Response:
        """Read a turn; a running one shows its answer so far."""
        return JSON(render.turn(await core(request).turn(owner(request), turn_id)))

    async def cancel(self, request: Request, turn_id: TurnId) -> Response:
        """Stop the writing of an answer; cancelling an ended turn is no error."""
        return JSON(render.turn(await core(request).cancel(owner(request), turn_id)))

    async def follow(
        self,
        request: Request,
        turn_id: TurnId,
        after: Annotated[int | None, Query(ge=0, lt=1 << 63)] = None,
        last_event_id: LastEventId = None,
        *,
        progress: WithProgress = False,
    ) -> Response:
        """Follow a turn from a cursor by SSE, live or long after it ended."""
        if after is None and last_event_id:
            seen, after = sse.position(last_event_id)
            if seen != turn_id:
                raise InvalidRequestError("Last-Event-ID is of another turn.", "last-event-id")
        await core(request).turn(owner(request), turn_id)
        events = core(request).follow(owner(request), turn_id, after=after or 0, progress=progress)
        return _stream(request, events)

    async def create(self, request: Request, body: ConversationBody | None = None) -> Response:
        """Make an empty conversation."""
        body = body or ConversationBody()
        made = await core(request).create(
            owner(request),
            id=body.id,
            title=body.title or "",
            system_prompt=body.system_prompt,
            model=body.model,
            metadata=body.metadata,
        )
        return JSON(render.conversation(made), status_code=201)

    async def page(
        self,
        request: Request,
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
        after: str | None = None,
        q: str | None = None,
        order: Annotated[Order, Query(description="activity: pinned first")] = Order.CREATED,
    ) -> Response:
        """List conversations, newest first, or those first whose last message is the newest."""
        page = await core(request).page(owner(request), limit=limit, after=after, q=q, order=order)
        return JSON(lists.conversations(page))

    async def read(self, request: Request, conversation_id: ConversationId) -> Response:
        """Read a conversation."""
        return JSON(render.conversation(await core(request).get(owner(request), conversation_id)))

    async def change(
        self, request: Request, conversation_id: ConversationId, body: ChangeBody
    ) -> Response:
        """Change title, system prompt, model, metadata, head, truncation or pin."""
        changes = body.model_dump(exclude_unset=True)
        changed = await core(request).update(owner(request), conversation_id, changes)
        return JSON(render.conversation(changed))

    async def delete(self, request: Request, conversation_id: ConversationId) -> Response:
        """Delete a conversation and all that it holds."""
        await core(request).delete(owner(request), conversation_id)
        return Response(status_code=204)

    async def messages(
        self,
        request: Request,
        conversation_id: ConversationId,
        leaf: str | None = None,
        limit: Annotated[int, Query(ge=1, le=100)] = 100,
        before: str | None = None,
    ) -> Response:
        """List one branch, oldest first; default: the branch that ends in the head."""
        page = await core(request).messages(
            owner(request), conversation_id, leaf=leaf, limit=limit, before=before
        )
        return JSON(lists.messages(page))

    async def watch(
        self,
        request: Request,
        conversation_id: ConversationId,
        last_event_id: LastEventId = None,
        *,
        progress: WithProgress = False,
    ) -> Response:
        """Follow every turn of a conversation by SSE, whoever asks it, from now."""
        asker = owner(request)
        after = sse.position(last_event_id) if last_event_id else None
        await core(request).get(asker, conversation_id)
        if after is not None:
            seen = await core(request).turn(asker, after[0])
            if seen.conversation_id != conversation_id:
                raise InvalidRequestError("Last-Event-ID is of another place.", "last-event-id")
        events = core(request).watch(asker, conversation_id, after=after, progress=progress)
        return _stream(request, events)

    async def watch_all(self, request: Request) -> Response:
        """Follow by SSE what becomes of all conversations: theirs, turns without text, queues."""
        return _stream(request, core(request).watch_all(owner(request)), resumable=False)

    async def withdraw(
        self, request: Request, conversation_id: ConversationId, waiting_id: str
    ) -> Response:
        """Take back a question that waits in line; its asker gets `conversation_busy`."""
        await core(request).withdraw(owner(request), conversation_id, waiting_id)
        return Response(status_code=204)

    async def preview(
        self, request: Request, conversation_id: ConversationId, body: PreviewBody
    ) -> Response:
        """Show what would be sent for a prompt: messages kept and trimmed, tokens. Asks nobody."""
        found = await core(request).preview(owner(request), conversation_id, body.ask(None))
        return JSON(render.preview(found))

    async def search(
        self,
        request: Request,
        q: Annotated[str, Query(description="all of these words, or pieces of words")],
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
        after: str | None = None,
        role: Role | None = None,
        conversation_id: str | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
    ) -> Response:
        """Search messages and titles, best first."""
        since, until = micros(created_after), micros(created_before)
        query = SearchQuery(q, role, conversation_id, since, until)
        page = await core(request).search(owner(request), query, limit=limit, after=after)
        return JSON(lists.hits(page))

    async def _answer(
        self, request: Request, turn: Turn, body: AskBody | RegenerateBody
    ) -> Response:
        events = core(request).follow(
            owner(request), turn.id, on_leave=body.leave, progress=bool(body.progress)
        )
        if body.stream or _takes_events(request):
            return _stream(request, events)
        ended = await _unless_gone(request, _end(events))
        if ended is None:
            return Response(status_code=GONE)  # nobody is left to read it
        if (problem := problem_of_turn(ended)) is not None:
            return refusal(problem)
        return JSON(render.turn(ended))


def _stream(
    request: Request, events: AsyncGenerator[News, None], *, resumable: bool = True
) -> Response:
    return sse.EventStreamResponse(events, behind(request).keep_alive, resumable=resumable)


async def _end(events: AsyncGenerator[TurnEvent, None]) -> Turn:
    async with aclosing(events):
        async for event in events:
            if isinstance(event, Ended):
                return event.turn
    raise AssertionError("a turn's events end with its end")


async def _unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T | None:
    """Wait for `work`, but no longer than the client does: None, where that has left."""
    working = asyncio.create_task(work)
    leaving = asyncio.create_task(_disconnect(request))
    try:
        await asyncio.wait([working, leaving], return_when=asyncio.FIRST_COMPLETED)
    finally:
        leaving.cancel()
        if not working.done():
            working.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)
    return None if working.cancelled() else working.result()


async def _disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _takes_events(request: Request) -> bool:
    """Say whether events are named among what a client takes (RFC 9110, 12.5.1)."""
    ranges = ",".join(request.headers.getlist("accept")).lower().split(",")
    named = (one.split(";") for one in ranges)
    return any(kind.strip() == EVENT_STREAM and not _is_refused(how) for kind, *how in named)


def _is_refused(how: Sequence[str]) -> bool:
    """Say whether a media range's parameters give it no weight."""
    return any(_NO_WEIGHT.fullmatch(one.strip()) for one in how)
