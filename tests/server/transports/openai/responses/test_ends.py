"""How responses end: refused, failed, cancelled, cut off, deleted; and what is left of them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from tests.server.transports.openai.responses.stateful import (
    RESPONSES,
    asked,
    client_of,
    error_of,
    scripted_env,
    streamed,
)
from tests.support.live import Fork
from tests.support.upstream_script import complain, fail, say
from tests.support.upstream_server import ScriptedUpstream


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("store", [False, True])
async def test_what_fails_before_the_first_word_is_a_plain_error(
    http: httpx2.AsyncClient, upstream: ScriptedUpstream, stream: bool, store: bool
) -> None:
    upstream.script(fail(404, "No such model", code="model_not_found", param="model"))
    body = asked(stream=stream, store=store, conversation="c" if store else None)
    await http.post("/conversations", json={"id": "c"})
    refused = await http.post(RESPONSES, json=body)
    assert error_of(refused) == (404, "model_not_found", "model")
    assert (await http.get("/conversations/c")).json()["message_count"] == 0
    assert (await http.post(RESPONSES, json={**body, "stream": False})).status_code == 200


async def test_what_fails_behind_it_is_an_event(
    http: httpx2.AsyncClient, upstream: ScriptedUpstream
) -> None:
    error = {"message": "boom", "type": "server_error", "code": None, "param": None}
    upstream.script(complain("Once ", error=error))
    events = await streamed(http, RESPONSES, asked())
    assert events[-1]["type"] == "response.failed"
    failed = events[-1]["response"]
    assert (failed["status"], failed["error"]["code"]) == ("failed", "server_error")
    assert failed["output"][0]["content"][0]["text"] == "Once "
    assert all(one["type"] != "error" for one in events)
    assert (await http.get(f"{RESPONSES}/{failed['id']}")).json() == failed


async def test_one_in_the_background_is_kept_however_it_ends(
    http: httpx2.AsyncClient, upstream: ScriptedUpstream
) -> None:
    upstream.script(fail(400, "Not that"))
    begun = (await http.post(RESPONSES, json=asked(background=True))).json()
    assert (begun["status"], begun["background"], begun["output"]) == ("in_progress", True, [])
    events = await streamed(http, f"{RESPONSES}/{begun['id']}?stream=true")
    assert [one["type"] for one in events] == [
        *("response.created", "response.in_progress", "response.failed")
    ]
    assert events[-1]["response"]["error"]["message"] == "Not that"


async def test_one_in_the_background_is_cancelled(
    client: openai.AsyncOpenAI, upstream: ScriptedUpstream, http: httpx2.AsyncClient
) -> None:
    upstream.script(say("Once upon", asyncio.Event()))
    begun = await client.responses.create(**asked(background=True, stream=True))
    seen = []
    async for event in begun:
        seen.append(event.to_dict())
        if event.type == "response.output_text.delta":
            break
    id_ = str(seen[0]["response"]["id"])
    ended = await client.responses.cancel(id_)
    assert (ended.status, ended.output_text) == ("cancelled", "Once upon")
    assert await client.responses.cancel(id_) == ended
    events = await streamed(http, f"{RESPONSES}/{id_}?stream=true")
    assert events[: len(seen)] == seen
    assert events[-1]["type"] == "response.incomplete"
    assert events[-1]["response"]["status"] == "cancelled"


async def test_others_cannot_be_cancelled(http: httpx2.AsyncClient) -> None:
    made = (await http.post(RESPONSES, json=asked())).json()
    refused = await http.post(f"{RESPONSES}/{made['id']}/cancel")
    assert error_of(refused) == (400, None, None)
    assert "synchronous" in refused.json()["error"]["message"]


@pytest.mark.parametrize(
    ("finish", "reason"), [("length", "max_output_tokens"), ("content_filter", "content_filter")]
)
async def test_an_answer_that_is_cut_is_incomplete(
    client: openai.AsyncOpenAI, upstream: ScriptedUpstream, finish: str, reason: str
) -> None:
    upstream.script(say("Once upon", finish=finish))
    made = await client.responses.create(**asked())
    assert made.status == "incomplete"
    assert made.incomplete_details is not None
    assert made.incomplete_details.reason == reason
    assert made.output[0].to_dict()["status"] == "incomplete"


async def test_a_deleted_one_is_not_found_and_its_conversation_goes_with_the_last(
    client: openai.AsyncOpenAI, http: httpx2.AsyncClient
) -> None:
    raw = await client.responses.with_raw_response.create(**asked("One"))
    conversation, first = raw.headers["x-conversation-id"], raw.parse()
    then = await client.responses.create(**asked("Two", previous_response_id=first.id))
    await client.responses.delete(first.id)
    for method, path in (
        ("GET", ""),
        ("DELETE", ""),
        ("GET", "/input_items"),
        ("POST", "/cancel"),
        ("GET", "?stream=true"),
    ):
        assert (await http.request(method, f"{RESPONSES}/{first.id}{path}")).status_code == 404
    gone = await http.post(RESPONSES, json=asked("x", previous_response_id=first.id))
    assert error_of(gone) == (404, "previous_response_not_found", "previous_response_id")
    assert (await http.get(f"/conversations/{conversation}")).status_code == 200
    answer = await http.delete(f"{RESPONSES}/{then.id}")
    assert answer.json() == {"id": then.id, "object": "response", "deleted": True}
    assert (await http.get(f"/conversations/{conversation}")).status_code == 404


async def test_a_named_conversation_stays(http: httpx2.AsyncClient) -> None:
    await http.post("/conversations", json={"id": "c"})
    made = (await http.post(RESPONSES, json=asked(conversation="c"))).json()
    await http.delete(f"{RESPONSES}/{made['id']}")
    assert (await http.get("/conversations/c")).json()["message_count"] == 2


async def test_a_conversation_is_deleted_with_all_that_runs_in_it(
    http: httpx2.AsyncClient, upstream: ScriptedUpstream
) -> None:
    first = await http.post(RESPONSES, json=asked())
    conversation = first.headers["x-conversation-id"]
    upstream.script(*(say("Once ", asyncio.Event()) for _ in range(3)))
    branch = asked("x", previous_response_id=first.json()["id"], background=True)
    begun = [(await http.post(RESPONSES, json=branch)).json()["id"] for _ in range(3)]
    assert (await http.delete(f"/conversations/{conversation}")).status_code == 204
    for id_ in begun:
        assert (await http.get(f"{RESPONSES}/{id_}")).status_code == 404


async def test_a_response_is_resumed_after_a_crash(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    upstream.script(say("Once upon a time there ", "was a ", asyncio.Event()))
    env = scripted_env(upstream)
    async with Fork(tmp_path, env=env) as server, client_of(server) as client:
        seen: list[dict[str, Any]] = []
        begun = await client.responses.create(**asked(background=True, stream=True))
        async with begun as events:
            async for event in events:
                seen.append(event.to_dict())
                if seen[-1].get("delta") == " was":
                    break
            id_ = seen[0]["response"]["id"]
            server.kill()
            await server.ended()
    async with (
        Fork(tmp_path, env=env) as server,
        httpx2.AsyncClient(base_url=server.http, timeout=60) as http,
    ):
        whole = await streamed(http, f"{RESPONSES}/{id_}?stream=true")
        number = seen[-1]["sequence_number"]
        rest = await streamed(http, f"{RESPONSES}/{id_}?stream=true&starting_after={number}")
        assert whole[-1]["type"] == rest[-1]["type"] == "response.failed"
        kept = [one for one in whole if "done" not in one["type"]][:-2]
        assert kept == seen[: len(kept)]
        assert rest[0]["sequence_number"] == number + 1
        if len(whole) > number + 1:
            assert rest == whole[number + 1 :]
        assert whole[-1]["response"]["error"]["code"] == "server_error"


async def test_an_unhurried_restart_changes_no_event(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    env = scripted_env(upstream)
    async with (
        Fork(tmp_path, env=env) as server,
        httpx2.AsyncClient(base_url=server.http, timeout=60) as http,
    ):
        live = await streamed(http, RESPONSES, asked("日本語 and some words"))
    path = f"{RESPONSES}/{live[0]['response']['id']}?stream=true"
    async with (
        Fork(tmp_path, env=env) as server,
        httpx2.AsyncClient(base_url=server.http, timeout=60) as http,
    ):
        assert await streamed(http, path) == live
