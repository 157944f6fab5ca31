"""Writes docs/websocket.asyncapi.yaml: the websocket as AsyncAPI 3, from the frames' own tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from server import VERSION
from server.core.errors import Code
from server.core.turns.parameters import KNOWN, SPELLINGS
from server.core.turns.tools import OPTIONS
from server.transports.rest.schemas import (
    AskBody,
    ChangeBody,
    ConversationBody,
    ConversationShape,
    HitShape,
    ListShape,
    MessageShape,
    PreviewShape,
    RegenerateBody,
    ToolResultBody,
    TurnShape,
)
from server.transports.websocket import fields, frames
from server.transports.websocket.auth import SUBPROTOCOL
from server.transports.websocket.calls import CALLS
from server.transports.websocket.fields import Check

Schema = dict[str, Any]

PLACE = "#/components/schemas/"
SHAPES: tuple[type[BaseModel], ...] = (TurnShape, ConversationShape, MessageShape, HitShape)
#: What is said of a field where a body of REST has it too.
BODIES = (AskBody, RegenerateBody, ConversationBody, ChangeBody)
#: What a check lets pass.
TYPES: Mapping[Check, Schema] = {
    fields.text: {"type": "string"},
    fields.integer: {"type": "integer"},
    fields.cursor: {"type": "integer", "minimum": 0},
    fields.number: {"type": "number"},
    fields.flag: {"type": "boolean"},
    fields.members: {"type": "object"},
    fields.content: {"type": ["string", "array"], "items": {"type": "object"}},
    fields.stop: {"type": ["string", "array"], "items": {"type": "string"}},
    fields.results: {"type": "array", "items": {"$ref": f"{PLACE}ToolResultBody"}},
    fields.position: {"type": "string", "pattern": "^.+:[0-9]{1,18}$", "examples": ["turn_01k:31"]},
    fields.moment: {"type": "string", "format": "date-time"},
}
ABOUT = {
    "ask": "Asks; the conversation is made if it is not there.",
    "regenerate": "Writes another answer to the same question: a sibling of the one there is.",
    "follow": "Reads a turn's events from a cursor, live or long after it ended.",
    "watch": "Follows every turn of a conversation and its queue, or what becomes of all.",
    "unwatch": "Ends a watch; there is no answer.",
    "cancel": "Stops the writing of an answer; to cancel an ended turn is no error.",
    "authenticate": "Shows an API key, as the first frame: browsers cannot send a header.",
    "ping": "Asks whether the connection lives.",
    "conversations": "Lists conversations.",
    "create": "Makes an empty conversation.",
    "conversation": "Reads a conversation.",
    "update": "Changes a conversation; `head_id` moves its head.",
    "delete": "Deletes a conversation and all that it holds.",
    "withdraw": "Takes back a question that waits in line; its asker gets `conversation_busy`.",
    "messages": "Lists one branch, oldest first.",
    "context": "Shows what would be sent for a question. Asks nobody.",
    "search": "Searches messages and titles, best first.",
}
_ASKING: Schema = {
    "anyOf": [{"required": [one]} for one in ("prompt", "content", "tool_results")],
    "not": {"required": ["prompt", "content"]},
}
_ALL: Schema = {"required": ["all"], "properties": {"all": {"const": True}}}
_WATCHING: Schema = {"oneOf": [{"required": ["conversation_id"]}, _ALL]}
#: What tables of single fields cannot say.
BESIDES: Mapping[str, Schema] = {
    **dict.fromkeys(("ask", "context"), _ASKING),
    "watch": {**_WATCHING, "not": {**_ALL, "required": ["all", "after"]}},
    "unwatch": _WATCHING,
}
TURN_EVENTS = ("turn.started", "turn.delta", "turn.ended")
PROGRESS = "turn.progress"
CONVERSATION_EVENTS = tuple(f"conversation.{fate}" for fate in ("created", "updated", "deleted"))
#: What answers a frame that is no call on history.
ANSWERS: Mapping[str, Sequence[str]] = {
    **dict.fromkeys(("ask", "regenerate", "follow"), (*TURN_EVENTS, PROGRESS)),
    "watch": (*TURN_EVENTS, PROGRESS, *CONVERSATION_EVENTS, "queue.changed", "resync"),
    "cancel": ("turn.ended",),
    "authenticate": ("authenticated",),
    "ping": ("pong",),
    "unwatch": (),
}
REQUEST_ID: Schema = {
    "type": ["string", "number"],
    "maxLength": frames.MAX_REQUEST_ID,
    "description": "yours to choose; every frame that answers repeats it",
}
TEXT: Mapping[str, str] = {
    "prompt": "Any text that is no JSON object: a prompt, in this connection's own conversation.",
    "easybackend.ask": "`<|ask|>$CONVERSATION_ID$PROMPT`, or with `$PARENT_ID` before the prompt.",
    "easybackend.answer": "The answer's text as it comes, then `<|end|>`, or `<|err|>`.",
}
INFO = (
    "JSON text frames, one object each, many turns at once on one connection; both addresses are "
    "one and the same. A client's `null` is the same as an absent field, save in `update`. Close "
    "codes: 1001 shutting down, 1008 not allowed in, 1009 frame too large, 1011 our fault, 1013 "
    "try later. What each frame means: docs/protocol.md."
)


def schema_of(name: str, check: Check) -> Schema:
    """Return what a field may be."""
    if isinstance(check, fields.OneOf):
        found: Schema = {"type": "string", "enum": [one.value for one in check.kind]}
    elif name in OPTIONS:
        found = _of_a_body(name)
    else:
        found = dict(TYPES[check])
    known = KNOWN.get(SPELLINGS.get(name, name))
    if known is not None:
        found |= {"minimum": known[0], "maximum": known[1]}
    for body in BODIES:
        field = body.model_fields.get(name)
        if field is not None and field.description:
            return {**found, "description": field.description}
    return found


def _of_a_body(name: str) -> Schema:
    """Return what the core takes as such a field, as REST describes it."""
    told: Schema = AskBody.model_json_schema()["properties"][name]
    kinds = [one for one in told["anyOf"] if one != {"type": "null"}]
    return kinds[0] if len(kinds) == 1 else {"anyOf": kinds}


def client_frames() -> dict[str, Schema]:
    """Return what each kind of a client's frames may be, by its type."""
    found = {
        kind: _frame(kind, allowed, frames.REQUIRED[kind])
        for kind, allowed in frames.FIELDS.items()
    }
    for kind, call in CALLS.items():
        found[kind] = _frame(kind, call.fields, call.required, call.clearable)
    return found


def _frame(
    kind: str,
    allowed: Mapping[str, Check],
    required: Sequence[str],
    clearable: Sequence[str] = (),
) -> Schema:
    named = {name: schema_of(name, check) for name, check in allowed.items()}
    for name in clearable:
        named[name]["type"] = [named[name]["type"], "null"]
    return {
        "type": "object",
        "required": ["type", *required],
        "additionalProperties": False,
        "properties": {"type": {"const": kind}, "request_id": dict(REQUEST_ID), **named},
        **BESIDES.get(kind, {}),
    }


def server_frames() -> dict[str, Schema]:
    """Return what each kind of the server's frames is, by its type."""
    text, integer = {"type": "string"}, {"type": "integer"}
    at = {"conversation_id": text, "turn_id": text, "cursor": {"type": "integer", "minimum": 0}}
    turn = {**at, "turn": {"$ref": f"{PLACE}TurnShape"}}
    part = {
        "type": "object",
        "required": ["index", "type"],
        "properties": {"index": integer, "type": text, "id": text, "name": text},
    }
    read = {"conversation_id": text, "turn_id": text, "read": integer, "total": integer}
    delta = {**at, "text": text, "part": part, "delta": text}
    about = {"conversation_id": text, "conversation": {"$ref": f"{PLACE}ConversationShape"}}
    waits = {"id": text, "prompt": text, "wire": {"type": ["string", "null"]}, "since": text}
    line = {"type": "array", "items": _object(waits)}
    error = {
        "code": {"enum": [code.value for code in Code]},
        "message": text,
        "param": {"type": ["string", "null"]},
        "retry_after": {"type": "number", "description": "seconds; where waiting helps"},
    }
    return {
        "welcome": _told(
            {"conversation_id": text, "server": text, "version": text, "protocol": text}
        ),
        "authenticated": _told({}),
        "pong": _told({}),
        "turn.started": _told(turn),
        "turn.delta": _told(delta, optional=("part", "delta")),
        "turn.ended": _told(turn),
        PROGRESS: _told(read),
        **{kind: _told(about) for kind in CONVERSATION_EVENTS},
        "queue.changed": _told({"conversation_id": text, "waiting": line, "count": integer}),
        "resync": _told({}),
        "error": _told({"error": _object(error, optional=("retry_after",))}),
        "deleted": _told({"conversation_id": text}),
        "withdrawn": _told({"conversation_id": text, "waiting_id": text}),
        **{
            kind: {"allOf": [{"$ref": f"{PLACE}{shape}"}, _told({})]}
            for kind, shape in ANSWERED.items()
        },
    }


#: What a call is answered with, beside the frame's `type`.
ANSWERED = {
    "conversation": "ConversationShape",
    "conversations": "Conversations",
    "messages": "Messages",
    "search": "Hits",
    "context": "PreviewShape",
}
LISTS: Mapping[str, type[BaseModel]] = {
    "Conversations": ListShape[ConversationShape],
    "Messages": ListShape[MessageShape],
    "Hits": ListShape[HitShape],
}


def _object(named: Schema, optional: Sequence[str] = ()) -> Schema:
    required = [name for name in named if name not in optional]
    return {"type": "object", "required": required, "properties": named}


def _told(named: Schema, optional: Sequence[str] = ()) -> Schema:
    """Return a frame of the server; its `type` is put in by its name."""
    return _object({"type": {}, **named, "request_id": dict(REQUEST_ID)}, (*optional, "request_id"))


def _typed(kind: str, schema: Schema) -> Schema:
    parts = schema.get("allOf", [schema])
    parts[-1]["properties"]["type"] = {"const": kind}
    return schema


def shapes() -> dict[str, Schema]:
    """Return the nouns, as REST describes them."""
    models: list[type[BaseModel]] = [*SHAPES, PreviewShape, *LISTS.values(), ToolResultBody]
    asked = [(model, "serialization") for model in models]
    _, told = models_json_schema(asked, ref_template=PLACE + "{model}")  # type: ignore[arg-type]
    found = dict(told["$defs"])
    for name, model in LISTS.items():
        found[name] = found.pop(model.__name__.replace("[", "_").replace("]", "_"))
    return found


def document() -> Schema:
    """Return the whole description."""
    asked, told = client_frames(), server_frames()
    messages = {
        f"client.{kind}": _message(kind, schema, ABOUT[kind]) for kind, schema in asked.items()
    }
    messages |= {
        f"server.{kind}": _message(kind, _typed(kind, schema)) for kind, schema in told.items()
    }
    messages |= {
        kind: {
            "name": kind,
            "contentType": "text/plain",
            "summary": about,
            "payload": {"type": "string"},
        }
        for kind, about in TEXT.items()
    }
    query = {
        "type": "object",
        "properties": {
            "conversation_id": {
                "type": "string",
                "description": "the connection's own conversation; default: a fresh one",
            }
        },
    }
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "Trialogue's websocket", "version": VERSION, "description": INFO},
        "defaultContentType": "application/json",
        "servers": {
            "websocket": _server("localhost:9001", "The port of its own, which takes any path"),
            "page": _server("localhost:8000", "The same, on the port of REST and the page"),
        },
        "channels": {
            "connection": {
                "address": "/ws",
                "title": "One connection",
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
                "bindings": {"ws": {"method": "GET", "query": query}},
            }
        },
        "operations": _operations(asked),
        "components": {
            "messages": messages,
            "schemas": shapes(),
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "or the frame `authenticate`, or the subprotocols "
                    f"`{SUBPROTOCOL}` and `trialogue-api-key.KEY`; where keys are needed",
                }
            },
        },
    }


def _server(host: str, title: str) -> Schema:
    key = {"$ref": "#/components/securitySchemes/key"}
    return {"host": host, "protocol": "ws", "title": title, "security": [key]}


def _message(kind: str, schema: Schema, about: str = "") -> Schema:
    summary = {"summary": about} if about else {}
    return {"name": kind, "title": kind, **summary, "payload": schema}


def _operations(asked: Mapping[str, Schema]) -> dict[str, Schema]:
    """Return what the server takes, each with what answers it, and what it says by itself."""
    found = {}
    for kind in asked:
        answers = (CALLS[kind].answers,) if kind in CALLS else ANSWERS[kind]
        told = [_here(f"server.{one}") for one in (*answers, "error")]
        found[kind] = _operation("receive", ABOUT[kind], [_here(f"client.{kind}")], told)
    events = [_here(f"server.{one}") for one in (*TURN_EVENTS, "error")]
    found["prompt"] = _operation("receive", TEXT["prompt"], [_here("prompt")], events)
    found["easybackend"] = _operation(
        "receive",
        "Asks in ChatGPT EasyBackend's dialect.",
        [_here("easybackend.ask")],
        [_here("easybackend.answer")],
    )
    found["welcome"] = _operation("send", "Who is let in is told so.", [_here("server.welcome")])
    return found


def _operation(
    action: str, about: str, messages: list[Schema], told: list[Schema] | None = None
) -> Schema:
    channel = {"$ref": "#/channels/connection"}
    reply = {"reply": {"channel": dict(channel), "messages": told}} if told else {}
    return {"action": action, "channel": channel, "summary": about, "messages": messages, **reply}


def _here(name: str) -> Schema:
    return {"$ref": f"#/channels/connection/messages/{name}"}


class _Dumper(yaml.SafeDumper):
    """Writes what is said twice twice, without anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def page(note: str) -> str:
    """Return docs/websocket.asyncapi.yaml."""
    text = yaml.dump(document(), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
    return f"# {note}\n{text}"
