"""The websocket wire, as its clients see it: sockets, core and database are real."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing

import pytest
import structlog

from server.core.conversations import Conversations
from server.core.turns.questions import Ask
from server.live.turn import Started
from server.upstream.port import Finish, Prompt, UpstreamFailedError
from storage.model import Status, Turn
from storage.port import NotFoundError
from tests.server.transports.websocket.websocket_client import OWNER, Peer, Served, said, serving
from tests.support.fakes import Puppet


class Echo:
    """An upstream that answers with the prompt, once it may speak."""

    name = "echo"

    def __init__(self) -> None:
        self.may_speak = asyncio.Event()

    async def complete(self, prompt: Prompt) -> AsyncIterator[str | Finish]:
        await self.may_speak.wait()
        yield str(prompt.messages[-1].content)
        yield Finish("stop")

    async def close(self) -> None: ...


async def begin(peer: Peer, **ask: str) -> str:
    """Ask, and return the id of the turn once it has begun."""
    await peer.say("ask", **{"prompt": "x", **ask})
    started = await peer.hear()
    assert started["type"] == "turn.started", started
    return str(started["turn_id"])


async def settled(conversations: Conversations, turn_id: str) -> Turn:
    """Return a turn once it has ended."""
    async for _ in conversations.follow(OWNER, turn_id):
        pass
    return await conversations.turn(OWNER, turn_id)


class TestAsking:
    async def test_an_answer_is_written_under_the_eyes_of_its_asker(
        self, peer: Peer, upstream: Puppet
    ) -> None:
        await peer.say("ask", request_id="1", conversation_id="c1", prompt="Hello")
        started = await peer.hear()
        assert (started["type"], started["conversation_id"]) == ("turn.started", "c1")
        assert (started["cursor"], started["turn"]["status"]) == (0, "running")
        upstream.say("Hé")
        delta = await peer.hear()
        turn_id = started["turn_id"]
        assert delta == {
            "type": "turn.delta",
            "conversation_id": "c1",
            "turn_id": turn_id,
            "cursor": 2,
            "text": "Hé",
            "request_id": "1",
        }
        upstream.say("llo 🎉").finish()
        rest = await peer.hear_to_the_end("1")
        assert said(rest) == "llo 🎉"
        assert rest[-1]["turn"]["status"] == "completed"
        assert rest[-1]["turn"]["answer"] == "Héllo 🎉"
        assert rest[-1]["cursor"] == 7

    async def test_bare_text_is_a_prompt_in_the_connections_own_conversation(
        self, served: Served, conversations: Conversations, upstream: Puppet
    ) -> None:
        async with served.stranger() as peer:
            own = (await peer.hear())["conversation_id"]
            with pytest.raises(NotFoundError):  # nothing is kept until something is asked
                await conversations.get(OWNER, own)
            upstream.answer("one").answer("two")
            await peer.write("Hello $ there")
            first = await peer.hear_to_the_end()
            await peer.say("ask", prompt="And then?")
            second = await peer.hear_to_the_end()
        assert {event["conversation_id"] for event in first + second} == {own}
        assert "request_id" not in first[0]
        assert [message.content for message in upstream.prompts[1].messages] == [
            "Hello $ there",
            "one",
            "And then?",
        ]

    async def test_an_address_names_the_connections_own_conversation(
        self, served: Served, upstream: Puppet
    ) -> None:
        async with served.stranger("?conversation_id=mine") as peer:
            assert (await peer.hear())["conversation_id"] == "mine"
            upstream.answer("yes")
            await peer.write("Hello")
            assert (await peer.hear())["conversation_id"] == "mine"

    async def test_new_is_a_fresh_conversation(self, peer: Peer, upstream: Puppet) -> None:
        upstream.answer("one").answer("two")
        ids = set()
        for _ in range(2):
            await peer.say("ask", conversation_id="new", prompt="x")
            ids.add((await peer.hear_to_the_end())[0]["conversation_id"])
        assert len(ids) == 2

    @pytest.mark.parametrize("text", ["[1, 2]", "5", '"quoted"', "null", "{x | x > 0}", "{"])
    async def test_text_that_is_no_json_object_is_a_prompt(
        self, peer: Peer, upstream: Puppet, text: str
    ) -> None:
        upstream.answer("ok")
        await peer.write(text)
        assert said(await peer.hear_to_the_end()) == "ok"
        assert upstream.prompts[0].messages[-1].content == text

    async def test_every_field_of_an_ask_reaches_the_upstream(
        self, peer: Peer, upstream: Puppet
    ) -> None:
        upstream.answer("ok")
        await peer.say(
            "ask",
            content=[{"type": "text", "text": "Hello"}],
            model="gpt-4.1",
            system_prompt="Be brief.",
            stream=True,
            max_tokens=5,
            temperature=1,
            top_p=0.5,
            seed=-7,
            stop="END",
            if_busy="interrupt",
            idempotency_key=None,
        )
        await peer.hear_to_the_end()
        prompt = upstream.prompts[0]
        assert (prompt.model, prompt.max_tokens, prompt.temperature) == ("gpt-4.1", 5, 1)
        assert (prompt.top_p, prompt.seed, prompt.stop) == (0.5, -7, ("END",))
        assert prompt.messages[0].content == "Be brief."

    async def test_one_idempotency_key_is_one_turn(self, peer: Peer, upstream: Puppet) -> None:
        upstream.answer("once")
        turns = set()
        for request in ("1", "2"):
            await peer.say(
                "ask", request_id=request, conversation_id="c", prompt="x", idempotency_key="k"
            )
            turns.add((await peer.hear_to_the_end(request))[-1]["turn_id"])
        assert len(turns) == 1

    async def test_another_answer_is_written_to_the_same_question(
        self, peer: Peer, upstream: Puppet
    ) -> None:
        upstream.answer("one").answer("two")
        await peer.say("ask", conversation_id="c", prompt="x")
        first = (await peer.hear_to_the_end())[-1]["turn"]
        await peer.say(
            "regenerate", request_id="2", conversation_id="c", message_id=first["answer_id"]
        )
        second = (await peer.hear_to_the_end("2"))[-1]["turn"]
        assert second["question_id"] == first["question_id"]
        assert second["answer"] == "two"

    async def test_a_failure_is_an_ending(self, peer: Peer, upstream: Puppet) -> None:
        upstream.say("Hal").fail(UpstreamFailedError("It broke."))
        await peer.say("ask", prompt="x", request_id="1")
        ended = (await peer.hear_to_the_end("1"))[-1]
        assert ended["turn"]["status"] == "failed"
        assert ended["turn"]["error"] == {"code": "upstream_failed", "message": "It broke."}

    async def test_a_connection_is_proved_by_a_ping(self, peer: Peer) -> None:
        await peer.say("ping", request_id="é\n")
        assert await peer.hear() == {"type": "pong", "request_id": "é\n"}


class TestManyAtOnce:
    @pytest.fixture
    def upstream(self) -> Echo:
        return Echo()

    async def test_many_turns_run_at_once_on_one_connection(
        self, peer: Peer, upstream: Echo
    ) -> None:
        for name in "abc":
            await peer.say("ask", request_id=name, conversation_id=name, prompt=name)
        started = {(await peer.hear())["request_id"] for _ in "abc"}
        upstream.may_speak.set()
        heard = [await peer.hear() for _ in range(6)]
        assert started == {"a", "b", "c"}
        for name in "abc":
            assert said([event for event in heard if event["request_id"] == name]) == name

    async def test_bare_answers_come_one_after_the_other(self, peer: Peer, upstream: Echo) -> None:
        for name in "abc":
            await peer.write(f"<|ask|>${name}${name}")
        upstream.may_speak.set()
        heard = [await peer.read() for _ in range(6)]
        assert heard == ["a", "<|end|>", "b", "<|end|>", "c", "<|end|>"]


class TestFollowing:
    async def test_a_turn_is_followed_from_a_cursor_on_another_connection(
        self, served: Served, peer: Peer, upstream: Puppet
    ) -> None:
        turn_id = await begin(peer)
        upstream.say("Hello ")
        await peer.hear()
        async with served.peer() as other:
            await other.say("follow", request_id="f", turn_id=turn_id, after=2)
            assert (await other.hear())["cursor"] == 2
            assert (await other.hear())["text"] == "llo "
            upstream.say("world").finish()
            rest = await other.hear_to_the_end("f")
        assert said(rest) == "world"

    async def test_a_turn_that_ended_is_followed_the_same(
        self, peer: Peer, upstream: Puppet
    ) -> None:
        upstream.answer("Hello")
        await peer.say("ask", prompt="x")
        turn_id = (await peer.hear_to_the_end())[-1]["turn_id"]
        await peer.say("follow", turn_id=turn_id)
        events = await peer.hear_to_the_end()
        assert [event["type"] for event in events] == ["turn.started", "turn.delta", "turn.ended"]
        assert said(events) == "Hello"

    async def test_a_watcher_hears_every_turn_whoever_asks(
        self, served: Served, peer: Peer, conversations: Conversations, upstream: Puppet
    ) -> None:
        await conversations.create(OWNER, id="c")
        await peer.say("watch", request_id="w", conversation_id="c")
        await peer.say("ping")
        await peer.hear()
        async with served.peer() as other:
            upstream.answer("one").answer("two")
            for answer in ("one", "two"):
                await other.say("ask", conversation_id="c", prompt="x")
                assert said(await peer.hear_to_the_end("w")) == answer

    async def test_a_watcher_goes_on_where_it_was(self, peer: Peer, upstream: Puppet) -> None:
        upstream.answer("one").answer("two")
        await peer.say("ask", conversation_id="c", prompt="x")
        first = (await peer.hear_to_the_end())[-1]
        await peer.say("ask", conversation_id="c", prompt="x")
        await peer.hear_to_the_end()
        seen = f"{first['turn_id']}:{first['cursor']}"
        await peer.say("watch", request_id="w", conversation_id="c", after=seen)
        # Its end again: the last delta and the end have the same position.
        assert (await peer.hear_to_the_end("w"))[-1]["turn"] == first["turn"]
        assert said(await peer.hear_to_the_end("w")) == "two"

    async def test_unwatching_ends_it_and_watching_again_replaces_it(
        self, peer: Peer, conversations: Conversations, upstream: Puppet
    ) -> None:
        await conversations.create(OWNER, id="c")
        for name in ("first", "second"):
            await peer.say("watch", request_id=name, conversation_id="c")
        await peer.say("unwatch", conversation_id="c")
        await peer.say("unwatch", conversation_id="never watched")
        upstream.answer("one")
        await peer.say("ask", request_id="a", conversation_id="c", prompt="x")
        events = [await peer.hear() for _ in range(3)]
        assert [event["request_id"] for event in events] == ["a"] * 3
        await peer.say("ping")
        assert (await peer.hear())["type"] == "pong"


class TestCancelling:
    async def test_cancel_answers_with_the_end_of_the_turn(
        self, served: Served, peer: Peer, upstream: Puppet
    ) -> None:
        turn_id = await begin(peer)
        upstream.say("Half")
        await peer.hear()
        async with served.peer() as other:
            await other.say("cancel", request_id="x", turn_id=turn_id)
            ended = await other.hear()
        assert (ended["type"], ended["request_id"]) == ("turn.ended", "x")
        assert (ended["turn"]["status"], ended["turn"]["answer"]) == ("cancelled", "Half")
        assert (await peer.hear())["turn"]["status"] == "cancelled"

    async def test_a_turn_outlives_its_asker(
        self, served: Served, conversations: Conversations, upstream: Puppet
    ) -> None:
        async with served.peer() as peer:
            turn_id = await begin(peer)
        upstream.answer("whole")
        assert (await settled(conversations, turn_id)).answer == "whole"

    async def test_a_turn_ends_with_its_askers_connection_where_that_is_asked(
        self, served: Served, conversations: Conversations
    ) -> None:
        async with served.peer() as peer:
            turn_id = await begin(peer, on_disconnect="cancel")
        assert (await settled(conversations, turn_id)).status is Status.CANCELLED

    @pytest.mark.parametrize(
        ("on_disconnect", "status"), [("continue", Status.COMPLETED), ("cancel", Status.CANCELLED)]
    )
    async def test_an_asker_may_leave_before_its_turn_is_begun(
        self,
        served: Served,
        conversations: Conversations,
        upstream: Puppet,
        on_disconnect: str,
        status: Status,
    ) -> None:
        upstream.answer("first")
        first = await settled(conversations, (await conversations.ask(OWNER, "c", Ask("x"))).id)
        async with served.peer() as peer:
            await peer.say("ask", conversation_id="c", prompt="y", on_disconnect=on_disconnect)
        async with aclosing(conversations.watch(OWNER, "c", after=(first.id, 5))) as events:
            # The end of the first is told again before.
            *_, started = [await anext(events) for _ in range(3)]
        assert isinstance(started, Started)
        if status is Status.COMPLETED:
            upstream.answer("second")
        assert (await settled(conversations, started.turn.id)).status is status

    async def test_a_cancel_is_done_though_the_peer_leaves_at_once(
        self, served: Served, conversations: Conversations
    ) -> None:
        turn = await conversations.ask(OWNER, "c", Ask("x"))
        async with served.peer() as peer:
            await peer.say("cancel", turn_id=turn.id)
        assert (await settled(conversations, turn.id)).status is Status.CANCELLED


class TestTheEnd:
    async def test_a_drain_refuses_asks_tells_how_turns_ended_and_closes_with_1001(
        self, conversations: Conversations, upstream: Puppet
    ) -> None:
        async with serving(conversations) as served, served.peer() as peer:
            await begin(peer, request_id="1")
            draining = asyncio.create_task(conversations.drain(60))
            while not conversations.draining:
                await asyncio.sleep(0)
            await peer.say("ask", request_id="2", prompt="y")
            error = await peer.refusal()
            assert (error["code"], error["request_id"]) == ("draining", "2")
            upstream.answer("whole")
            await draining
            leaving = asyncio.create_task(served.listener.__aexit__(None, None, None))
            assert said(await peer.hear_to_the_end("1")) == "whole"
            assert await peer.close_code() == 1001
            await leaving

    async def test_leaving_closes_with_1001(self, conversations: Conversations) -> None:
        async with AsyncExitStack() as clients:
            async with serving(conversations) as served:
                peer = await clients.enter_async_context(served.peer())
                await begin(peer)
            assert await peer.close_code() == 1001
            with pytest.raises(ConnectionRefusedError):
                await clients.enter_async_context(served.peer())

    async def test_a_peer_that_leaves_in_the_middle_is_no_news(
        self, conversations: Conversations, upstream: Puppet, caplog: pytest.LogCaptureFixture
    ) -> None:
        with structlog.testing.capture_logs() as logs:
            async with serving(conversations) as served:
                async with served.peer() as peer:
                    await begin(peer)
                    upstream.say("Half")
                    await peer.hear()
                    peer.socket.transport.abort()
                upstream.answer("whole")
                async with served.peer() as other:
                    await other.write("x")
                    await other.hear()
        assert not caplog.records
        assert [log for log in logs if log["log_level"] != "info"] == []
