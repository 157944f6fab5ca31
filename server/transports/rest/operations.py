"""What each route of REST is in /openapi.json: its name, its tag, an example, its refusals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

TAGS: Final[Mapping[str, str]] = {
    "Asking": "A question, and the turn that answers it",
    "Conversations": "Messages in a tree under one system prompt",
    "Live": "Server-sent events of what becomes of them",
    "Search": "Messages and titles",
    "Export and import": "Everything in and out",
    "State": "Alive, ready, and in numbers",
}
#: Of every route that shows or changes what is a key's: `Host` and `Origin`, key, rate, storage.
_ANY: Final = (400, 401, 403, 429, 500, 503)
_ONE: Final = (*_ANY, 404)
#: "4XX" is an upstream's own refusal, whose status is passed on.
_ASKS: Final = (*_ONE, 409, 413, 502, 504, "4XX")
_EXAMPLE: Final = {"prompt": "Hello, I am sad", "seed": 7}


@dataclass(frozen=True, slots=True)
class Operation:
    """`refusals` are the statuses that can come beside the answer; `asks` is an example."""

    id: str
    tag: str
    refusals: tuple[int | str, ...] = _ONE
    asks: Mapping[str, Any] | None = None


_CONVERSATION: Final = "/conversations/{conversation_id}"
OPERATIONS: Final[Mapping[tuple[str, str], Operation]] = {
    ("post", "/ask/{conversation_id}"): Operation("ask", "Asking", (*_ASKS, 422), _EXAMPLE),
    ("get", "/turns/{turn_id}"): Operation("getTurn", "Asking"),
    ("post", "/turns/{turn_id}/cancel"): Operation("cancelTurn", "Asking"),
    ("get", "/turns/{turn_id}/events"): Operation("followTurn", "Live"),
    ("post", f"{_CONVERSATION}/regenerate"): Operation("regenerate", "Asking", _ASKS, {"seed": 8}),
    ("post", f"{_CONVERSATION}/context"): Operation(
        "previewContext", "Asking", (*_ONE, 413), {"prompt": "What would be sent?"}
    ),
    ("delete", f"{_CONVERSATION}/queue/{{waiting_id}}"): Operation("withdrawAsk", "Asking"),
    ("post", "/conversations"): Operation(
        "createConversation", "Conversations", (*_ANY, 409, 413), {"id": "demo", "title": "A demo"}
    ),
    ("get", "/conversations"): Operation("listConversations", "Conversations"),
    ("get", _CONVERSATION): Operation("getConversation", "Conversations"),
    ("patch", _CONVERSATION): Operation(
        "updateConversation", "Conversations", (*_ONE, 413), {"title": "Another", "pinned": True}
    ),
    ("delete", _CONVERSATION): Operation("deleteConversation", "Conversations"),
    ("get", f"{_CONVERSATION}/messages"): Operation("listMessages", "Conversations"),
    ("get", f"{_CONVERSATION}/events"): Operation("watchConversation", "Live"),
    ("get", "/events"): Operation("watchAll", "Live", _ANY),
    ("get", "/search"): Operation("searchMessages", "Search"),
    ("get", f"{_CONVERSATION}/export"): Operation("exportConversation", "Export and import"),
    ("get", "/export"): Operation("exportAll", "Export and import", _ANY),
    ("post", "/conversations/import"): Operation(
        "importConversations",
        "Export and import",
        (*_ANY, 413),
        {"room": ["User: Hello\n\n\nChatGPT: Hello. How are you today?<|im_end|>\n"]},
    ),
    ("get", "/metrics"): Operation("metrics", "State", (400, 401, 403, 429, 500)),
    ("get", "/healthz"): Operation("healthz", "State", (400, 403, 429)),
    ("get", "/health"): Operation("health", "State", (400, 403, 429)),
    ("get", "/readyz"): Operation("readyz", "State", (400, 403, 429, 503)),
}


def named(described: dict[str, Any]) -> None:
    """Give operations their names, and leave them the refusals that can come."""
    described["tags"] = [{"name": name, "description": about} for name, about in TAGS.items()]
    for path, methods in described["paths"].items():
        for method, told in methods.items():
            operation = OPERATIONS[method, path]
            told["operationId"], told["tags"] = operation.id, [operation.tag]
            allowed = {"200", "201", "204", *map(str, operation.refusals)}
            told["responses"] = {
                status: answer for status, answer in told["responses"].items() if status in allowed
            }
            if operation.asks is not None:
                body = told["requestBody"]["content"]["application/json"]
                body["example"] = dict(operation.asks)
