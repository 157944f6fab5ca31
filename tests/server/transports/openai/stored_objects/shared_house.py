"""Two keys, and an upstream with every storing API behind them, for tests of who reaches what."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from server.transports.openai.stored_objects.resources import STORING, Does
from server.upstream.remote.client import UpstreamClient
from tests.server.transports.openai.openai_client import HANDED_ON, Served, member, serving
from tests.support.access import ANN, two_keys
from tests.support.storing_upstream import StoringUpstream
from tests.support.upstream_script import KEY

SECRET = "wheelbarrow"
UNKNOWN = "file-NobodyEverMadeThis00"


@dataclass
class House:
    """A server with two keys over one upstream."""

    served: Served
    upstream: StoringUpstream
    #: by owner, the ids of what it has, by kind
    ids: dict[str, dict[str, str]] = field(default_factory=dict)

    async def send(
        self, who: dict[str, str], method: str, path: str, **given: Any
    ) -> httpx2.Response:
        headers = {**who, **given.pop("headers", {})}
        return await self.served.client.request(method, f"/v1{path}", headers=headers, **given)

    async def furnish(self, name: str, who: dict[str, str]) -> None:
        """Let somebody make one of everything that there is."""
        mine = self.ids.setdefault(name, {})
        makers = [rule for rule in STORING if rule.does is Does.MAKES]
        for rule in sorted(makers, key=lambda rule: rule.path.count("{")):
            path = filled(rule.path, mine)
            body = {"input_file_id": mine["files"]} if rule.made == "batches" else {}
            text = {"instructions": f"{name}'s {SECRET}"}
            response = await self.send(who, "POST", path, json=posted(path, body | text))
            assert response.status_code == 200, (rule.path, response.text)
            answer = response.json()
            mine.setdefault(rule.made, answer["id"])
            self.upstream.files.setdefault(mine.get("files", ""), b"")
            if rule.made == "jobs":
                mine["models"] = answer["fine_tuned_model"]
            if rule.made == "responses":
                mine.setdefault("items", answer["output"][0]["id"])

    def foreign(self, answer: httpx2.Response, tried: object) -> None:
        """Check that an answer shows nothing of Ann's."""
        text = answer.text + str(answer.headers)
        assert SECRET not in text, tried
        for id_ in self.ids["ann"].values():
            assert id_ not in text or id_ in str(tried), tried


def posted(path: str, body: dict[str, Any]) -> dict[str, Any]:
    """Return a body that is handed on to the upstream."""
    return HANDED_ON | body if path == "/responses" else body


def filled(path: str, ids: dict[str, str], nested: str = "inner_1") -> str:
    return re.sub(r"\{([^}]*)\}", lambda hit: nested if hit[1] == "*" else ids[hit[1]], path)


def speaker(upstream: StoringUpstream) -> UpstreamClient:
    return UpstreamClient(api_key=KEY, base_url=upstream.base_url)


@asynccontextmanager
async def shared_house(folder: Path) -> AsyncIterator[House]:
    """Serve Ann, who has one of everything, and Bob, who has nothing."""
    async with (
        StoringUpstream() as upstream,
        serving(folder, [member(speaker(upstream))], two_keys()) as served,
    ):
        house = House(served, upstream)
        await house.furnish("ann", ANN)
        yield house
