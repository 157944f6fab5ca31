"""Search over REST, gRPC and websocket: any words, filters and pages, and all wires agree."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import Any

import grpc
import httpx2
import pytest
from trialogue.v1 import conversation_pb2 as pb
from trialogue.v1.conversation_pb2_grpc import ConversationServiceStub
from websockets.asyncio.client import connect

from server.core.access.auth import EVERYONE
from storage.model import Role
from storage.sqlite.store import SQLiteStore
from tests.storage.nouns import DAY, conversation, message
from tests.support.fakes import Parrot
from tests.support.live import Served, serve

TEXTS = (
    "私は日本に住んでいます",
    "The elephant is grey",
    'She said "grey elephants" twice',
    "Ein Bär, sagt sie",
    "日本 is Japan",
    "50% of C++ is a\\b",
)


@pytest.fixture
async def served(store: SQLiteStore) -> AsyncIterator[Served]:
    """Serve conversations a and b with the same texts; message n was made on day n of 1970."""
    for name in "ab":
        said = [
            message(
                f"{name}{day}",
                role=(Role.USER, Role.ASSISTANT)[day % 2],
                content=text,
                conversation_id=name,
                created_at=day * DAY,
            )
            for day, text in enumerate(TEXTS)
        ]
        await store.put(EVERYONE, conversation(name, title=f"Talk {name}"), said, [])
    async with serve(store, Parrot()) as server:
        yield server


async def search(served: Served, **asked: Any) -> dict[str, Any]:
    """Search on every wire, and return what all of them said."""
    found = [await wire(served, asked) for wire in (_rest, _websocket, _grpc)]
    assert found == [found[0]] * 3
    return found[0]


async def ids(served: Served, q: str, **filters: Any) -> list[str]:
    return sorted(hit["message"] for hit in (await search(served, q=q, **filters))["hits"])


@pytest.mark.parametrize(
    ("q", "days"),
    [
        ("日本", [0, 4]),
        ("本", [0, 4]),
        ("日本に住", [0]),
        ("日本 japan", [4]),
        ("lepha", [1, 2]),
        ("ELEPH grey", [1, 2]),
        ("grey elephants", [2]),
        ('"grey', [2]),
        ('"grey elephants"', [2]),
        ("ba", [3]),
        ("Bä", [3]),
        ("sie, sagt", []),
        ("sagt sie", [3]),
        ("C++", [5]),
        ("a\\b", [5]),
        ("50%", [5]),
        ("elephant -grey", []),
        ("NOT elephant", []),
        ('"', []),
        ("'); DROP TABLE messages; --", []),
    ],
)
async def test_all_words_or_pieces_of_words_are_found(
    served: Served, q: str, days: list[int]
) -> None:
    assert await ids(served, q) == [f"{name}{day}" for name in "ab" for day in days]


async def test_a_snippet_marks_what_was_found(served: Served) -> None:
    (hit,) = (await search(served, q="本に", conversation_id="b"))["hits"]
    assert hit["snippet"] == "私は日«本に»住んでいます"
    assert (hit["conversation_id"], hit["title"]) == ("b", "Talk b")


async def test_titles_are_found_too(served: Served) -> None:
    (hit,) = (await search(served, q="talk b"))["hits"]
    assert (hit["conversation_id"], hit["snippet"]) == ("b", "«Talk» b")
    assert (await search(served, q="talk", role="user"))["hits"] == []


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({"role": "user"}, ["a2", "b2"]),
        ({"role": "tool"}, []),
        ({"conversation_id": "b"}, ["b1", "b2"]),
        ({"conversation_id": "b", "role": "assistant"}, ["b1"]),
        ({"conversation_id": "none"}, []),
        ({"created_after": "1970-01-03T00:00:00Z"}, ["a2", "b2"]),
        ({"created_after": "1970-01-03T00:00:00.000001Z"}, []),
        ({"created_before": "1970-01-03T01:00:00+01:00"}, ["a1", "b1"]),
        ({"created_before": "1970-01-03T00:00:00.000001Z"}, ["a1", "a2", "b1", "b2"]),
        (
            {"created_after": "1970-01-02T00:00:00Z", "created_before": "1970-01-02T12:00:00Z"},
            ["a1", "b1"],
        ),
    ],
)
async def test_filters_narrow_it(served: Served, filters: dict[str, str], found: list[str]) -> None:
    assert await ids(served, "elephant", **filters) == found


@pytest.mark.parametrize("limit", [1, 7, 100])
async def test_pages_end_and_repeat_nothing(served: Served, store: SQLiteStore, limit: int) -> None:
    # More than are ranked at a time, so that a page begins in one window and ends in another.
    count = 20 if limit == 1 else 230
    many = [
        message(f"m{n}", content="zebra " * (n % 3 + 1), conversation_id="many", created_at=n)
        for n in range(count)
    ]
    await store.put(EVERYONE, conversation("many", title="zebra"), many, [])
    seen: list[str] = []
    more, after = True, dict[str, str]()
    while more:
        page = await search(served, q="zebra", limit=limit, **after)
        assert 0 < len(page["hits"]) <= limit
        seen += [hit["message"] for hit in page["hits"]]
        more, after = page["more"], {"after": page["last"]}
    assert sorted(seen) == sorted(one.id for one in many)


@pytest.mark.parametrize("behind", ["nope", "", "a0"])
async def test_a_page_behind_what_is_not_found_is_refused_on_every_wire(
    served: Served, behind: str
) -> None:
    asked = {"q": "elephant", "after": behind}
    async with httpx2.AsyncClient(base_url=served.http) as client:
        answer = await client.get("/search", params=asked)
    refused = {"code": "not_found", "param": "after"}
    assert (answer.status_code, answer.json()["error"] | refused) == (404, answer.json()["error"])
    async with connect(served.websocket, proxy=None) as socket:
        await socket.recv()
        await socket.send(json.dumps({"type": "search", **asked}))
        told = json.loads(await socket.recv())["error"]
    assert told | refused == told
    if behind:  # to gRPC an empty string is none
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await _grpc(served, asked)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_another_owners_messages_are_not_found(served: Served, store: SQLiteStore) -> None:
    secret = message("s", content="elephant secret", conversation_id="s")
    await store.put("somebody else", conversation("s", title="elephant"), [secret], [])
    assert await ids(served, "secret") == []
    assert await ids(served, "elephant") == ["a1", "a2", "b1", "b2"]


def _told(hit: Mapping[str, Any]) -> dict[str, Any]:
    named = {name: hit[name] for name in ("conversation_id", "title", "snippet", "score")}
    return {**named, "message": hit["message"]["id"]}


def _page(body: Mapping[str, Any]) -> dict[str, Any]:
    hits = [_told(hit) for hit in body["data"]]
    return {"hits": hits, "more": body["has_more"], "last": body["last_id"]}


async def _rest(served: Served, asked: Mapping[str, Any]) -> dict[str, Any]:
    async with httpx2.AsyncClient(base_url=served.http) as client:
        answer = await client.get("/search", params=dict(asked))
    assert answer.status_code == 200, answer.text
    return _page(answer.json())


async def _websocket(served: Served, asked: Mapping[str, Any]) -> dict[str, Any]:
    async with connect(served.websocket, proxy=None) as socket:
        await socket.recv()
        await socket.send(json.dumps({"type": "search", **asked}))
        told = json.loads(await socket.recv())
    assert told["type"] == "search", told
    return _page(told)


async def _grpc(served: Served, asked: Mapping[str, Any]) -> dict[str, Any]:
    request = pb.SearchMessagesRequest()
    for name, value in asked.items():
        if name.startswith("created"):
            getattr(request, name).FromDatetime(datetime.fromisoformat(value))
        else:
            setattr(request, name, value)
    async with grpc.aio.insecure_channel(served.grpc) as channel:
        stub: Any = ConversationServiceStub(channel)  # type: ignore[no-untyped-call]
        found = await stub.SearchMessages(request)
    hits = [
        {
            "conversation_id": hit.conversation_id,
            "title": hit.title,
            "snippet": hit.snippet,
            "score": hit.score,
            "message": hit.message.id,
        }
        for hit in found.hits
    ]
    return {"hits": hits, "more": found.has_more, "last": hits[-1]["message"] if hits else None}
