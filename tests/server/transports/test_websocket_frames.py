"""What websocket clients write: frames that are refused, and the dialect of EasyBackend."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
import structlog

from server.core.conversations import Conversations
from server.upstream.port import UpstreamFailedError
from storage.sqlite import SQLiteStore
from tests.fakes import Puppet
from tests.server.transports.websocket_server import Peer, Served, serving


@pytest.fixture
async def served(conversations: Conversations) -> AsyncIterator[Served]:
    async with serving(conversations) as server:
        yield server


@pytest.fixture
async def peer(served: Served) -> AsyncIterator[Peer]:
    async with served.peer() as peer:
        yield peer


class TestRefusals:
    @pytest.mark.parametrize(
        ("frame", "code", "param"),
        [
            ({"type": "ask"}, "invalid_request", "prompt"),
            ({"type": "ask", "prompt": "x", "content": "x"}, "invalid_request", "prompt"),
            ({"type": "ask", "prompt": "  "}, "invalid_request", "prompt"),
            ({"type": "ask", "prompt": 5}, "invalid_request", "prompt"),
            ({"type": "ask", "prompt": ["x"]}, "invalid_request", "prompt"),
            ({"type": "ask", "prompt": "x", "colour": "red"}, "invalid_request", "colour"),
            (
                {"type": "ask", "prompt": "x", "temperature": "hot"},
                "invalid_request",
                "temperature",
            ),
            ({"type": "ask", "prompt": "x", "temperature": 9}, "invalid_request", "temperature"),
            ({"type": "ask", "prompt": "x", "max_tokens": 1.5}, "invalid_request", "max_tokens"),
            ({"type": "ask", "prompt": "x", "max_tokens": True}, "invalid_request", "max_tokens"),
            ({"type": "ask", "prompt": "x", "seed": 1 << 70}, "invalid_request", "seed"),
            ({"type": "ask", "prompt": "x", "stop": [1]}, "invalid_request", "stop"),
            ({"type": "ask", "prompt": "x", "stream": "yes"}, "invalid_request", "stream"),
            ({"type": "ask", "prompt": "x", "if_busy": "go"}, "invalid_request", "if_busy"),
            (
                {"type": "ask", "prompt": "x", "on_disconnect": 1},
                "invalid_request",
                "on_disconnect",
            ),
            (
                {"type": "ask", "prompt": "x", "conversation_id": "a b"},
                "invalid_request",
                "conversation_id",
            ),
            ({"type": "ask", "prompt": "x", "parent_id": "msg_no"}, "not_found", "parent_id"),
            ({"type": "regenerate", "conversation_id": "no"}, "not_found", "conversation_id"),
            ({"type": "follow"}, "invalid_request", "turn_id"),
            ({"type": "follow", "turn_id": None}, "invalid_request", "turn_id"),
            ({"type": "follow", "turn_id": "no"}, "not_found", "turn_id"),
            ({"type": "follow", "turn_id": "no", "after": -1}, "invalid_request", "after"),
            ({"type": "watch"}, "invalid_request", "conversation_id"),
            ({"type": "watch", "conversation_id": "no"}, "not_found", "conversation_id"),
            (
                {"type": "watch", "conversation_id": "no", "after": "turn_1"},
                "invalid_request",
                "after",
            ),
            ({"type": "cancel"}, "invalid_request", "turn_id"),
            ({"type": "cancel", "turn_id": "no"}, "not_found", "turn_id"),
            ({"type": "ping", "pong": True}, "invalid_request", "pong"),
            ({"type": "dance"}, "invalid_request", "type"),
            ({"type": 5}, "invalid_request", "type"),
            ({}, "invalid_request", "type"),
        ],
    )
    async def test_a_refusal_names_its_frame_and_field_and_the_connection_stays(
        self, peer: Peer, frame: dict[str, Any], code: str, param: str
    ) -> None:
        await peer.write(json.dumps({**frame, "request_id": "r"}))
        error = await peer.refusal()
        assert (error["code"], error["param"], error["request_id"]) == (code, param, "r")
        assert error["message"]
        await peer.say("ping")
        assert (await peer.hear())["type"] == "pong"

    @pytest.mark.parametrize(
        "frame",
        [
            b'{"type": "ping"}',
            '{"type": "ask", "prompt": "x"',
            '{"type": "ask", "prompt": "\\ud800"}',
            '{"type": "ask", "prompt": ' + '{"a":' * 100_000 + "1" + "}" * 100_001,
            '{"type": "ping", "request_id": 5}',
            json.dumps({"type": "ping", "request_id": "x" * 5000}),
            '{"type": "authenticate", "api_key": "x"}',
        ],
        ids=["binary", "cut", "surrogate", "nested", "number", "long", "late"],
    )
    async def test_what_cannot_be_understood_is_refused_and_the_connection_stays(
        self, peer: Peer, frame: str | bytes
    ) -> None:
        await peer.say("ping")
        await peer.hear()
        await peer.write(frame)
        error = await peer.refusal()
        assert error["code"] == "invalid_request"
        assert error["request_id"] is None
        await peer.say("ping")
        assert (await peer.hear())["type"] == "pong"

    async def test_a_busy_conversation_refuses_where_that_is_asked(self, peer: Peer) -> None:
        await peer.say("ask", conversation_id="c", prompt="x")
        await peer.hear()
        await peer.say("ask", request_id="2", conversation_id="c", prompt="x", if_busy="reject")
        error = await peer.refusal()
        assert (error["code"], error["request_id"]) == ("conversation_busy", "2")
        assert error["retry_after"] > 0

    async def test_a_bug_of_ours_is_not_shown(
        self, conversations: Conversations, upstream: Puppet, store: SQLiteStore
    ) -> None:
        async with serving(conversations) as served, served.peer() as peer:
            await store.close()
            with structlog.testing.capture_logs() as logs:
                await peer.say("follow", request_id="r", turn_id="secret")
                error = await peer.refusal()
        assert error["code"] in ("internal", "storage_unavailable")
        assert "secret" not in json.dumps([error, logs])


class TestEasyBackend:
    @pytest.mark.parametrize(
        ("said", "prompt", "end"),
        [
            ("<|ask|>$c$Hello", "Hello", r"<\|end\|>"),
            ("<|ask|>$c$It costs $5 or $6", "It costs $5 or $6", r"<\|end\|>"),
            ("<|ask|>$$Hello", "Hello", r"<\|end\|>"),
            ("<|ask|>$c$$It costs $5", "It costs $5", r"<\|end\|>\$c\$msg_\w+"),
            ("<|ask|>$new$new$Hello", "Hello", r"<\|end\|>\$conv_\w+\$msg_\w+"),
            ("<|ask|>$$$Hello", "Hello", r"<\|end\|>\$conv_\w+\$msg_\w+"),
        ],
    )
    async def test_an_answer_is_bare_text_and_an_end(
        self, peer: Peer, upstream: Puppet, said: str, prompt: str, end: str
    ) -> None:
        upstream.answer("Good day")
        await peer.write(said)
        assert await peer.read() == "Good day"
        assert re.fullmatch(end, await peer.read())
        assert upstream.prompts[0].messages[-1].content == prompt

    async def test_its_second_form_goes_on_from_a_message(
        self, peer: Peer, upstream: Puppet
    ) -> None:
        upstream.answer("one").answer("two").answer("three")
        await peer.write("<|ask|>$c$new$First")
        await peer.read()
        answer_id = (await peer.read()).rpartition("$")[2]
        for question in ("Second", "Third"):
            await peer.write(f"<|ask|>$c${answer_id}${question}")
            await peer.read()
            await peer.read()
        assert [message.content for message in upstream.prompts[2].messages] == [
            "First",
            "one",
            "Third",
        ]

    @pytest.mark.parametrize(
        "said", ["<|ask|>Hello", "<|ask|>$c", "<|ask|>$c$", "<|ask|>$a b$x", "<|ask|>$c$msg_no$x"]
    )
    async def test_a_refusal_is_one_word(self, peer: Peer, said: str) -> None:
        await peer.write(said)
        assert await peer.read() == "<|err|>"

    async def test_so_is_a_failure(self, peer: Peer, upstream: Puppet) -> None:
        upstream.fail(UpstreamFailedError("It broke."))
        await peer.write("<|ask|>$c$Hello")
        assert await peer.read() == "<|err|>"
