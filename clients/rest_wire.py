"""The terminal client's wire over REST: each frame is a request, each answer an SSE stream."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from http.client import HTTPResponse
from typing import Any
from urllib.parse import quote

from clients.web import BROKEN, Web, told
from clients.websocket_client import LeftError, LostError

ONE = "/conversations/{conversation_id}"
#: Method and path of each frame; what is left of its fields is the query, or the body.
ROUTES: Mapping[str, tuple[str, str]] = {
    "ask": ("POST", "/ask/{conversation_id}"),
    "regenerate": ("POST", f"{ONE}/regenerate"),
    "follow": ("GET", "/turns/{turn_id}/events"),
    "watch": ("GET", f"{ONE}/events"),
    "cancel": ("POST", "/turns/{turn_id}/cancel"),
    "conversations": ("GET", "/conversations"),
    "conversation": ("GET", ONE),
    "update": ("PATCH", ONE),
    "delete": ("DELETE", ONE),
    "withdraw": ("DELETE", f"{ONE}/queue/{{waiting_id}}"),
    "messages": ("GET", f"{ONE}/messages"),
    "context": ("POST", f"{ONE}/context"),
    "search": ("GET", "/search"),
}
#: Frames that a stream of events answers.
STREAMS = ("ask", "regenerate", "follow", "watch")
#: A stream says something every 15 seconds, if only that it is there.
SILENCE_SECONDS = 60.0


class RestWire:
    """Frames as requests of REST; one stream of events at a time."""

    def __init__(self, chosen: argparse.Namespace, *, known: bool = False) -> None:
        self._web = Web(chosen.url, chosen.api_key, chosen.ca, known=known)
        self._stream: HTTPResponse | None = None
        self._request_id: str | None = None
        self._left = False

    def send(self, frame: dict[str, Any]) -> None:
        fields = {name: of for name, of in frame.items() if of is not None}
        kind, request_id = fields.pop("type"), fields.pop("request_id", None)
        if kind not in STREAMS:
            self.call(kind, **fields)
            return
        self.close()
        method, path = _route(kind, fields)
        headers = {"Accept": "text/event-stream"}
        if key := fields.pop("idempotency_key", None):
            headers["Idempotency_Key"] = key
        if kind == "watch" and (after := fields.pop("after", None)):
            headers["Last_Event_ID"] = after
        # Who asks waits in line, perhaps for long, before there is an answer.
        seconds = SILENCE_SECONDS if method == "GET" else None
        self._stream = self._web.open(method, path, fields, seconds=seconds, **headers)
        self._request_id = request_id

    def receive(self) -> dict[str, Any]:
        if self._left:
            raise LeftError
        if self._stream is not None:
            try:
                for event in _events(self._stream):
                    if event["type"] == "error":
                        raise told(event["error"])
                    return {"request_id": self._request_id, **event}
            except BROKEN as error:
                self.close()
                raise LostError("the connection is gone") from error
        raise LostError("the stream is at its end")

    def call(self, kind: str, **fields: Any) -> dict[str, Any]:
        method, path = _route(kind, fields)
        return self._web.call(method, path, fields)

    def leave(self) -> None:
        self._left = True

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None


def _route(kind: str, fields: dict[str, Any]) -> tuple[str, str]:
    """Return method and path of a frame, and take out of its fields what is in the path."""
    method, path = ROUTES[kind]
    for name in ("conversation_id", "turn_id", "waiting_id"):
        if f"{{{name}}}" in path:
            path = path.replace(f"{{{name}}}", quote(fields.pop(name), safe=":~"))
    return method, path


def _events(stream: HTTPResponse) -> Iterator[dict[str, Any]]:
    for line in stream:
        if line.startswith(b"data:"):
            yield json.loads(line.removeprefix(b"data:"))
