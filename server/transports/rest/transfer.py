"""Export and import over HTTP: both streamed, neither ever held."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractContextManager, aclosing
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from starlette.requests import ClientDisconnect
from starlette.responses import Response, StreamingResponse

from server.core.access.revocation import GuardedReader
from server.transports.http.responses import GONE, JSON
from server.transports.rest.schemas import ReportShape
from server.transports.rest.state import core, owner

#: Where a body may be as long as an upload, since it goes by without being held.
IMPORT_PATH = "/conversations/import"

Format = Literal["json", "jsonl", "markdown"]
_TYPES = {"json": "application/json", "jsonl": "application/jsonl", "markdown": "text/markdown"}
_ENDINGS = {"json": "json", "jsonl": "jsonl", "markdown": "md"}
_FILE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The file",
        "content": {
            kind: {"schema": {"type": "object" if name == "json" else "string"}}
            for name, kind in _TYPES.items()
        },
    }
}
_REPORT: dict[int | str, dict[str, Any]] = {
    200: {"description": "What became of the conversations of the file", "model": ReportShape}
}
_UPLOAD = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"type": ["object", "array"]}}},
    }
}


class Transfer:
    """The routes that carry whole conversations."""

    def __init__(self) -> None:
        self.router = router = APIRouter(default_response_class=JSON)
        # Before the routes of one conversation: "import" is no conversation's id here.
        router.post(IMPORT_PATH, response_model=None, responses=_REPORT, openapi_extra=_UPLOAD)(
            self.take
        )
        router.get("/conversations/{conversation_id}/export", response_model=None, responses=_FILE)(
            self.one
        )
        router.get("/export", response_model=None, responses=_FILE)(self.all)

    async def one(
        self,
        request: Request,
        conversation_id: str,
        kind: Annotated[Format, Query(alias="format")] = "json",
    ) -> Response:
        """Export a conversation: JSON with all of it, JSONL for fine-tuning, Markdown to read."""
        pieces = core(request).export(owner(request), kind, conversation_id)
        return await _file(request, pieces, kind)

    async def all(
        self, request: Request, kind: Annotated[Format, Query(alias="format")] = "json"
    ) -> Response:
        """Export all of the caller's conversations."""
        return await _file(request, core(request).export(owner(request), kind), kind)

    async def take(self, request: Request) -> Response:
        """Import a file of ours, ChatGPT's conversations.json, or one of EasyBackend's.

        Importing a file twice changes nothing; a bad conversation does not stop the others.
        """
        try:
            report = await core(request).import_(owner(request), _body(request))
        except ClientDisconnect:
            return Response(status_code=GONE)  # what was kept stays, and nobody is left to tell
        return JSON(report.rendered())


async def _file(request: Request, pieces: AsyncGenerator[bytes, None], kind: str) -> Response:
    """Stream a file; what is refused is refused before its first byte."""
    first = await anext(pieces, b"")
    return StreamingResponse(
        _behind(first, pieces, request.state.reading),
        media_type=_TYPES[kind],
        headers={"content-disposition": f'attachment; filename="trialogue.{_ENDINGS[kind]}"'},
    )


async def _behind(
    first: bytes,
    pieces: AsyncGenerator[bytes, None],
    reading: Callable[[], AbstractContextManager[GuardedReader]],
) -> AsyncIterator[bytes]:
    async with aclosing(pieces):
        with reading() as reader:
            yield first
            async for piece in reader.each(pieces):
                yield piece


async def _body(request: Request) -> AsyncIterator[bytes]:
    async for piece in request.stream():
        if piece:
            yield piece
