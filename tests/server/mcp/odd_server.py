"""An MCP server that speaks the bare protocol, and is odd."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

OBJECT = {"type": "object"}
TOOLS: list[dict[str, Any]] = [
    {"name": name, "inputSchema": OBJECT}
    for name in ("say it/loud.ly", "say_it_loud_ly", "x" * 90, "end", "change", "hang", "garble")
] + [{"name": "large", "description": "x" * 100_000, "inputSchema": OBJECT}]


def tell(**message: Any) -> None:
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def call(name: str) -> dict[str, Any]:
    if name == "end":
        os._exit(1)
    if name == "garble":
        sys.stdout.write("what was asked, and no JSON\n")
    if name == "change":
        TOOLS.append({"name": "new", "inputSchema": OBJECT})
        tell(method="notifications/tools/list_changed")
    image = {"type": "image", "data": "", "mimeType": "image/png"}
    return {"content": [{"type": "text", "text": "loud\u0000"}, image]}


def answer(request: dict[str, Any]) -> dict[str, Any] | None:
    match request["method"]:
        case "initialize":
            told = request["params"]["protocolVersion"]
            about = {"name": "odd", "version": "1"}
            can = {"tools": {"listChanged": True}}
            return {"protocolVersion": told, "capabilities": can, "serverInfo": about}
        case "tools/list":
            return {"tools": TOOLS}
        case "tools/call":
            name = request["params"]["name"]
            return None if name == "hang" else call(name)
    return None


for line in sys.stdin:
    request = json.loads(line)
    if "id" not in request or (
        request["method"] == "tools/call" and request["params"]["name"] == "hang"
    ):
        continue
    if (result := answer(request)) is not None:
        tell(id=request["id"], result=result)
    else:
        tell(id=request["id"], error={"code": -32601, "message": "no such method"})
