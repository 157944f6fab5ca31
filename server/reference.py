"""Writes the reference pages of docs/ from the tables in the code: settings and errors."""

from __future__ import annotations

import sys
from pathlib import Path

from server.core.errors import Code
from server.settings import Settings, variables
from server.transports.status import WIRE

NOTE = "<!-- Written by `python -m server.reference docs`; a test keeps it fresh. -->\n"

WHEN = {
    Code.INVALID_REQUEST: "bad JSON, a missing or wrong field, an empty prompt, a bad id",
    Code.CONTEXT_LENGTH_EXCEEDED: "this prompt alone is over the budget; nothing is stored",
    Code.INVALID_API_KEY: "no key, or a wrong one",
    Code.PERMISSION_DENIED: "that origin or host is not let in",
    Code.NOT_FOUND: "no such thing, or another key's",
    Code.CONVERSATION_BUSY: "`if_busy: reject`, or too many are waiting",
    Code.ALREADY_EXISTS: "that id is taken",
    Code.IDEMPOTENCY_MISMATCH: "the same idempotency key with another request",
    Code.REQUEST_TOO_LARGE: "a body, frame or message over the limit",
    Code.RATE_LIMIT_EXCEEDED: "ours or the upstream's; `Retry-After` is set",
    Code.INSUFFICIENT_QUOTA: "the tokens of this day or month are spent; nothing is stored",
    Code.UPSTREAM_REJECTED: "the upstream refused; HTTP status is the upstream's own",
    Code.UPSTREAM_FAILED: "the upstream broke: a 5xx, a cut or unreadable stream",
    Code.UPSTREAM_TIMEOUT: "the upstream did not answer in time",
    Code.DRAINING: "the server is shutting down",
    Code.STORAGE_UNAVAILABLE: "the database is locked, full, read-only or gone",
    Code.INTERNAL: "anything else; never with its inner text",
}


def settings_page() -> str:
    """Return docs/settings.md."""
    rows = []
    for name, field in Settings.model_fields.items():
        first, *others = variables(name)
        also = f" (also {', '.join(f'`{one}`' for one in others)})" if others else ""
        default = "–" if field.default in (None, (), {}) else f"`{field.default}`"
        secret = isinstance(field.json_schema_extra, dict) and field.json_schema_extra["secret"]
        flag = "–" if secret else f"`--{name.replace('_', '-')}`"
        rows.append(f"| `{first}`{also} | {flag} | `{name}` | {default} | {field.description} |")
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


def pages() -> dict[str, str]:
    """Return every page by its file name."""
    return {"settings.md": settings_page(), "errors.md": errors_page()}


if __name__ == "__main__":
    for page, text in pages().items():
        (Path(sys.argv[1]) / page).write_text(text, encoding="utf-8")
