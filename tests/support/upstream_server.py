"""A scripted OpenAI-compatible upstream on a real socket, for tests."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from types import TracebackType
from typing import Any

from tests.support.upstream_script import Behaviour, Exchange, Request, document, echo, fail


class ScriptedUpstream:
    """Serve what a test has scripted, one behaviour for each POST, in order; then echo.

    Use it as a context manager; it listens on a free port of 127.0.0.1::

        from tests.support.upstream_script import fail, say

        async with ScriptedUpstream() as upstream:
            gate = asyncio.Event()
            upstream.script(say("Hel", gate, "lo"), fail(500), say("good again"))
            client = asking(api_key="k", base_url=upstream.base_url)
            ...                              # "Hel" arrives, nothing more
            gate.set()                       # now "lo", the usage if asked for, and [DONE]
            request = await upstream.request(0)      # waits until it has come
            request.body["messages"], request.headers["authorization"]
            await request.gone.wait()        # the client hung up before the end
            upstream.disconnects[0]          # the same event

    No sleep is needed to step it: put an `asyncio.Event` between pieces and set it when the piece
    before has been seen. Two pieces without an event between them may arrive in one read.

    Behaviours are in `tests.support.upstream_script` (of their `steps`, text is one chunk of the
    answer, bytes go out exactly so as one HTTP chunk, an event is waited for):

    - ``say(*steps, finish="stop", usage=(11, 7), done=True)`` a good answer; without `finish` or
      `done` that part is left out. Unstreamed if the request does not ask for a stream.
    - ``cut(*steps)`` ends in good order, but with neither finish reason nor [DONE]
    - ``reset(*steps)`` ends in a TCP reset; ``truncated(*steps)`` within an HTTP chunk
    - ``stall(*steps)`` falls silent until the client leaves; ``hang()`` before any header
    - ``garbled(*steps)`` ends in a chunk that is no JSON
    - ``complain(*steps, error={...})`` ends in an error object inside the stream
    - ``fail(status, message, code=..., type=..., headers={...}, body=...)`` an error answer
    - ``document(body, status=200, content_type=..., headers={...})`` any body with its length
    - ``comments(*steps, every=0.01)`` then nothing but comments, for ever
    - ``drip(data, every=0.01)`` a stream of these bytes, one by one
    - ``flood(data)`` the same bytes for ever, as fast as the client takes them
    - ``wire(*steps)`` raw bytes on the socket, status line and all, then the end of the connection

    A behaviour of one's own is any ``async def behave(exchange: Exchange) -> None``.
    ``GET /v1/models`` is always answered, and takes nothing from the script.
    """

    def __init__(self, *, models: tuple[str, ...] = ("gpt-4o-mini",)) -> None:
        self.requests: list[Request] = []
        #: what a POST gets when the script is over
        self.otherwise: Behaviour = echo
        #: what is said of a model that is not there
        self.unknown_model = fail(404, "no such model", code="model_not_found")
        #: what is said in the place of its list of models
        self.listing: Behaviour | None = None
        self._models = models
        self._script: deque[Behaviour] = deque()
        self._arrival = asyncio.Condition()
        self._connections: set[asyncio.Task[None]] = set()
        self._count = 0
        self._server: asyncio.Server | None = None
        self.port = 0

    async def __aenter__(self) -> ScriptedUpstream:
        self._server = await asyncio.start_server(
            self._converse,
            "127.0.0.1",
            0,
            # a crowd that comes at once is not to be dropped: each would try again a second later
            backlog=4096,
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await self._server.wait_closed()

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._connections)

    @property
    def disconnects(self) -> list[asyncio.Event]:
        """For each request an event that is set if the client hung up before its answer's end."""
        return [request.gone for request in self.requests]

    def refuse(self) -> None:
        """Take no more connections; those that are open stay."""
        assert self._server is not None
        self._server.close()

    def script(self, *behaviours: Behaviour) -> None:
        """Queue what the next POSTs get."""
        self._script.extend(behaviours)

    async def request(self, number: int = 0) -> Request:
        """Wait for a request by its number, counted from 0."""
        async with self._arrival:
            await self._arrival.wait_for(lambda: len(self.requests) > number)
        return self.requests[number]

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        self._count += 1
        try:
            await self._answer_all(reader, writer, self._count)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            writer.transport.abort()
        finally:
            self._connections.discard(task)
            writer.close()

    async def _answer_all(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int
    ) -> None:
        """Answer request after request; `ahead` is a byte read while watching for a hang-up."""
        ahead = b""
        while not writer.is_closing():
            request = await _receive(reader, ahead, connection)
            async with self._arrival:
                self.requests.append(request)
                self._arrival.notify_all()
            watching = asyncio.create_task(_next_byte(reader))
            answering = asyncio.create_task(self._answer(Exchange(request, writer)))
            try:
                await asyncio.wait({watching, answering}, return_when=asyncio.FIRST_COMPLETED)
                if not answering.done() and not writer.is_closing() and not await watching:
                    raise ConnectionResetError("the client left")
                await answering
                ahead = await watching
            except ConnectionError:
                request.gone.set()
                raise
            finally:
                await _stop(watching, answering)
            if not ahead:
                return

    async def _answer(self, exchange: Exchange) -> None:
        request = exchange.request
        if request.method == "GET" and request.path.startswith("/v1/models"):
            await self._list_models(exchange)
        elif request.method != "POST":
            await fail(404, "no such route")(exchange)
        else:
            behave = self._script.popleft() if self._script else self.otherwise
            await behave(exchange)

    async def _list_models(self, exchange: Exchange) -> None:
        wanted = exchange.request.path.removeprefix("/v1/models").strip("/")
        models = [
            {"id": name, "object": "model", "created": 1_700_000_000, "owned_by": "test"}
            for name in self._models
        ]
        if not wanted and self.listing is not None:
            await self.listing(exchange)
        elif not wanted:
            await document({"object": "list", "data": models})(exchange)
        elif wanted in self._models:
            await document(models[self._models.index(wanted)])(exchange)
        else:
            await self.unknown_model(exchange)


async def _receive(reader: asyncio.StreamReader, ahead: bytes, connection: int) -> Request:
    head = (ahead + await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.split("\r\n")
    method, path, _ = first.split(" ", 2)
    pairs = (line.split(":", 1) for line in lines if line)
    headers = {name.strip().lower(): value.strip() for name, value in pairs}
    if headers.get("transfer-encoding") == "chunked":
        raw = await _read_chunks(reader)
    else:
        raw = await reader.readexactly(int(headers.get("content-length", 0)))
    body = None
    with contextlib.suppress(ValueError):
        body = json.loads(raw)
    return Request(method, path, headers, raw, body, connection)


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while size := int(await reader.readuntil(b"\r\n"), 16):
        body += await reader.readexactly(size)
        await reader.readexactly(2)
    await reader.readuntil(b"\r\n")
    return body


async def _next_byte(reader: asyncio.StreamReader) -> bytes:
    """Wait for the next request's first byte; no byte means that the client has left."""
    try:
        return await reader.read(1)
    except ConnectionError:
        return b""


async def _stop(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
