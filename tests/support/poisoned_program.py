"""A program that is called as `llama-server` is, and dies of every prompt that says so."""

from __future__ import annotations

import json
import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

POISON = b"poison"
_CHUNK = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "one"}
_CHOICES = [
    [{"index": 0, "delta": {"role": "assistant", "content": "ok"}, "finish_reason": None}],
    [{"index": 0, "delta": {}, "finish_reason": "stop"}],
]
_USAGE = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}


class Handler(BaseHTTPRequestHandler):
    """Lists its model, and answers `ok`."""

    def do_GET(self) -> None:
        self._send("application/json", json.dumps({"data": [{"id": "one"}]}).encode())

    def do_POST(self) -> None:
        if POISON in self.rfile.read(int(self.headers["content-length"])):
            os.kill(os.getpid(), signal.SIGKILL)
        events = [{**_CHUNK, "choices": choices} for choices in _CHOICES]
        events.append({**_CHUNK, "choices": [], "usage": _USAGE})
        lines = [*(json.dumps(event) for event in events), "[DONE]"]
        self._send("text/event-stream", "".join(f"data: {one}\n\n" for one in lines).encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _send(self, kind: str, body: bytes) -> None:
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(f"listening on http://127.0.0.1:{server.server_port}", file=sys.stderr, flush=True)
    server.serve_forever()
