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
from storage.sqlite.store import SQLiteStore
from tests.server.transports.websocket.websocket_client import OWNER, Peer, serving
from tests.support.access import locked
from tests.support.fakes import Puppet


async def imported(*messages: tuple[str, str | None, str, str]) -> AsyncIterator[bytes]:
    """Yield a file of a conversation "c", whose messages are: id, parent, role, content."""
    names, then = ("id", "parent_id", "role", "content"), "2024-05-01T10:00:00Z"
    told = [{**dict(zip(names, one, strict=True)), "created_at": then} for one in messages]
    times = {"created_at": then, "updated_at": then}
    there = {"id": "c", "title": "", "messages": told, "head_id": messages[-1][0], **times}
    file = {"format": "trialogue", "version": 1, "conversations": [there]}
    yield json.dumps(file).encode()


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
            '{"type": "ask", "prompt": ' + '{"a":' * 100_000 + "1" + "}" * 100_001,
            '{"type": "ping", "request_id": {"id": 5}}',
            '{"type": "ping", "request_id": ["5"]}',
            '{"type": "ping", "request_id": true}',
            '{"type": "ping", "request_id": 1e999}',
            '{"type": "ping", "request_id": "\\ud800"}',
            json.dumps({"type": "ping", "request_id": "x" * 5000}),
            '{"type": "authenticate", "api_key": "x"}',
        ],
        ids=[
            *("binary", "cut", "nested", "object", "list", "boolean", "infinite", "surrogate"),
            *("long", "late"),
        ],
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

    @pytest.mark.parametrize(
        "request_id",
        ['"r"', '""', '"\\u0000 日"', "7", "0", "-3", "1.5", "18446744073709551615"],
    )
    async def test_a_request_id_is_repeated_as_it_came(self, peer: Peer, request_id: str) -> None:
        await peer.write(f'{{"type": "ping", "request_id": {request_id}}}')
        assert (await peer.read()).endswith(f'"request_id":{request_id}}}')
        for kind in ("follow", "conversation", "dance"):
            await peer.write(f'{{"type": "{kind}", "request_id": {request_id}}}')
            assert (await peer.refusal())["request_id"] == json.loads(request_id)

    @pytest.mark.parametrize(
        ("kind", "fields", "param"),
        [
            ("ask", '"prompt": "a\\ud800b"', "prompt"),
            ("ask", '"content": [{"type": "text", "text": "\\ud800"}]', "content[0]"),
            ("ask", '"prompt": "x", "conversation_id": "\\ud800"', "conversation_id"),
            ("ask", '"prompt": "x", "parent_id": "\\ud800"', "parent_id"),
            ("ask", '"prompt": "x", "model": "\\ud800"', "model"),
            ("ask", '"prompt": "x", "stop": ["\\ud800"]', "stop"),
            ("ask", '"prompt": "x", "system_prompt": "\\ud800"', "system_prompt"),
            ("ask", '"prompt": "x", "idempotency_key": "\\ud800"', "idempotency-key"),
            ("ask", '"prompt": "x", "character": "\\ud800"', "character"),
            ("ask", '"prompt": "x", "prompt_template": "\\ud800"', "prompt_template"),
            ("ask", '"prompt": "x", "if_busy": "\\ud800"', "if_busy"),
            ("ask", '"prompt": "x", "temperature": NaN', "temperature"),
            ("ask", '"prompt": "x", "seed": 1e999', "seed"),
            ("ask", '"prompt": "x", "\\ud800": 1', "?"),
            ("create", '"metadata": {"a": "\\ud800"}', "metadata"),
            ("create", '"title": "\\ud800"', "title"),
            ("create", '"id": "\\ud800"', "id"),
            ("follow", '"turn_id": "\\ud800"', "turn_id"),
            ("watch", '"conversation_id": "\\ud800"', "conversation_id"),
            ("cancel", '"turn_id": "\\ud800"', "turn_id"),
            ("messages", '"leaf": "\\ud800"', "leaf"),
            ("search", '"q": "\\ud800"', "q"),
            ("\\ud800", '"q": "x"', "type"),
        ],
    )
    async def test_what_no_wire_can_carry_is_refused_by_its_field_s_name(
        self, peer: Peer, kind: str, fields: str, param: str
    ) -> None:
        await peer.write(f'{{"type": "{kind}", "request_id": "r", {fields}}}')
        error = await peer.refusal()
        assert (error["request_id"], error["param"]) == ("r", param), error

    async def test_a_key_that_no_wire_can_carry_is_a_wrong_one(
        self, conversations: Conversations
    ) -> None:
        async with (
            serving(conversations, locked("ann:secret")) as served,
            served.stranger() as peer,
        ):
            await peer.write('{"type": "authenticate", "request_id": 3, "api_key": "\\ud800"}')
            error = await peer.refusal()
            assert (error["code"], error["request_id"]) == ("invalid_api_key", 3)

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

    async def test_so_it_does_from_a_message_with_an_id_from_elsewhere(
        self, conversations: Conversations, peer: Peer, upstream: Puppet
    ) -> None:
        good_day = ("first", None, "user", "Good day"), ("a.1", "first", "assistant", "How are you")
        report = await conversations.import_(OWNER, imported(*good_day))
        assert (report.imported, report.failed) == (1, [])
        upstream.answer("one").answer("two").answer("three")
        for said in ("<|ask|>$c$first$Hello", "<|ask|>$c$a.1$Again", "<|ask|>$c$a.2$5"):
            await peer.write(said)
        assert await peer.read() == "one"
        assert re.fullmatch(r"<\|end\|>\$c\$msg_\w+", await peer.read())
        assert await peer.read() == "two"
        assert (await peer.read()).startswith("<|end|>$c$msg_")
        assert [await peer.read() for _ in range(2)] == ["three", "<|end|>"]
        told = [[one.content for one in prompt.messages] for prompt in upstream.prompts]
        assert told[0] == ["Good day\n\nHello"]
        assert told[1] == ["Good day", "How are you", "Again"]
        assert told[2] == [*told[1], "two", "a.2$5"]

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
