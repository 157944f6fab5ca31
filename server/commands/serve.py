"""What a person reads when the server has started: what listens where, and what to paste."""

from __future__ import annotations

import sqlite3

from server import VERSION
from server.app.lifecycle import Addresses
from server.config.database import shown
from server.transports.http.upgrade import WEBSOCKET


def greet(started: Addresses) -> str:
    """Return the text of the start-up."""
    settings = started.settings
    host = "localhost" if settings.public or settings.host == "127.0.0.1" else settings.host
    host = f"[{host}]" if ":" in host else host
    secure = "s" if settings.tls_cert else ""
    base = f"http{secure}://{host}:{started.http_port}"
    lines = [
        f"Trialogue {VERSION} listens on {settings.host}",
        "",
        f"  page, REST, SSE  {base}   (API description: {base}/docs)",
        f"  gRPC             {host}:{started.grpc_port}",
        f"  websocket        ws{secure}://{host}:{started.websocket_port}/"
        f"   (and ws{secure}://{host}:{started.http_port}{WEBSOCKET})",
        "",
        f"  upstream         {started.upstream}",
        f"  history          {_history(started)}",
        f"  keys             {_keys(started)}",
        "",
        "Ask something:",
        "",
        f"  {curl(base, started.new_key, started.needs_key)}",
        "",
    ]
    return "\n".join(lines)


def curl(base: str, key: str | None, needs_key: bool) -> str:
    """Return a line that works when it is pasted into a shell."""
    shown = f"-H 'Authorization: Bearer {key or '$TRIALOGUE_API_KEY'}' " if needs_key else ""
    if shown and not key:
        shown = shown.replace("'", '"')
    return (
        f"curl -X POST {base}/ask/demo {shown}-H 'Content-Type: application/json' "
        '-d \'{"prompt": "Hello"}\''
    )


def _keys(started: Addresses) -> str:
    settings = started.settings
    if settings.auth == "off" and settings.exposed:
        return "NONE NEEDED: TRIALOGUE_AUTH=off lets everyone who can reach this address in"
    if not started.needs_key:
        return "none needed on this machine"
    if started.new_key:
        return f"{started.new_key}   (made now, shown this once)"
    return "needed; 'trialogue keys create NAME' makes one"


def _history(started: Addresses) -> str:
    settings = started.settings
    if settings.on_postgres:
        return f"{shown(settings.database)} (PostgreSQL)"
    return f"{settings.database_path} (SQLite {sqlite3.sqlite_version})"
