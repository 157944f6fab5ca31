"""Parameters beside OpenAI's own reach an upstream from every wire, under one spelling."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx2
import pytest
from google.protobuf.struct_pb2 import Struct

from server.upstream.answering import Answering
from server.upstream.port import Prompt
from server.upstream.remote.client import UpstreamClient, limit_name
from storage.model import PromptMessage, Role
from tests.support.live import Fork
from tests.support.upstream_server import ScriptedUpstream
from tests.support.wires import WIRES, RefusedError

GIVEN = {
    "top_k": 40,
    "min_p": 0.05,
    "repeat_penalty": 1.1,
    "repeat_last_n": 64,
    "prompt_batch_size": 8,
}
SENT = {name: value for name, value in GIVEN.items() if name != "prompt_batch_size"}


def extra(wire: str, value: dict[str, Any]) -> Any:
    if wire != "grpc":
        return value
    struct = Struct()
    struct.update(value)
    return struct


@pytest.mark.parametrize("wire", WIRES)
async def test_they_are_passed_on(tmp_path: Path, wire: str) -> None:
    async with ScriptedUpstream() as upstream:
        table = {"name": "local", "base_url": upstream.base_url}
        env = {"TRIALOGUE_UPSTREAMS": json.dumps([table]), "TRIALOGUE_MODEL": "gpt-4o-mini"}
        async with Fork(tmp_path, env=env) as server:
            speak = WIRES[wire](server)
            more = extra(wire, {"mirostat": 2})
            async for _ in speak.ask("c", "Hello", **GIVEN, extra=more):
                pass
            async for _ in speak.regenerate("c", top_k=5):
                pass
            with pytest.raises(RefusedError, match="invalid_request"):
                async for _ in speak.ask("c", "Hello", extra=extra(wire, {"stream": False})):
                    pass
            with pytest.raises(RefusedError, match="invalid_request"):
                async for _ in speak.ask("c", "Hello", min_p=2.0):
                    pass
    bodies = [one.body for one in upstream.requests if one.method == "POST"]
    asked, again = bodies
    assert {name: asked.get(name) for name in SENT} == SENT
    assert asked["mirostat"] == 2
    assert asked["stream"] is True
    assert "prompt_batch_size" not in asked
    assert again["top_k"] == 5


@pytest.mark.parametrize("route", ["/v1/chat/completions", "/ask/c"])
async def test_an_older_spelling_is_taken(tmp_path: Path, route: str) -> None:
    body: dict[str, Any] = {"repeat_penality": 1.3, "prompt_batch_size": 4}
    body |= (
        {"prompt": "Hello"}
        if route == "/ask/c"
        else {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}]}
    )
    async with ScriptedUpstream() as upstream:
        env = {"OPENAI_BASE_URL": upstream.base_url, "TRIALOGUE_MODEL": "gpt-4o-mini"}
        async with Fork(tmp_path, env=env) as server, httpx2.AsyncClient(timeout=60) as client:
            assert (await client.post(f"{server.http}{route}", json=body)).status_code == 200
    (sent,) = [one.body for one in upstream.requests if one.method == "POST"]
    assert sent["repeat_penalty"] == 1.3
    assert not {"repeat_penality", "prompt_batch_size"} & set(sent)


@pytest.mark.parametrize("wire", WIRES)
async def test_it_is_taken_on_every_wire(tmp_path: Path, wire: str) -> None:
    given: dict[str, Any] = {"repeat_penality": 1.3}
    if wire == "grpc":
        given = {"extra": extra(wire, given)}
    async with ScriptedUpstream() as upstream:
        env = {"OPENAI_BASE_URL": upstream.base_url, "TRIALOGUE_MODEL": "gpt-4o-mini"}
        async with Fork(tmp_path, env=env) as server:
            async for _ in WIRES[wire](server).ask("c", "Hello", **given):
                pass
    (sent,) = [one.body for one in upstream.requests if one.method == "POST"]
    assert sent["repeat_penalty"] == 1.3


async def test_openai_itself_is_not_sent_what_it_refuses() -> None:
    extra = {"top_k": 40, "logit_bias": {"1": 2}}
    prompt = Prompt("gpt-4o", (PromptMessage(Role.USER, "Hello"),), extra=extra)
    async with ScriptedUpstream() as server:
        client = UpstreamClient(api_key=None, base_url=server.base_url)
        own = limit_name("https://api.openai.com/v1")
        for limit in (own, "max_tokens"):
            async for _ in Answering(client, limit_name=limit).complete(prompt):
                pass
        await client.close()
    sent = [one.body.keys() & {"top_k", "logit_bias"} for one in server.requests]
    assert sent == [{"logit_bias"}, {"top_k", "logit_bias"}]
