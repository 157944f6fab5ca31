"""Writes the reference pages of docs/ from the tables in the code: settings, errors, and more."""

from __future__ import annotations

import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from server.config import limits
from server.config.limits import (
    HttpLimits,
    ReplyLimits,
    RpcLimits,
    ToolLimits,
    TurnLimits,
    UpstreamLimits,
    WebsocketLimits,
)
from server.config.settings import Settings, variables
from server.core import validation
from server.core.archive import json_splitter
from server.core.errors import Code
from server.core.observability.metrics import ROWS
from server.transports.status import WIRE
from tools import asyncapi, grpc_page

WRITTEN = "Written by `python -m tools.reference docs`; a test keeps it fresh."
NOTE = f"<!-- {WRITTEN} -->\n"

WHEN = {
    Code.INVALID_REQUEST: "bad JSON, a missing or wrong field, an empty prompt, a bad id",
    Code.CONTEXT_LENGTH_EXCEEDED: "this prompt alone is over the budget; nothing is stored",
    Code.INVALID_API_KEY: "no key, or a wrong one",
    Code.PERMISSION_DENIED: "that origin or host is not allowed",
    Code.NOT_FOUND: "no such thing, or another key's",
    Code.CONVERSATION_BUSY: "`if_busy: reject`, too many are waiting, or it was taken back",
    Code.ALREADY_EXISTS: "that id is taken",
    Code.IDEMPOTENCY_MISMATCH: "the same idempotency key with another request",
    Code.REQUEST_TOO_LARGE: "a body, frame or message over the limit",
    Code.RATE_LIMIT_EXCEEDED: "ours or the upstream's, its quota too; `Retry-After` is set",
    Code.INSUFFICIENT_QUOTA: "the tokens of this day or month are spent; nothing is stored",
    Code.UPSTREAM_REJECTED: "the upstream refused; HTTP status is the upstream's own",
    Code.UPSTREAM_FAILED: "the upstream broke: a 5xx, a cut or unreadable stream",
    Code.UPSTREAM_TIMEOUT: "the upstream did not answer in time",
    Code.DRAINING: "the server is shutting down, or was stopped before the answer was whole",
    Code.STORAGE_UNAVAILABLE: "the database is locked, full, read-only or gone",
    Code.INTERNAL: "anything else; never with its inner text",
}


def settings_page() -> str:
    """Return docs/settings.md."""
    rows = []
    for name, field in Settings.model_fields.items():
        first, *others = variables(name)
        also = f" (also {', '.join(f'`{one}`' for one in others)})" if others else ""
        unset = field.default in (None, (), {}) or isinstance(field.default, BaseModel)
        default = "–" if unset else f"`{field.default}`"
        extra: Any = field.json_schema_extra
        secret, toml = extra["secret"], extra.get("toml", name)
        flag = "–" if secret else f"`--{name.replace('_', '-')}`"
        rows.append(f"| `{first}`{also} | {flag} | `{toml}` | {default} | {field.description} |")
    return "\n".join(
        [
            "# Settings",
            NOTE,
            "A flag wins over the environment, that over `.env`, that over `trialogue.toml`, that",
            "over the default. Keys have no flag: other users of a machine can see those.",
            "",
            "| variable | flag | in trialogue.toml | default | |",
            "|---|---|---|---|---|",
            *rows,
            "",
        ]
    )


def errors_page() -> str:
    """Return docs/errors.md."""
    rows = [
        f"| `{code.value}` | {WIRE[code].http} | {WIRE[code].grpc.name} "
        f"| `{WIRE[code].openai}` | {WHEN[code]} |"
        for code in Code
    ]
    return "\n".join(
        [
            "# Errors",
            NOTE,
            'Over HTTP: `{"error": {"message", "type", "param", "code"}}`; over gRPC the status',
            "with `google.rpc.ErrorInfo` (reason: the code in capitals, domain `trialogue`) and",
            "`RetryInfo`; over the websocket a frame of type `error`.",
            "",
            "| code | HTTP | gRPC | type | when |",
            "|---|---|---|---|---|",
            *rows,
            "",
        ]
    )


LIMITS = {
    "HTTP, port 8000": HttpLimits,
    "gRPC, port 9000": RpcLimits,
    "Websocket, port 9001": WebsocketLimits,
    "Upstreams": UpstreamLimits,
    "What an upstream says": ReplyLimits,
    "Tools that the server runs": ToolLimits,
}
#: Settings that bound what a caller may take.
BOUNDS = (
    *("rate_limit", "token_budget", "max_turns", "max_turns_per_key"),
    *("max_connections_per_key", "max_connections_per_address"),
    *("max_body_bytes", "max_upload_bytes"),
)
#: What a question may look like, on every wire.
SHAPES = {
    "questions in line in one conversation, then `conversation_busy`": TurnLimits().waiting,
    "levels of a body under `/v1`": validation.DEEPEST_JSON,
    "levels of a value that is imported": json_splitter.DEEPEST,
    "bytes of metadata": validation.LARGEST_METADATA,
    "levels of metadata": validation.DEEPEST_METADATA,
    "characters of a title": validation.LONGEST_TITLE,
    "characters of a model's name": validation.LONGEST_NAME,
    "characters of an idempotency key": validation.LONGEST_KEY,
    "characters of a search": validation.LONGEST_QUERY,
    "stop sequences": validation.MOST_STOPS,
    "things of a page": validation.LARGEST_PAGE,
}


def limits_page() -> str:
    """Return docs/limits.md."""
    settings = [
        f"| `{variables(name)[0]}` | {_default(name)} | {Settings.model_fields[name].description} |"
        for name in BOUNDS
    ]
    return "\n".join(
        [
            "# Limits",
            NOTE,
            "What callers may take. What counts, and how a refusal looks: "
            "[protocol.md](protocol.md#limits).",
            "",
            "## Settings",
            "",
            "| variable | default | |",
            "|---|---|---|",
            *settings,
            "",
            "## Built in",
            "",
            "Sizes are in bytes, times in seconds. Descriptors are as many as the process may have",
            f"(the hard limit, 65,536 at most), less {limits.OWN} of its own: connections to the",
            "ports and to upstreams together are never more. Of the connections of HTTP and of the",
            "websocket, of the calls of gRPC and of the `answers` of upstreams, a key has no more",
            "than are left free for others, unless all are one (no key is asked for).",
            *(line for name, table in LIMITS.items() for line in _limits(name, table)),
            "",
            "### The shape of things",
            "",
            "| at most | |",
            "|---|---|",
            *(f"| {most:,} | {what} |" for what, most in SHAPES.items()),
            "",
        ]
    )


def _default(name: str) -> str:
    default = Settings.model_fields[name].default
    return "–" if default is None else f"{default:,}"


def _limits(name: str, table: type[Any]) -> list[str]:
    rows = []
    for bound in fields(table):
        value = bound.metadata.get("default", bound.default)
        told = "–" if value is None else value if isinstance(value, str) else f"{value:,}"
        rows.append(f"| `{bound.name}` | {told} | {bound.metadata['help']} |")
    return ["", f"### {name}", "", "| | | |", "|---|---|---|", *rows]


def metrics_page() -> str:
    """Return docs/metrics.md."""
    rows = [
        f"| `{row.shown[0].removesuffix('_bucket')}` | {row.kind} "
        f"| {', '.join(f'`{label}`' for label in row.labels) or '–'} | {row.help} |"
        for row in ROWS
    ]
    return "\n".join(
        [
            "# Metrics",
            NOTE,
            "`GET /metrics` (with a key, where keys are needed) shows them as Prometheus' text,",
            "with `process_*`: memory, processor, open files. Labels are the model (`other` for",
            "one that we do not know), the wire (`rest`, `openai`, `grpc`, `websocket`) and the",
            "status in the words of the wire: 200, `OK`, `ok`, or what it is refused with;",
            "`left` where the caller was gone before there was an answer. Never an owner, a",
            "conversation, or a word of anybody's.",
            "",
            "| name | kind | labels | |",
            "|---|---|---|---|",
            *rows,
            "",
            "Turns are counted on every wire, and under `/v1` where `X-Conversation-Id` makes a",
            "call one; a call that goes straight to the upstream is a request, with its status",
            "and time. [grafana.json](grafana.json) is a dashboard of these,",
            "[alerts.yaml](alerts.yaml) are rules for Prometheus.",
            "",
        ]
    )


def pages() -> dict[str, str]:
    """Return every page by its file name."""
    return {
        "settings.md": settings_page(),
        "errors.md": errors_page(),
        "limits.md": limits_page(),
        "metrics.md": metrics_page(),
        "grpc.md": grpc_page.page(NOTE),
        "websocket.asyncapi.yaml": asyncapi.page(WRITTEN),
    }


if __name__ == "__main__":
    for page, text in pages().items():
        (Path(sys.argv[1]) / page).write_text(text, encoding="utf-8")
