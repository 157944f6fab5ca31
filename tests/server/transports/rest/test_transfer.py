"""Whole conversations in and out over REST: headers, bounds, refusals, and clients that leave."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import structlog

from server.core.access.auth import EVERYONE
from server.core.conversations import Ask, Conversations
from storage.port import NotFoundError
from tests.server.core.archive.chatgpt_sample import WHOLE, conversation, node
from tests.server.transports.rest.http_client import Served, connected, refused, request, serving
from tests.support.access import locked
from tests.support.fakes import Puppet

IMPORT = "/conversations/import"


def chats(*names: str) -> list[dict[str, Any]]:
    """Return conversations of ChatGPT's, a message each."""
    return [
        conversation(node(place, None), id=name, conversation_id=name)
        for place, name in enumerate(names)
    ]


class TestExport:
    @pytest.mark.parametrize(
        ("kind", "media", "name", "start"),
        [
            ("json", "application/json", "trialogue.json", '{"format":"trialogue","version":1,'),
            ("jsonl", "application/jsonl", "trialogue.jsonl", '{"messages":['),
            ("markdown", "text/markdown; charset=utf-8", "trialogue.md", "# "),
        ],
    )
    async def test_a_file_says_what_it_is(
        self, served: Served, upstream: Puppet, kind: str, media: str, name: str, start: str
    ) -> None:
        upstream.answer("Yes, 日本")
        turn = await served.conversations.ask(EVERYONE, "c", Ask("Is it?"))
        async for _ in served.conversations.follow(EVERYONE, turn.id):
            pass
        whole = await served.client.get("/export", params={"format": kind})
        one = await served.client.get("/conversations/c/export", params={"format": kind})
        assert whole.content == one.content
        assert whole.headers["content-type"] == media
        assert whole.headers["content-disposition"] == f'attachment; filename="{name}"'
        assert whole.text.startswith(start)
        assert "日本" in whole.text

    async def test_a_refusal_comes_before_the_first_byte(self, served: Served) -> None:
        refused(await served.client.get("/conversations/none/export"), 404, "not_found")
        for path in ("/export", "/conversations/none/export"):
            answer = await served.client.get(path, params={"format": "pdf"})
            assert refused(answer, 400, "invalid_request")["param"] == "format"

    async def test_everybody_carries_their_own(self, conversations: Conversations) -> None:
        async with serving(conversations, locked("a:1,b:2")) as served:
            keys = [{"authorization": f"Bearer {key}"} for key in "12"]
            for headers in keys:
                answer = await served.client.post(IMPORT, json=chats("c"), headers=headers)
                assert answer.json()["imported"] == 1
            await served.client.delete("/conversations/c", headers=keys[0])
            counts = []
            for headers in keys:
                whole = await served.client.get("/export", headers=headers)
                counts.append(len(whole.json()["conversations"]))
            assert counts == [0, 1]
            for answer in (await served.client.get("/export"), await served.client.post(IMPORT)):
                refused(answer, 401, "invalid_api_key")


class TestImport:
    async def test_a_file_may_be_larger_than_a_body(self, conversations: Conversations) -> None:
        bounds: dict[str, Any] = {"max_body_bytes": "2000", "max_upload_bytes": "200000"}
        async with serving(conversations, **bounds) as served:
            names = [f"c{number}" for number in range(40)]
            body = json.dumps(chats(*names)).encode()
            assert 2_000 < len(body) < 200_000

            async def chunked() -> AsyncIterator[bytes]:
                for start in range(0, len(body), 999):
                    yield body[start : start + 999]

            for content, told in ((body, (40, 0)), (chunked(), (0, 40))):
                report = (await served.client.post(IMPORT, content=content)).json()
                assert (report["imported"], report["unchanged"]) == told
            too_large = await served.client.post(IMPORT, content=body * 10)
            error = refused(too_large, 413, "request_too_large")
            assert "TRIALOGUE_MAX_UPLOAD_BYTES" in error["message"]

    @pytest.mark.parametrize("body", [b"[]", b"{}"])
    async def test_nothing_is_nothing(self, served: Served, body: bytes) -> None:
        report = (await served.client.post(IMPORT, content=body)).json()
        assert (report["imported"], report["failed"]) == (0, [])

    @pytest.mark.parametrize("body", [b"", b"PK\x03\x04", b'"text"', b'{"a": 1}', b"[1, 2"])
    async def test_a_file_that_nobody_understands(self, served: Served, body: bytes) -> None:
        answer = await served.client.post(IMPORT, content=body)
        assert "Only JSON is understood" in refused(answer, 400, "invalid_request")["message"]

    async def test_a_bad_conversation_is_named_and_stops_no_other(self, served: Served) -> None:
        first, last = chats("a", "b")
        report = (
            await served.client.post(IMPORT, json=[first, {**WHOLE, "mapping": 5}, last])
        ).json()
        assert (report["imported"], report["failed_count"]) == (2, 1)
        (failed,) = report["failed"]
        assert (failed["index"], failed["id"]) == (1, WHOLE["id"])
        assert failed["reason"]

    async def test_a_draining_server_takes_none(self, served: Served) -> None:
        await served.conversations.drain(0)
        refused(await served.client.post(IMPORT, json=chats("a")), 503, "draining")

    async def test_a_client_that_leaves_is_no_fault_and_what_was_kept_stays(
        self, served: Served
    ) -> None:
        body = json.dumps(chats("a", "b", "c")).encode()
        with structlog.testing.capture_logs() as logs:
            async with connected(served.port) as wire:
                # All of "a", and "b" but for its end.
                await wire.send(request("POST", IMPORT, body)[: -len(body) // 3 - 100])
                while not await _is_there(served, "a"):
                    await asyncio.sleep(0)
            while not (told := [log for log in logs if log.get("route") == IMPORT]):
                await asyncio.sleep(0)
        assert [log["status"] for log in told] == [499]
        assert "error" not in {log["log_level"] for log in logs}
        assert not await _is_there(served, "b")
        report = (await served.client.post(IMPORT, content=body)).json()
        assert (report["imported"], report["unchanged"]) == (2, 1)


async def _is_there(served: Served, conversation_id: str) -> bool:
    try:
        await served.conversations.get(EVERYONE, conversation_id)
    except NotFoundError:
        return False
    return True


@pytest.mark.parametrize("odd", ["1000000000000000000000000000000", "Infinity", "1e999"])
@pytest.mark.parametrize("where", ["metadata", "content", "create", "change"])
async def test_a_number_that_cannot_be_read_back_is_not_kept(
    served: Served, upstream: Puppet, where: str, odd: str
) -> None:
    upstream.answer("Fine.")
    turn = await served.conversations.ask(EVERYONE, "c", Ask("Well?"))
    async for _ in served.conversations.follow(EVERYONE, turn.id):
        pass
    raw = {"content-type": "application/json"}
    change = f'{{"metadata": {{"n": {odd}}}}}'.encode()
    if where == "create":
        answer = await served.client.post("/conversations", content=change, headers=raw)
        assert answer.status_code == 400
    elif where == "change":
        answer = await served.client.patch("/conversations/c", content=change, headers=raw)
        assert answer.status_code == 400
    else:
        file = (await served.client.get("/export")).text
        assert (await served.client.delete("/conversations/c")).status_code == 204
        part = f'"content":[{{"type":"text","text":"Well?","n":{odd}}}]'
        for whole, broken in (
            ('"metadata":{}', change[1:-1].decode()),
            ('"content":"Well?"', part),
        ):
            if whole.startswith(f'"{where}'):
                assert whole in file
                file = file.replace(whole, broken)
        report = (await served.client.post(IMPORT, content=file, headers=raw)).json()
        assert len(report["failed"]) == 1, report
    for url in ("/conversations", "/conversations/c/messages", "/search?q=Well"):
        assert (await served.client.get(url)).status_code < 500
