"""An upstream with every storing API, which shows anything to anybody who names it, for tests."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from server.transports.openai.stored_objects.resources import Does, ResourceRule, rule_of


@dataclass
class Seen:
    """One request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    raw: bytes


@dataclass
class Thing:
    """Something that is stored: all that was said when it was made."""

    id: str
    kind: str
    said: str


@dataclass
class StoringUpstream:
    """Stores what is posted; each answer tells what was said of all that its request names.

    Its answers have ids wherever the route table says that there are some. `next_ids` are taken
    for what is made next; `files` are the contents of files.
    """

    seen: list[Seen] = field(default_factory=list)
    things: dict[str, Thing] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    next_ids: list[str] = field(default_factory=list)

    async def __aenter__(self) -> StoringUpstream:
        application = web.Application(client_max_size=64 << 20)
        application.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(application)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        port = self._runner.addresses[0][1]
        self.base_url = f"http://127.0.0.1:{port}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    def said_to(self, start: int) -> str:
        """Return all that it was sent from a moment on."""
        return "".join(f"{one.method} {one.path}\n{one.raw!r}\n" for one in self.seen[start:])

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.seen.append(Seen(request.method, request.raw_path, headers, raw))
        path = request.path.removeprefix("/v1").rstrip("/")
        if path == "/models":
            return web.json_response({"object": "list", "data": []})
        content = re.fullmatch(r"/files/([^/]+)/content", path)
        if content is not None and content[1] in self.files:
            return web.Response(body=self.files[content[1]])
        rule, _ = rule_of(request.method, path) or (None, {})
        everything = f"{request.raw_path} {raw!r}"
        leaked = [one.said for one in self.things.values() if one.id in everything]
        if rule is None:
            leaked += [one.said for one in self.things.values()]
        elif rule.does is Does.LISTS:
            return web.json_response(self._page(rule, request))
        elif rule.does is Does.DELETES:
            self.things.pop(path.rpartition("/")[2], None)
        answer: dict[str, Any] = {"object": "thing", "leaked": leaked}
        if rule is not None:
            self._fill(answer, rule, raw.decode("latin-1"))
        return web.json_response(answer)

    def _page(self, rule: ResourceRule, request: web.Request) -> dict[str, Any]:
        ours = [one for one in reversed(self.things.values()) if one.kind == rule.made]
        after, limit = request.query.get("after"), int(request.query.get("limit", "20"))
        ids = [one.id for one in ours]
        behind = ours[ids.index(after) + 1 :] if after in ids else ours
        data = [{"id": one.id, "leaked": [one.said]} for one in behind[:limit]]
        return {"object": "list", "data": data, "has_more": len(behind) > limit}

    def _fill(self, answer: dict[str, Any], rule: ResourceRule, said: str) -> None:
        for place, kind in rule.places:
            if "@" not in place:
                _put(answer, place.split("."), self.make(kind, said))

    def make(self, kind: str, said: str) -> str:
        """Store something new and return its id."""
        id_ = self.next_ids.pop(0) if self.next_ids else f"{kind[:4]}_{secrets.token_hex(12)}"
        self.things.setdefault(id_, Thing(id_, kind, said))
        return id_


def _put(answer: dict[str, Any], steps: list[str], id_: str) -> None:
    name, *rest = steps
    plain = name.removesuffix("[]")
    inner: Any = id_
    if rest:
        there = answer.get(plain) or {}
        inner = there[0] if isinstance(there, list) else there
        _put(inner, rest, id_)
    answer[plain] = [inner] if name.endswith("[]") else inner
