"""How OpenAI's stateful API is described in /openapi.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from server.transports.openai.operation import ONE, PASSED, Operation

_MODEL: Final = "gpt-4o-mini"
_INPUT: Final[Mapping[str, Any]] = {"model": _MODEL, "input": "Hello, I am sad"}
_ITEMS: Final = [{"type": "message", "role": "user", "content": "Hello, I am sad"}]

STATEFUL: Final[Mapping[str, Mapping[str, Operation]]] = {
    "/v1/responses": {
        "post": Operation(
            "createResponse",
            "Answer as a response, which is a turn",
            "response",
            _INPUT,
            ("input", "model"),
            (*PASSED, 409, 422),
            streams=True,
        )
    },
    "/v1/responses/{id}": {
        "get": Operation("getResponse", "Read a response, or its events", "response", refusals=ONE),
        "delete": Operation("deleteResponse", "Delete a response", "response", refusals=ONE),
    },
    "/v1/responses/{id}/cancel": {
        "post": Operation(
            "cancelResponse", "Stop one that is written in the background", "response", refusals=ONE
        )
    },
    "/v1/responses/{id}/input_items": {
        "get": Operation("listInputItems", "What a response answers", "list", refusals=ONE)
    },
    "/v1/responses/input_tokens": {
        "post": Operation(
            "countInputTokens",
            "Count what would be sent",
            "response.input_tokens",
            _INPUT,
            ("input", "model"),
        )
    },
    "/v1/responses/compact": {
        "post": Operation(
            "compactResponse",
            "Sum up what was said",
            "response.compaction",
            _INPUT,
            ("input", "model"),
        )
    },
    "/v1/conversations": {
        "post": Operation(
            "createStatefulConversation",
            "Make a conversation, the same as everywhere",
            "conversation",
            {"items": _ITEMS},
        )
    },
    "/v1/conversations/{id}": {
        "get": Operation(
            "getStatefulConversation", "Read a conversation", "conversation", refusals=ONE
        ),
        "post": Operation(
            "updateStatefulConversation",
            "Change its metadata",
            "conversation",
            {"metadata": {"about": "demo"}},
            ("metadata",),
            (*ONE, 413),
        ),
        "delete": Operation(
            "deleteStatefulConversation",
            "Delete a conversation",
            "conversation.deleted",
            refusals=ONE,
        ),
    },
    "/v1/conversations/{id}/items": {
        "get": Operation("listItems", "List its items", "list", refusals=ONE),
        "post": Operation(
            "createItems", "Add items", "list", {"items": _ITEMS}, ("items",), (*ONE, 409, 413)
        ),
    },
    "/v1/conversations/{id}/items/{item}": {
        "get": Operation("getItem", "Read an item", None, refusals=ONE),
        "delete": Operation("deleteItem", "Erase an item", "conversation", refusals=ONE),
    },
}
