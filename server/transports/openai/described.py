"""How OpenAI's API under `/v1` is described in /openapi.json: operations and examples."""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from server.transports.openai.operation import ONE, PASSED, TAG, Operation
from server.transports.openai.responses.described import STATEFUL

OF_OLD: Final = "OpenAI, of old"
TAGS: Final[Mapping[str, str]] = {
    TAG: "Shapes and errors are OpenAI's own, to the field, so that its reference holds here. What "
    "else is asked for under `/v1` is handed to the upstream as it is.",
    OF_OLD: "Routes that OpenAI has given up, for clients that still call them",
}
_SAID: Final = [{"role": "user", "content": "Hello, I am sad"}]
_MODEL: Final = "gpt-4o-mini"
_STREAM: Final = {"description": "chunks, where `stream` is true; `[DONE]` is the last"}
_REFUSED: Final = {"$ref": "#/components/schemas/OpenAIError"}
SCHEMAS: Final[Mapping[str, Any]] = {
    "OpenAIError": {
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["message", "type", "param", "code"],
                "properties": {
                    "message": {"type": "string"},
                    "type": {"type": ["string", "null"]},
                    "param": {"type": ["string", "null"]},
                    "code": {"type": ["string", "integer", "null"]},
                },
            }
        },
    }
}


_CHAT: Final = Operation(
    "createChatCompletion",
    "Answer a chat: straight through, stored, or in a conversation of this server",
    "chat.completion",
    {"model": _MODEL, "messages": _SAID},
    ("model", "messages"),
    (*PASSED, 409, 422),
    streams=True,
    headers=("X-Conversation-Id", "X-Parent-Id", "Idempotency-Key"),
)
_TEXT: Final = {"model": _MODEL, "prompt": "Once upon a time", "max_tokens": 16}
_HEADERS: Final[Mapping[str, str]] = {
    "X-Conversation-Id": "joins this conversation; `new` makes a fresh one",
    "X-Parent-Id": "`root`, or the message behind which a client stands that sends no answers",
    "Idempotency-Key": "in a conversation: the same key and body are the same turn",
}


def _of_old(
    id_: str, summary: str, answers: str | None, needs: tuple[str, ...] = (), **asks: Any
) -> Operation:
    return Operation(id_, summary, answers, asks or None, needs, tag=OF_OLD)


OPERATIONS: Final[Mapping[str, Mapping[str, Operation]]] = {
    "/v1/chat/completions": {
        "post": _CHAT,
        "get": Operation("listChatCompletions", "List stored ones", "list", refusals=ONE),
    },
    "/v1/chat/completions/{id}": {
        "get": Operation("getChatCompletion", "Read one", "chat.completion", refusals=ONE),
        "post": Operation(
            "updateChatCompletion",
            "Change its metadata",
            "chat.completion",
            {"metadata": {"about": "demo"}},
            ("metadata",),
            (*ONE, 413),
        ),
        "delete": Operation(
            "deleteChatCompletion", "Delete one", "chat.completion.deleted", refusals=ONE
        ),
    },
    "/v1/chat/completions/{id}/messages": {
        "get": Operation("listChatCompletionMessages", "What was asked", "list", refusals=ONE)
    },
    "/v1/completions": {
        "post": Operation(
            "createCompletion",
            "Complete a text",
            "text_completion",
            _TEXT,
            ("model",),
            streams=True,
        )
    },
    "/v1/models": {"get": Operation("listModels", "List what all upstreams have", "list")},
    "/v1/models/{id}": {
        "get": Operation("getModel", "Show a model", "model"),
        "delete": Operation("deleteModel", "Delete a model that came of fine-tuning", None),
    },
    "/v1/embeddings": {
        "post": Operation(
            "createEmbedding",
            "Embed texts",
            "list",
            {"model": "text-embedding-3-small", "input": ["A cat sleeps."]},
            ("input", "model"),
        )
    },
    "/v1/moderations": {
        "post": Operation("createModeration", "Judge texts", None, {"input": "Hello"}, ("input",))
    },
    "/v1/engines": {"get": _of_old("listEngines", "List models as engines", "list")},
    "/v1/engines/{id}": {"get": _of_old("getEngine", "Show a model as an engine", "engine")},
    "/v1/engines/{id}/chat/completions": {
        "post": _of_old(
            "chatOfEngine", "Answer a chat", "chat.completion", ("messages",), messages=_SAID
        )
    },
    "/v1/engines/{id}/completions": {
        "post": _of_old("completeOfEngine", "Complete a text", "text_completion", prompt="Once")
    },
    "/v1/engines/{id}/generate": {
        "post": _of_old("generateOfEngine", "Complete a text", "text_completion", prompt="Once")
    },
    "/v1/engines/{id}/embeddings": {
        "post": _of_old("embedOfEngine", "Embed texts", "list", ("input",), input=["A cat sleeps."])
    },
    "/v1/text_completion": {
        "post": _of_old("textCompletion", "Complete a text", "text_completion", prompt="Once")
    },
    "/v1/edits": {
        "post": _of_old(
            "createEdit",
            "Edit a text",
            "edit",
            ("instruction",),
            input="Helo",
            instruction="Fix the spelling",
        )
    },
    "/v1/internal/logits": {
        "post": _of_old("logits", "Show the likeliest next tokens", None, prompt="Once upon a")
    },
    **STATEFUL,
}


def description() -> dict[str, Any]:
    """Return what is to be added to the description of the port."""
    return {
        "tags": [{"name": name, "description": about} for name, about in TAGS.items()],
        "paths": {
            path: {method: _told(path, one) for method, one in methods.items()}
            for path, methods in OPERATIONS.items()
        },
        "schemas": dict(SCHEMAS),
    }


def _told(path: str, of: Operation) -> dict[str, Any]:
    """Return an operation as OpenAPI has it."""
    text = {"type": "string"}
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "header", "schema": text, "description": _HEADERS[name]}
        for name in of.headers
    ]
    parameters[:0] = [
        {"name": name, "in": "path", "required": True, "schema": text}
        for name in re.findall(r"{(\w+)}", path)
    ]
    told: dict[str, Any] = {
        "operationId": of.id,
        "tags": [of.tag],
        "summary": of.summary,
        "responses": {"200": _answer(of), **{str(one): _refusal(one) for one in of.refusals}},
    }
    if parameters:
        told["parameters"] = parameters
    if of.asks is not None:
        schema = {"type": "object", "required": list(of.needs)}
        content = {"application/json": {"schema": schema, "example": dict(of.asks)}}
        told["requestBody"] = {"required": True, "content": content}
    return told


def _answer(of: Operation) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object"}
    if of.answers is not None:
        schema |= {"required": ["object"], "properties": {"object": {"const": of.answers}}}
    content: dict[str, Any] = {"application/json": {"schema": schema}}
    if of.streams:
        content["text/event-stream"] = {"schema": {"type": "string", **_STREAM}}
    return {"description": "The answer, in OpenAI's shape", "content": content}


def _refusal(status: int | str) -> dict[str, Any]:
    about = HTTPStatus(status).phrase if isinstance(status, int) else "The upstream refused"
    return {"description": about, "content": {"application/json": {"schema": _REFUSED}}}
