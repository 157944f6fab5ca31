"""How REST is described to readers of /openapi.json: parameters, streams and refusals."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import FastAPI, Header, Path, Query

from server.transports.rest import operations
from server.transports.rest.schemas import ErrorBody, TurnShape

ConversationId = Annotated[str, Path(description="1 to 128 characters of A-Z a-z 0-9 . _ : ~ -")]
TurnId = Annotated[str, Path()]
WithProgress = Annotated[bool, Query(description="tell turn.progress, too")]
_DATA = {"type": "string", "contentMediaType": "application/json"}
_OF_A_TURN = {
    "type": "object",
    "required": ["event", "id", "data"],
    "properties": {
        "event": {"enum": ["turn.started", "turn.delta", "turn.ended"]},
        "id": {"type": "string", "description": "TURN_ID:CURSOR, for Last-Event-ID"},
        "data": _DATA,
    },
}
_OF_AN_ERROR = {
    "type": "object",
    "description": "the last of a stream that cannot go on, as when its key is revoked",
    "required": ["event", "data"],
    "properties": {
        "event": {"const": "error"},
        "data": {
            **_DATA,
            "contentSchema": {
                "required": ["type", "error"],
                "properties": {
                    "type": {"const": "error"},
                    "error": {"$ref": "#/components/schemas/ErrorShape"},
                },
            },
        },
    },
}
_OF_A_QUEUE = {
    "type": "object",
    "description": "beside the turns of a conversation: who waits there, in order",
    "required": ["event", "data"],
    "properties": {"event": {"enum": ["queue.changed"]}, "data": _DATA},
}
_OF_ALL = {
    "type": "object",
    "required": ["event", "data"],
    "properties": {
        "event": {
            "enum": [
                *("conversation.created", "conversation.updated", "conversation.deleted"),
                *("turn.started", "turn.ended", "queue.changed", "resync"),
            ]
        },
        "data": _DATA,
    },
}
_OF_A_PROMPT = {
    "type": "object",
    "description": "where it is asked for: how far the upstream has read the prompt, in tokens",
    "required": ["event", "data"],
    "properties": {"event": {"enum": ["turn.progress"]}, "data": _DATA},
}
EVENT_STREAM = "text/event-stream"


def _events(*kinds: dict[str, Any]) -> dict[str, Any]:
    """Return what describes a stream of events of these kinds.

    That is OpenAPI 3.2's; readers of 3.1 see a stream of no schema.
    """
    return {EVENT_STREAM: {"itemSchema": {"oneOf": [*kinds, _OF_AN_ERROR]}}}


STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The events, as they come",
        "content": _events(_OF_A_TURN, _OF_A_PROMPT, _OF_A_QUEUE),
    },
    400: {
        "description": "A Last-Event-ID that is not TURN_ID:CURSOR, or is of another turn or place",
        "model": ErrorBody,
    },
}
ALL_STREAM: dict[int | str, dict[str, Any]] = {
    200: {"description": "The events, as they come", "content": _events(_OF_ALL)}
}
LastEventId = Annotated[
    str | None,
    Header(
        alias="Last-Event-ID",
        description="TURN_ID:CURSOR, the id of the last event that was read: it goes on behind it",
    ),
]
TURN_OR_EVENTS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The turn, or its events where a stream is asked for",
        "content": _events(_OF_A_TURN, _OF_A_PROMPT),
        "model": TurnShape,
    }
}
_ERROR = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorBody"}}}
# Named by reference: FastAPI builds a validator for every model of every route, which takes the
# first request half a second.
REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorBody},
    **{
        status: {"description": HTTPStatus(status).phrase, "content": _ERROR}
        for status in (401, 403, 404, 409, 413, 422, 429, 500, 502, 503, 504)
    },
    "4XX": {"description": "The upstream refused, with a status of its own", "content": _ERROR},
}


def ok(shape: Any) -> dict[int | str, dict[str, Any]]:
    """Return what describes an answer of this shape."""
    return {200: {"model": shape}}


class DescribedApp(FastAPI):
    """Describes itself with the way to show a key, so that one can be given on the page of it."""

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            described = super().openapi()
            schemas = described["components"]["schemas"]
            for unused in ("HTTPValidationError", "ValidationError"):  # FastAPI's own 422
                schemas.pop(unused, None)
            described["components"]["securitySchemes"] = {
                "key": {"type": "http", "scheme": "bearer"}
            }
            described["security"] = [{"key": []}, {}]
            operations.named(described)
        return dict(self.openapi_schema or {})


def with_others(described: dict[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
    """Return a description with what another application on this port says of itself."""
    if not others:
        return described
    components = described["components"]
    return {
        **described,
        "tags": [*described["tags"], *others["tags"]],
        "paths": {**described["paths"], **others["paths"]},
        "components": {**components, "schemas": {**components["schemas"], **others["schemas"]}},
    }
