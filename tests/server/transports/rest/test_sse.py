"""Server-sent events as they stand on the wire, and what becomes of a turn behind them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest

from server.core.conversations import Conversations
from server.transports.rest.schemas import TurnShape
from server.transports.rest.sse import KEEP_ALIVE_SECONDS
from server.upstream.port import UpstreamFailedError
from tests.server.transports.rest.http_client import (
    Client,
    Events,
    Served,
    Told,
    connected,
    exact,
    refused,
    request,
    running,
    serving,
    text_of,
    told,
)
from tests.support.fakes import Puppet


@asynccontextmanager
async def streaming(client: Client, **body: Any) -> AsyncIterator[Events]:
    """Ask, and read the events of the answer."""
    asked = {"prompt": "Hello", "stream": True, **body}
    async with client.stream("POST", "/ask/c1", json=asked) as response:
        yield Events(response)


@asynccontextmanager
async def following(client: Client, path: str, seen: str | None = None) -> AsyncIterator[Events]:
    headers = {} if seen is None else {"last-event-id": seen}
    async with client.stream("GET", path, headers=headers) as response:
        yield Events(response)


def kinds(events: list[Told]) -> list[str]:
    return [event.kind.removeprefix("turn.") for event in events]


class TestAsking:
    async def test_an_answer_is_written_under_the_eyes_of_its_asker(
        self, client: Client, upstream: Puppet
    ) -> None:
        async with streaming(client) as events:
            started = await events.next()
            assert (started.kind, started.cursor) == ("turn.started", 0)
            assert exact(TurnShape, started.data["turn"])["status"] == "running"
            upstream.say("Hé")
            first = await events.next()
            assert (first.data["text"], first.cursor) == ("Hé", 2)
            upstream.say("llo 🎉").finish()
            second, ended = await events.rest()
        assert (second.data["text"], second.cursor) == ("llo 🎉", 7)
        assert first.data.keys() == {"type", "conversation_id", "turn_id", "cursor", "text"}
        turn = exact(TurnShape, ended.data["turn"])
        assert ended.data.keys() == started.data.keys()
        assert (turn["status"], turn["answer"], ended.cursor) == ("completed", "Héllo 🎉", 7)
        assert {event.data["turn_id"] for event in (started, first, second)} == {turn["id"]}
        assert first.data["conversation_id"] == "c1"

    @pytest.mark.parametrize(
        ("accept", "stream", "streamed"),
        [
            ("text/event-stream", None, True),
            ("text/event-stream", False, True),
            ("Text/Event-Stream;charset=utf-8", None, True),
            ("application/json, text/event-stream;q=0.5", None, True),
            ("text/event-stream;q=0, application/json", None, False),
            ("application/json, text/event-stream ; Q=0.000", None, False),
            ("application/json;profile=text/event-stream", None, False),
            ("text/event-stream2", None, False),
            ("application/json", False, False),
            ("application/json", True, True),
            ("*/*", None, False),
        ],
    )
    @pytest.mark.parametrize("path", ["/ask/c1", "/conversations/c1/regenerate"])
    async def test_a_stream_is_asked_for(
        self,
        client: Client,
        upstream: Puppet,
        path: str,
        accept: str,
        stream: bool | None,
        streamed: bool,
    ) -> None:
        upstream.answer("One").answer("Two")
        body: dict[str, Any] = {} if stream is None else {"stream": stream}
        headers = {"accept": accept}
        await client.post("/ask/c1", json={"prompt": "Hello"})
        asked = {"prompt": "Hello", **body} if path == "/ask/c1" else body
        response = await client.post(path, json=asked, headers=headers)
        if streamed:
            assert response.text.count("event: turn.ended") == 1
        else:
            assert exact(TurnShape, response.json())["answer"] == "Two"

    async def test_it_is_not_to_be_kept_or_held_back_on_the_way(
        self, client: Client, upstream: Puppet
    ) -> None:
        upstream.answer("One")
        response = await client.post("/ask/c1", json={"prompt": "Hello", "stream": True})
        assert response.headers["cache-control"] == "no-cache, no-transform"
        assert response.headers["x-accel-buffering"] == "no"
        assert "content-length" not in response.headers
        assert response.headers["x-request-id"]

    async def test_a_refusal_is_no_stream(self, client: Client) -> None:
        response = await client.post("/ask/c1", json={"prompt": " ", "stream": True})
        refused(response, 400, "invalid_request")

    async def test_a_failure_is_an_ending(self, client: Client, upstream: Puppet) -> None:
        upstream.say("Well").fail(UpstreamFailedError("It broke."))
        async with streaming(client) as events:
            heard = await events.rest()
        turn = heard[-1].data["turn"]
        assert (turn["status"], turn["answer"]) == ("failed", "Well")
        assert turn["error"] == {"code": "upstream_failed", "message": "It broke."}

    async def test_it_has_no_line_ends_but_its_own(self, client: Client, upstream: Puppet) -> None:
        """Many clients split at what Python takes for the end of a line."""
        answer = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029\ufeff"
        upstream.say(answer).finish()
        response = await client.post("/ask/c1", json={"prompt": "Hello", "stream": True})
        assert response.text.splitlines() == response.text.split("\n")[:-1]
        assert orjson.loads(response.text.splitlines()[-2][6:])["turn"]["answer"] == answer

    async def test_each_event_is_one_write(self, served: Served, upstream: Puppet) -> None:
        body = b'{"prompt": "Hello", "stream": true}'
        async with connected(served.port) as wire:
            await wire.send(request("POST", "/ask/c1", body))
            await wire.until(b"\r\n\r\n")
            heard = [await wire.chunk()]
            for piece in ("a", "b\n\nc", "d" * 200_000):
                upstream.say(piece)
                heard.append(await wire.chunk())
            upstream.finish()
            heard += [await wire.chunk(), await wire.chunk()]
        *events, end = heard
        assert end == b""
        assert all(chunk.endswith(b"}\n\n") for chunk in events)
        read = [told(chunk.decode().removesuffix("\n\n")) for chunk in events]
        assert kinds(read) == ["started", "delta", "delta", "delta", "ended"]
        assert text_of(read) == "ab\n\nc" + "d" * 200_000


class TestLeaving:
    async def test_the_turn_goes_on(self, client: Client, upstream: Puppet) -> None:
        async with streaming(client) as events:
            turn_id = (await events.next()).data["turn_id"]
        upstream.answer("All the same")
        async with following(client, f"/turns/{turn_id}/events") as events:
            assert text_of(await events.rest()) == "All the same"

    async def test_the_turn_ends_where_that_was_asked_for(
        self, client: Client, upstream: Puppet
    ) -> None:
        async with streaming(client, on_disconnect="cancel") as events:
            turn_id = (await events.next()).data["turn_id"]
            upstream.say("Half")
            await events.next()
        async with following(client, f"/turns/{turn_id}/events") as events:
            heard = await events.rest()
        assert (heard[-1].data["turn"]["status"], text_of(heard)) == ("cancelled", "Half")
        assert upstream.closed == 1

    async def test_hearing_the_end_is_no_leaving(self, client: Client, upstream: Puppet) -> None:
        upstream.answer("One")
        async with streaming(client, on_disconnect="cancel") as events:
            heard = await events.rest()
        assert heard[-1].data["turn"]["status"] == "completed"

    async def test_one_who_reads_nothing_keeps_nobody_waiting(
        self, served: Served, client: Client, upstream: Puppet
    ) -> None:
        body = b'{"prompt": "Hello", "stream": true}'
        async with connected(served.port) as deaf:
            await deaf.send(request("POST", "/ask/c1", body))
            await upstream.asked(1)
            turn_id = await running(client)
            async with following(client, f"/turns/{turn_id}/events") as events:
                await events.next()
                for _ in range(8):
                    upstream.say("word " * 100_000)
                    await events.next()
                upstream.finish()
                assert (await events.rest())[-1].cursor == 4_000_000


class TestFollowing:
    @pytest.mark.parametrize("by", ["after", "last-event-id"])
    @pytest.mark.parametrize("live", [True, False])
    async def test_it_begins_at_a_cursor(
        self, client: Client, upstream: Puppet, by: str, live: bool
    ) -> None:
        upstream.say("Hé🎉", "llo")
        async with streaming(client) as events:
            started = await events.next()
            heard = [await events.next()]
            while heard[-1].cursor < 6:
                heard.append(await events.next())
            if not live:
                upstream.finish()
                await events.rest()
        path, seen = f"/turns/{started.data['turn_id']}/events", None
        if by == "after":
            path += "?after=3"
        else:
            seen = f"{started.data['turn_id']}:3"
        async with following(client, path, seen) as events:
            begun, delta = await events.next(), await events.next()
            if live:
                upstream.finish()
            (ended,) = await events.rest()
        assert (begun.kind, begun.cursor) == ("turn.started", 3)
        assert (delta.data["text"], delta.cursor) == ("llo", 6)
        assert (ended.kind, ended.cursor) == ("turn.ended", 6)

    async def test_the_address_counts_more_than_what_was_seen(
        self, client: Client, upstream: Puppet
    ) -> None:
        upstream.answer("Hello")
        turn_id = (await client.post("/ask/c1", json={"prompt": "x"})).json()["id"]
        async with following(client, f"/turns/{turn_id}/events?after=0", f"{turn_id}:4") as events:
            assert text_of(await events.rest()) == "Hello"

    @pytest.mark.parametrize("after", [5, 6, 1 << 62])
    async def test_behind_the_end_there_is_the_end(
        self, client: Client, upstream: Puppet, after: int
    ) -> None:
        upstream.answer("Hello")
        turn_id = (await client.post("/ask/c1", json={"prompt": "x"})).json()["id"]
        async with following(client, f"/turns/{turn_id}/events?after={after}") as events:
            assert kinds(await events.rest()) == ["started", "ended"]

    @pytest.mark.parametrize("after", ["-1", "x", "1.5", "", str(1 << 63), "9" * 5000])
    async def test_a_cursor_is_a_number(self, client: Client, after: str) -> None:
        error = refused(await client.get(f"/turns/t/events?after={after}"), 400, "invalid_request")
        assert error["param"] == "after"

    @pytest.mark.parametrize("seen", ["x", ":1", "t:", "t:x", "t:-1", "t:" + "9" * 19, "t:١"])
    async def test_what_was_seen_is_a_turn_and_a_cursor(self, client: Client, seen: str) -> None:
        headers = {b"last-event-id": seen.encode()}
        for path in ("/turns/t/events", "/conversations/c1/events"):
            response = await client.get(path, headers=headers)
            assert refused(response, 400, "invalid_request")["param"] == "last-event-id"

    async def test_what_was_seen_is_of_this_turn(self, client: Client, upstream: Puppet) -> None:
        upstream.answer("Hello")
        turn_id = (await client.post("/ask/c1", json={"prompt": "x"})).json()["id"]
        headers = {"last-event-id": "turn_other:0"}
        response = await client.get(f"/turns/{turn_id}/events", headers=headers)
        refused(response, 400, "invalid_request")


class TestWatching:
    async def test_every_turn_is_heard_whoever_asks(self, client: Client, upstream: Puppet) -> None:
        upstream.say("On")
        async with streaming(client) as asked:
            await asked.next()
            async with following(client, "/conversations/c1/events") as events:
                heard = [await events.next(), await events.next()]
                upstream.say("e").finish().answer("Two")
                await client.post("/ask/c1", json={"prompt": "B"})
                while kinds(heard).count("ended") < 2:
                    heard.append(await events.next())
        ends = [event.data["turn"]["answer"] for event in heard if event.kind == "turn.ended"]
        assert ends == ["One", "Two"]
        assert kinds(heard).count("started") == 2

    async def test_one_comes_back_and_has_missed_nothing(
        self, client: Client, upstream: Puppet
    ) -> None:
        for word in ("One", "Two", "Three"):
            upstream.answer(word)
        turns = [
            (await client.post("/ask/c1", json={"prompt": "x"})).json()["id"] for _ in range(3)
        ]
        path = "/conversations/c1/events"
        async with following(client, path, f"{turns[0]}:1") as events:
            heard = [await events.next() for _ in range(9)]
        assert text_of(heard[:3]) == "ne"
        assert [event.data["turn_id"] for event in heard] == [t for t in turns for _ in range(3)]
        # The last delta and the end have one position: who has seen it is told of the end again.
        async with following(client, path, f"{turns[0]}:3") as events:
            heard = [await events.next() for _ in range(3)]
        assert kinds(heard) == ["started", "ended", "started"]
        assert [event.data["turn_id"] for event in heard] == [turns[0], turns[0], turns[1]]

    async def test_only_this_conversation_is_heard(self, client: Client, upstream: Puppet) -> None:
        upstream.answer("A secret of c1").answer("Two")
        elsewhere = (await client.post("/ask/c1", json={"prompt": "x"})).json()["id"]
        await client.post("/ask/c2", json={"prompt": "y"})
        headers = {"last-event-id": f"{elsewhere}:0"}
        async with client.stream("GET", "/conversations/c2/events", headers=headers) as response:
            assert response.status_code in (400, 404)

    async def test_there_must_be_something_to_watch(self, client: Client) -> None:
        refused(await client.get("/conversations/c1/events"), 404, "not_found")
        await client.post("/conversations", json={"id": "c1"})
        response = await client.get(
            "/conversations/c1/events", headers={"last-event-id": "turn_x:0"}
        )
        refused(response, 404, "not_found")

    async def test_a_drain_ends_it(self, served: Served, client: Client) -> None:
        await client.post("/conversations", json={"id": "c1"})
        async with following(client, "/conversations/c1/events") as events:
            await served.conversations.drain(0)
            assert await events.rest() == []


class TestSilence:
    async def test_a_comment_shows_that_we_are_there(
        self, conversations: Conversations, upstream: Puppet
    ) -> None:
        async with (
            serving(conversations, keep_alive=0.02) as served,
            connected(served.port) as wire,
        ):
            await wire.send(request("POST", "/ask/c1", b'{"prompt": "x", "stream": true}'))
            await wire.until(b"\r\n\r\n")
            chunks = [await wire.chunk() for _ in range(3)]
            assert chunks[1:] == [b": still here\n\n"] * 2
            upstream.answer("One")
            while b"turn.ended" not in chunks[-1]:
                chunks.append(await wire.chunk())
        events = [chunk.decode()[:-2] for chunk in chunks if not chunk.startswith(b":")]
        assert text_of([told(event) for event in events]) == "One"

    def test_it_comes_before_proxies_lose_patience(self) -> None:
        assert KEEP_ALIVE_SECONDS == 15
