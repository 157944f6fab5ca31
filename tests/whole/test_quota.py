"""An upstream whose quota is spent is `rate_limit_exceeded` on every wire, with its own code."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from storage.sqlite.store import SQLiteStore
from tests.server.upstream.remote.turn_helpers import asking
from tests.support.live import Served, serve
from tests.support.upstream_script import complain, fail
from tests.support.upstream_server import ScriptedUpstream
from tests.support.wires import WIRES

MESSAGE = "You exceeded your current quota"
SPENT = {"message": MESSAGE, "type": "insufficient_quota", "code": "insufficient_quota"}


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[tuple[Served, ScriptedUpstream]]:
    async with ScriptedUpstream() as upstream, SQLiteStore(tmp_path / "trialogue.db") as store:
        writer = asking(api_key="k", base_url=upstream.base_url)
        async with serve(store, writer) as served:
            yield served, upstream
        await writer.close()


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("late", [False, True])
async def test_a_spent_quota(pair: tuple[Served, ScriptedUpstream], wire: str, late: bool) -> None:
    served, upstream = pair
    refused = fail(429, body={"error": SPENT}, headers={"retry-after": "30"})
    upstream.script(complain("Hel", error=SPENT) if late else refused)
    events = [event async for event in WIRES[wire](served).ask("c", "Hello")]
    assert events[-1].turn is not None
    error = events[-1].turn["error"]
    assert error["code"] == "rate_limit_exceeded"
    assert error["message"] == f"{MESSAGE} (insufficient_quota)"
    assert len(upstream.requests) == 1


async def test_a_plain_ask_is_told_by_its_status(pair: tuple[Served, ScriptedUpstream]) -> None:
    served, upstream = pair
    upstream.script(fail(429, body={"error": SPENT}, headers={"retry-after": "30"}))
    async with httpx2.AsyncClient(base_url=served.http, verify=False) as client:
        response = await client.post("/ask/c", json={"prompt": "Hello"})
    assert (response.status_code, response.headers["retry-after"]) == (429, "30")
    assert response.json()["error"]["code"] == "rate_limit_exceeded"
    assert "insufficient_quota" in response.json()["error"]["message"]
