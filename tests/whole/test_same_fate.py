"""One reply of an upstream has one fate, whichever door asked for it: kept whole, or broken."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from server.upstream.answering import Answering
from server.upstream.pool import PoolMember
from server.upstream.remote.bounds import Bounds
from server.upstream.remote.client import UpstreamClient
from server.upstream.retry import Retries
from tests.server.transports.openai.openai_client import CHAT, Served, serving
from tests.support.upstream_script import (
    LOADING,
    Behaviour,
    cut,
    document,
    event,
    reset,
    say,
    truncated,
)
from tests.support.upstream_server import ScriptedUpstream
from tests.torture.hostile_messages import MIB

BROKEN = "broken"
#: an eighth of the usual bounds, in their own proportions
EIGHTH = MIB // 8
BOUNDS = Bounds(
    linger=0.2, answer_chars=8 * EIGHTH, answer_bytes=64 * EIGHTH, event_bytes=16 * EIGHTH
)


@dataclass
class House:
    """A server with one upstream, behind both doors."""

    served: Served
    upstream: ScriptedUpstream

    async def conversation(self) -> str:
        turn = await self._post("/ask/new", {"prompt": "Hello"})
        return BROKEN if turn.get("error") else str(turn["finish_reason"])

    async def straight(self) -> str:
        return await self._whole()

    async def stored(self) -> str:
        return await self._whole({"store": True})

    async def joined(self) -> str:
        return await self._whole(headers={"x-conversation-id": "c"})

    async def stream(self) -> str:
        return await self._stream()

    async def stored_stream(self) -> str:
        return await self._stream({"store": True})

    async def joined_stream(self) -> str:
        return await self._stream(headers={"x-conversation-id": "c"})

    async def _whole(self, more: Any = None, headers: Any = None) -> str:
        said = await self._post("/v1/chat/completions", {**CHAT, **(more or {})}, headers)
        return BROKEN if "error" in said else str(said["choices"][0]["finish_reason"])

    async def _stream(self, more: Any = None, headers: Any = None) -> str:
        """Return how a stream ended; one that ends well without a word for it has stopped."""
        body = {**CHAT, "stream": True, **(more or {})}
        response = await self.served.client.post("/v1/chat/completions", json=body, headers=headers)
        *events, last = [one for one in response.text.split("\n\n") if one]
        if last != "data: [DONE]":
            assert '"error"' in last
            return BROKEN
        found = [json.loads(one.removeprefix("data: ")) for one in events]
        ended = [c["finish_reason"] for one in found for c in one["choices"] if c["finish_reason"]]
        return str(ended[-1]) if ended else "stop"

    async def _post(self, path: str, body: Any, headers: Any = None) -> Any:
        return (await self.served.client.post(path, json=body, headers=headers)).json()


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with ScriptedUpstream() as upstream:
        speaker = UpstreamClient(api_key="k", base_url=upstream.base_url, bounds=BOUNDS)
        writer = Answering(speaker, retries=Retries(0))
        async with serving(tmp_path, [PoolMember("scripted", writer, speaker)]) as served:
            yield House(served, upstream)


Door = Callable[[House], Awaitable[str]]
WHOLE: tuple[Door, ...] = (House.straight, House.stored)
STREAMS: tuple[Door, ...] = (House.stream, House.stored_stream, House.joined_stream, House.joined)


@pytest.mark.parametrize("door", WHOLE + STREAMS)
async def test_a_server_that_still_loads_is_waited_for(house: House, door: Door) -> None:
    house.upstream.script(LOADING, LOADING, say("Hello"))
    assert await door(house) == "stop"


def chunk(text: str, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    return event({"choices": [choice]})


def ended(reason: str) -> Behaviour:
    return say("Half an ans", finish=reason)


async def fates(house: House, doors: tuple[Door, ...], reply: Behaviour) -> dict[str, str]:
    found = {}
    for door in doors:
        house.upstream.script(reply)
        found[door.__name__] = await door(house)
    return found


@pytest.mark.parametrize("broken", [cut, truncated, reset], ids=lambda one: one.__name__)
@pytest.mark.parametrize("so_far", [(), (chunk("a", ""),), (chunk("a", "null"),)], ids=str)
async def test_a_stream_that_ends_in_the_middle_is_broken(
    house: House, broken: Callable[..., Behaviour], so_far: tuple[bytes, ...]
) -> None:
    doors = (House.conversation, *STREAMS)
    found = await fates(house, doors, broken("Half an ", *so_far, "ans"))
    assert found == dict.fromkeys(found, BROKEN)


@pytest.mark.parametrize(
    ("word", "fate"),
    [
        *(
            (word, BROKEN)
            for word in ("error", "abort", "cancelled", "insufficient_system_resource")
        ),
        *((word, "length") for word in ("length", "MAX_TOKENS", "model_length")),
        *((word, "content_filter") for word in ("content_filter", "SAFETY")),
        *((word, "stop") for word in ("stop", "STOP", "eos", "end_turn")),
    ],
)
async def test_a_word_for_an_end_means_the_same(house: House, word: str, fate: str) -> None:
    doors = (House.conversation, *STREAMS, *WHOLE)
    found = await fates(house, doors, ended(word))
    assert found == dict.fromkeys(found, fate)


async def test_a_server_that_has_no_word_for_an_end_has_stopped(house: House) -> None:
    found = await fates(house, (House.conversation, *STREAMS), say("All of it", finish=None))
    assert found == dict.fromkeys(found, "stop")


@pytest.mark.parametrize(
    ("reply", "fate"),
    [
        (say(chunk("a" * 2 * EIGHTH), "b"), "stop"),
        (say(chunk("a" * 7 * EIGHTH), "b" * 1_000), "stop"),
        (say(*("a" * EIGHTH for _ in range(8))), "stop"),
        (say(*("a" * EIGHTH for _ in range(8)), "b"), BROKEN),
        (say(b": " + b"a" * 17 * EIGHTH + b"\n\n", "b"), BROKEN),
        (say(event({"choices": [], "padding": "a" * 17 * EIGHTH}), "b"), BROKEN),
        (say(event({"choices": [], "padding": "a" * 15 * EIGHTH}), "b"), "stop"),
    ],
    ids=["2", "7", "8", "more", "comment", "17", "15"],
)
async def test_what_is_too_long_is_so_by_every_door(
    house: House, reply: Behaviour, fate: str
) -> None:
    found = await fates(house, (House.conversation, *STREAMS), reply)
    assert found == dict.fromkeys(found, fate)


@pytest.mark.parametrize(("length", "fate"), [(8 * EIGHTH, "stop"), (8 * EIGHTH + 1, BROKEN)])
async def test_so_is_an_answer_in_one_piece(house: House, length: int, fate: str) -> None:
    said = {"role": "assistant", "content": "a" * length}
    body = {"choices": [{"index": 0, "message": said, "finish_reason": "stop"}]}
    found = await fates(house, (House.conversation, *WHOLE), document(body))
    assert found == dict.fromkeys(found, fate)
