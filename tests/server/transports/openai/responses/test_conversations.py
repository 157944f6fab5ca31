"""Conversations and their items, by OpenAI's client and beside every other wire."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2
import openai
import pytest

from tests.server.transports.openai.responses.stateful import (
    CONVERSATIONS,
    TOOLS,
    asked,
    calling,
    error_of,
    roles,
    sent,
)
from tests.support.upstream_script import say
from tests.support.upstream_server import ScriptedUpstream


def user(text: str) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": text}


async def listing(
    http: httpx2.AsyncClient, id_: str, order: str, limit: int
) -> list[dict[str, Any]]:
    """Return all items, page by page."""
    found: list[dict[str, Any]] = []
    after = ""
    while True:
        query = f"order={order}&limit={limit}{after}"
        page = (await http.get(f"{CONVERSATIONS}/{id_}/items?{query}")).json()
        found += page["data"]
        assert (page["first_id"], page["last_id"]) == (
            (page["data"][0]["id"], page["data"][-1]["id"]) if page["data"] else (None, None)
        )
        if not page["has_more"]:
            return found
        assert len(page["data"]) == limit
        after = f"&after={page['last_id']}"


async def test_one_is_made_changed_read_and_deleted(
    client: openai.AsyncOpenAI, http: httpx2.AsyncClient
) -> None:
    made = await client.conversations.create(metadata={"a": "b"}, items=[user("Hello")])  # type: ignore[list-item]
    assert (made.object, made.metadata) == ("conversation", {"a": "b"})
    ours = (await http.get(f"/conversations/{made.id}")).json()
    assert (ours["title"], ours["message_count"], ours["system_prompt"]) == ("Hello", 1, None)
    changed = await client.conversations.update(made.id, metadata={"c": "d"})
    assert changed == await client.conversations.retrieve(made.id)
    assert (changed.metadata, changed.created_at) == ({"c": "d"}, made.created_at)
    gone = await client.conversations.delete(made.id)
    assert (gone.id, gone.object, gone.deleted) == (made.id, "conversation.deleted", True)
    with pytest.raises(openai.NotFoundError):
        await client.conversations.retrieve(made.id)
    assert (await http.post(CONVERSATIONS)).status_code == 200


async def test_metadata_of_other_wires_is_told_as_strings(http: httpx2.AsyncClient) -> None:
    await http.post("/conversations", json={"id": "c", "metadata": {"a": {"b": 1}, "c": "d"}})
    told = (await http.get(f"{CONVERSATIONS}/c")).json()
    assert told["metadata"] == {"a": '{"b": 1}', "c": "d"}


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("limit", [1, 2, 100])
async def test_items_are_listed_in_pages(
    http: httpx2.AsyncClient, upstream: ScriptedUpstream, order: str, limit: int
) -> None:
    upstream.script(calling())
    made = await http.post(
        "/ask/c",
        json={"prompt": "Weather?", "tools": [{"type": "function", "function": {"name": "look"}}]},
    )
    assert made.status_code == 200
    results = [{"tool_call_id": "call_a", "content": "18 C"}]
    await http.post("/ask/c", json={"tool_results": results})
    await http.post("/conversations/c/regenerate", json={})  # the branch of the head alone is told
    found = await listing(http, "c", order, limit)
    kinds = [one["type"] for one in found]
    assert (kinds if order == "asc" else kinds[::-1]) == [
        *("message", "reasoning", "message", "function_call", "function_call_output", "message")
    ]
    assert len({one["id"] for one in found}) == len(found)
    for item in found:
        read = await http.get(f"{CONVERSATIONS}/c/items/{item['id']}")
        assert read.json() == item


async def test_items_are_added_under_the_head_and_sent(
    client: openai.AsyncOpenAI, http: httpx2.AsyncClient, upstream: ScriptedUpstream
) -> None:
    made = await client.conversations.create()
    items: Any = [
        user("One"),
        {"type": "message", "role": "assistant", "content": "Two"},
        {"type": "message", "role": "developer", "content": "Rhyme."},
    ]
    added = await client.conversations.items.create(made.id, items=items)
    shown: list[dict[str, Any]] = [one.to_dict() for one in added.data]
    assert [one["role"] for one in shown] == ["user", "assistant", "developer"]
    assert {one["status"] for one in shown} == {"completed"}
    await client.responses.create(**asked("Three", conversation=made.id))
    assert roles(upstream) == ["system", "user", "assistant", "user"]
    assert len(await listing(http, made.id, "asc", 100)) == 5
    too_many = {"items": [user("x")] * 21}
    refused = await http.post(f"{CONVERSATIONS}/{made.id}/items", json=too_many)
    assert error_of(refused) == (400, "array_above_max_length", "items")


async def test_items_wait_for_a_turn(
    client: openai.AsyncOpenAI, http: httpx2.AsyncClient, upstream: ScriptedUpstream
) -> None:
    made = await client.conversations.create()
    gate = asyncio.Event()
    upstream.script(say("A", gate))
    begun = await client.responses.create(**asked("Q", conversation=made.id, background=True))
    items: Any = [user("Later")]
    adding = asyncio.create_task(client.conversations.items.create(made.id, items=items))
    await upstream.request(0)
    gate.set()
    await adding
    assert (await client.responses.retrieve(begun.id)).status == "completed"
    told = [one["content"][0]["text"] for one in await listing(http, made.id, "asc", 100)]
    assert told == ["Q", "A", "Later"]


async def test_what_is_deleted_is_said_no_more(
    client: openai.AsyncOpenAI, http: httpx2.AsyncClient, upstream: ScriptedUpstream
) -> None:
    upstream.script(calling())
    made = await client.conversations.create()
    first = await client.responses.create(**asked("A secret", conversation=made.id, tools=TOOLS))
    items = await listing(http, made.id, "asc", 100)
    secret, thought, _, call = items
    for item in (secret, thought, call):
        path = f"{CONVERSATIONS}/{made.id}/items/{item['id']}"
        answer = (await http.delete(path)).json()
        assert (answer["id"], answer["object"]) == (made.id, "conversation")
        for method in ("GET", "DELETE"):
            assert error_of(await http.request(method, path))[0] == 404
    left = await listing(http, made.id, "desc", 100)
    assert left == [items[2]]
    await client.responses.create(**asked("Go on", conversation=made.id))
    assert "secret" not in str(sent(upstream))
    assert [one["content"] for one in sent(upstream)][-1] == "Go on"
    assert (await http.get("/search?q=secret")).json()["data"] == []
    again = await client.responses.retrieve(first.id)
    assert [one.type for one in again.output] == ["message"]
    events = [one async for one in await client.responses.retrieve(first.id, stream=True)]
    assert events[-1].type == "response.completed"


async def test_it_is_continued_by_every_wire(
    client: openai.AsyncOpenAI, http: httpx2.AsyncClient, upstream: ScriptedUpstream
) -> None:
    made = await client.conversations.create()
    await http.post(f"/ask/{made.id}", json={"prompt": "One"})
    joined = {"x-conversation-id": made.id}
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Two"}]}
    assert (await http.post("/v1/chat/completions", json=body, headers=joined)).is_success
    await client.responses.create(**asked("Three", conversation=made.id))
    assert roles(upstream) == ["user", "assistant"] * 2 + ["user"]


async def test_they_are_exported_and_imported_with_all_that_they_say(
    client: openai.AsyncOpenAI, http: httpx2.AsyncClient
) -> None:
    made = await client.conversations.create(metadata={"a": "b"})
    items: Any = [{"role": "developer", "content": "Rhyme."}, {"role": "user", "content": "Hi"}]
    first = await client.responses.create(
        **asked(items, conversation=made.id, metadata={"c": "d"}, temperature=0.5)
    )
    before = await listing(http, made.id, "asc", 100)
    file = (await http.get(f"/conversations/{made.id}/export?format=json")).content
    await client.conversations.delete(made.id)
    kind = {"content-type": "application/json"}
    assert (await http.post("/conversations/import", content=file, headers=kind)).is_success
    assert await listing(http, made.id, "asc", 100) == before
    assert await client.responses.retrieve(first.id) == first
