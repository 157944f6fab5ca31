"""A server that stops in the middle of an answer: what who waits is told, and who asks again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.support.live import Fork
from tests.support.upstream_script import MODEL, say, stall
from tests.support.upstream_server import ScriptedUpstream
from tests.support.wires import WIRES, RefusedError
from tests.whole.listening import checked

ONCE = {"idempotency-key": "k"}
PLAIN = ("plain", "joined", "joined stream")


def server_of(folder: Path, upstream: ScriptedUpstream, *words: str) -> Fork:
    asked = {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": upstream.base_url}
    return Fork(folder, *words, env={**asked, "TRIALOGUE_MODEL": MODEL})


@asynccontextmanager
async def talking(server: Fork) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=server.http, timeout=60, verify=False) as client:
        yield client


async def post(server: Fork, way: str) -> httpx2.Response:
    """Ask where no event is told before its time."""
    said = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}
    async with talking(server) as client:
        if way == "plain":
            return await client.post("/ask/c", json={"prompt": "Hi"}, headers=ONCE)
        body: dict[str, Any] = {**said, "stream": way == "joined stream"}
        headers = {**ONCE, "x-conversation-id": "c"}
        return await client.post("/v1/chat/completions", json=body, headers=headers)


async def ask(server: Fork, way: str) -> str:
    """Ask, and return the whole answer."""
    if way in WIRES:
        end = checked([one async for one in WIRES[way](server, once="k").ask("c", "Hi")]).turn
        assert end is not None
        assert end["status"] == "completed"
        return str(end["answer"])
    response = await post(server, way)
    assert response.status_code == 200, response.text
    match way:
        case "plain":
            assert response.json()["status"] == "completed"
            return str(response.json()["answer"])
        case "joined":
            return str(response.json()["choices"][0]["message"]["content"])
        case _:
            assert response.text.endswith("data: [DONE]\n\n")
            return "Whole." if '"Whole."' in response.text else response.text


@pytest.mark.parametrize("way", [*WIRES, *PLAIN])
async def test_a_retry_after_a_crash_has_the_question_answered_anew(
    tmp_path: Path, way: str
) -> None:
    async with ScriptedUpstream(models=(MODEL,)) as upstream:
        upstream.script(stall("Half"), say("Whole."))
        async with server_of(tmp_path, upstream) as server:
            asking = asyncio.create_task(ask(server, way))
            await upstream.request(0)
            server.kill()
            with pytest.raises((httpx2.HTTPError, RefusedError, AssertionError)):
                await asking
        async with server_of(tmp_path, upstream) as server:
            assert await asyncio.gather(*(ask(server, way) for _ in range(3))) == ["Whole."] * 3
            assert await ask(server, way) == "Whole."
            first, second = [request.body["messages"] for request in upstream.requests]
            assert first == second == [{"role": "user", "content": "Hi"}]
            for wire in WIRES.values():
                told = await wire(server).messages("c")
                assert told == [("user", "Hi"), ("assistant", "Whole.")]


@pytest.mark.parametrize("way", PLAIN)
async def test_who_waits_when_the_server_stops_is_told_to_ask_again(
    tmp_path: Path, way: str
) -> None:
    async with ScriptedUpstream(models=(MODEL,)) as upstream:
        upstream.script(stall("Half" if way != "joined stream" else ""), say("Whole."))
        async with server_of(tmp_path, upstream, "--drain-seconds", "0.5") as server:
            asking = asyncio.create_task(post(server, way))
            await upstream.request(0)
            server.terminate()
            told = await asking
            assert await server.ended() == 0
        if way != "joined stream":
            assert told.status_code == 503, told.text
            assert told.headers["retry-after"] == "5"
            error = told.json()["error"]
            assert error["message"].startswith("The server was stopped")
            if way == "plain":
                assert (error["code"], error["turn_id"][:5]) == ("draining", "turn_")
        else:
            assert "The server was stopped" in told.text
            assert "[DONE]" not in told.text
        async with server_of(tmp_path, upstream) as server:
            assert await ask(server, way) == "Whole."


async def test_an_interrupted_answer_written_anew_is_no_answer_either(tmp_path: Path) -> None:
    async with ScriptedUpstream(models=(MODEL,)) as upstream:
        upstream.script(say("One."), stall("Half"))
        async with server_of(tmp_path, upstream, "--drain-seconds", "0.5") as server:
            assert await ask(server, "plain") == "One."
            async with talking(server) as client:
                asking = asyncio.create_task(client.post("/conversations/c/regenerate", json={}))
                await upstream.request(1)
                server.terminate()
                told = await asking
        assert told.status_code == 503
        assert told.json()["error"]["code"] == "draining"
