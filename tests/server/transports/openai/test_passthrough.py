"""Models, embeddings, moderations, and everything else that goes by as it is."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import struct
import tracemalloc
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import openai
import pytest
from openai.types import CreateEmbeddingResponse, Model, ModerationCreateResponse

from server.upstream.remote.client import UpstreamClient
from tests.server.transports.openai.openai_client import (
    HANDED_ON,
    Pair,
    connected,
    error_of,
    member,
    passage,
    passing,
    serving,
)
from tests.support.upstream_script import KEY, MODEL, document, fail, flood, hang, wire
from tests.support.upstream_server import ScriptedUpstream


class TestModels:
    async def test_they_are_listed(self, pair: Pair) -> None:
        served, _ = pair
        found = [one async for one in await served.openai.models.list()]
        assert [one.id for one in found] == [MODEL, "davinci-002"]
        for one in found:
            Model.model_validate(one.model_dump(mode="json"), strict=True)
        assert (await served.openai.models.retrieve(MODEL)).id == MODEL

    async def test_a_head_is_asked_for_alone(self, pair: Pair) -> None:
        served, _ = pair
        response = await served.client.head("/v1/models")
        assert (response.status_code, response.content) == (200, b"")

    async def test_one_that_no_list_has_is_the_upstreams_to_know(self, pair: Pair) -> None:
        served, upstream = pair
        with pytest.raises(openai.NotFoundError) as refused:
            await served.openai.models.retrieve("ft:gpt-4o/x y")
        assert refused.value.code == "model_not_found"
        assert upstream.requests[-1].path == "/v1/models/ft%3Agpt-4o%2Fx%20y"

    async def test_aliases_are_listed_and_asked_for(self, tmp_path: Path) -> None:
        async with ScriptedUpstream() as upstream:
            one = member(passage(upstream), models=(), aliases={"fast": MODEL})
            async with serving(tmp_path, [one]) as served:
                found = [model.id async for model in await served.openai.models.list()]
                assert found == ["fast"]
                await served.openai.chat.completions.create(
                    model="fast", messages=[{"role": "user", "content": "hi"}]
                )
                assert upstream.requests[-1].body["model"] == MODEL
                response = await served.client.get("/v1/models/other")
                error_of(response, 404, "model_not_found")

    async def test_one_is_deleted_by_the_upstream(self, pair: Pair) -> None:
        served, upstream = pair
        response = await served.client.delete("/v1/models/ft:mine")
        error_of(response, 404)
        assert upstream.requests[-1].method == "DELETE"


class TestEmbeddings:
    async def test_openais_client_gets_numbers_from_base64(self, pair: Pair) -> None:
        served, upstream = pair
        packed = base64.b64encode(struct.pack("<3f", 0.5, 0.25, -1)).decode()
        usage = {"prompt_tokens": 1, "total_tokens": 1}
        one = {"object": "embedding", "index": 0, "embedding": packed}
        upstream.script(document({"object": "list", "data": [one], "model": "m", "usage": usage}))
        found = await served.openai.embeddings.create(model="m", input=["hi", "you"])
        CreateEmbeddingResponse.model_validate(found.model_dump(mode="json"))
        assert found.data[0].embedding == [0.5, 0.25, -1]
        assert upstream.requests[0].body["encoding_format"] == "base64"

    async def test_a_refusal_is_raised(self, pair: Pair) -> None:
        served, upstream = pair
        upstream.script(fail(400, "too long", code="context_length_exceeded"))
        with pytest.raises(openai.BadRequestError):
            await served.openai.embeddings.create(model="m", input="hi", dimensions=5)


class TestModerations:
    async def test_they_go_by(self, pair: Pair) -> None:
        served, upstream = pair
        upstream.script(document({"id": "modr-1", "model": "m", "results": []}))
        found = await served.openai.moderations.create(input="hi")
        ModerationCreateResponse.model_validate(found.model_dump(mode="json"), strict=True)
        assert upstream.requests[0].body == {"input": "hi"}


class TestAnythingElse:
    async def test_body_path_and_query_go_by_as_they_are(self, pair: Pair) -> None:
        served, upstream = pair
        said = bytes(range(256)) * 10
        upstream.script(document(said, status=201, content_type="audio/mpeg"))
        body = b'{"model": "tts-1",  "input": "hi"}'
        response = await served.client.post(
            "/v1/audio/speech/a%2Fb?x=1&y=%20",
            content=body,
            headers={"content-type": "application/json", "openai-beta": "assistants=v2"},
        )
        assert response.status_code == 201
        assert response.content == said
        assert response.headers["content-type"] == "audio/mpeg"
        assert response.headers["content-length"] == str(len(said))
        found = upstream.requests[0]
        assert found.raw == body
        assert found.path == "/v1/audio/speech/a%2Fb?x=1&y=%20"
        assert found.headers["openai-beta"] == "assistants=v2"
        assert found.headers["authorization"] == f"Bearer {KEY}"

    async def test_every_method_goes_by(self, pair: Pair) -> None:
        served, upstream = pair
        methods = ["GET", "DELETE", "PUT", "PATCH"]
        for method in methods:
            response = await served.client.request(method, "/v1/files/file-1")
            assert response.status_code == 404
        assert [request.method for request in upstream.requests] == methods

    async def test_openais_client_uploads_and_hears(self, pair: Pair) -> None:
        served, upstream = pair
        one = {"id": "file-1", "object": "file", "bytes": 5, "created_at": 1, "filename": "a.txt"}
        upstream.script(document({**one, "purpose": "batch", "status": "processed"}))
        found = await served.openai.files.create(file=("a.txt", b"hello"), purpose="batch")
        assert found.id == "file-1"
        assert upstream.requests[0].headers["content-type"].startswith("multipart/form-data")
        assert b"hello" in upstream.requests[0].raw

    async def test_the_model_in_a_body_chooses_the_upstream(self, tmp_path: Path) -> None:
        async with ScriptedUpstream() as first, ScriptedUpstream() as second:
            members = [
                member(passage(first), "a", models=("gpt-*",)),
                member(passage(second), "b", models=("dall-*",)),
            ]
            async with serving(tmp_path, members) as served:
                second.script(document({}))
                path = "/v1/images/generations"
                body = {"model": "dall-e-3", "prompt": "x"}
                assert (await served.client.post(path, json=body)).status_code == 200
                error_of(
                    await served.client.post(path, json={"model": "?"}), 404, "model_not_found"
                )
                await served.client.get("/v1/files")
                assert [request.path for request in first.requests] == ["/v1/files"]

    async def test_no_path_leads_out_of_the_api(self, pair: Pair) -> None:
        served, upstream = pair
        for path in ("/v1/files/../../admin", "/v1/files/%2e%2e/%2e%2e/admin", "/v1/./files"):
            async with connected(served.port) as wire:
                await wire.post(path, {})
                assert b" 404 " in await wire.head()
        assert upstream.requests == []

    async def test_a_body_that_breaks_is_cut(self, pair: Pair) -> None:
        served, upstream = pair
        head = b"HTTP/1.1 200 OK\r\ncontent-type: audio/mpeg\r\ncontent-length: 99\r\n\r\nabc"
        upstream.script(wire(head))
        async with connected(served.port) as connection:
            await connection.post("/v1/audio/speech", {})
            assert b" 200 " in await connection.head()
            assert await connection.reader.read() == b"abc"

    async def test_a_stream_of_another_kind_that_breaks_is_cut_too(self, pair: Pair) -> None:
        served, upstream = pair
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 99\r\n\r\n"
        upstream.script(wire(head + b"event: response.created\ndata: {"))
        async with connected(served.port) as connection:
            await connection.post("/v1/responses", HANDED_ON)
            await connection.head()
            assert await connection.reader.read() == b"event: response.created\ndata: {"

    async def test_a_client_that_leaves_is_seen(self, pair: Pair) -> None:
        served, upstream = pair
        upstream.script(hang(), flood(b"x" * 9_000, content_type="audio/mpeg"))
        for number in range(2):
            async with connected(served.port) as connection:
                await connection.post("/v1/audio/speech", {})
                found = await upstream.request(number)
                if number:
                    await connection.head()
            await found.gone.wait()

    async def test_a_listing_that_is_left_is_seen(self, tmp_path: Path) -> None:
        sink = Sink()
        async with sink, serving(tmp_path, [member(sink.passage)]) as served:
            sink.silent = True
            async with connected(served.port) as connection:
                await connection.get("/v1/files")
                await sink.came.wait()
            await sink.gone.wait()


@dataclass
class Sink:
    """An upstream that reads a body to its end and keeps nothing of it but its digest."""

    digest: str = ""
    size: int = 0
    silent: bool = False
    head: bytes = b""
    came: asyncio.Event = field(default_factory=asyncio.Event)
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    async def __aenter__(self) -> Sink:
        self._server = await asyncio.start_server(self._take, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.passage = UpstreamClient(api_key=KEY, base_url=f"http://127.0.0.1:{port}/v1")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            self.head = (await reader.readuntil(b"\r\n\r\n")).lower()
            self.came.set()
            if not self.silent:
                await self._digest(reader)
                body = b'{"id":"file-1"}'
                answer = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
                writer.write(answer + b"content-length: %d\r\n\r\n" % len(body) + body)
            await reader.read(1)
        self.gone.set()
        writer.close()

    async def _digest(self, reader: asyncio.StreamReader) -> None:
        length = int(self.head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        digest = hashlib.sha256()
        while self.size < length:
            piece = await reader.read(min(1 << 16, length - self.size))
            if not piece:
                raise asyncio.IncompleteReadError(b"", length)
            digest.update(piece)
            self.size += len(piece)
        self.digest = digest.hexdigest()


class TestUploads:
    @pytest.mark.parametrize("megabytes", [25, 100])
    async def test_a_large_one_passes_in_constant_memory(
        self, tmp_path: Path, megabytes: int
    ) -> None:
        digest = hashlib.sha256()

        async def body() -> AsyncIterator[bytes]:
            for number in range(megabytes * 16):
                piece = bytes([number % 251]) * (1 << 16)
                digest.update(piece)
                yield piece

        sink = Sink()
        async with sink, serving(tmp_path, [member(sink.passage)]) as served:
            headers = {
                "content-length": str(megabytes << 20),
                "content-type": "multipart/form-data; boundary=x",
            }
            tracemalloc.start()
            try:
                response = await served.client.post("/v1/files", content=body(), headers=headers)
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
        assert response.json() == {"id": "file-1"}
        assert sink.digest == digest.hexdigest()
        assert b"transfer-encoding" not in sink.head
        assert peak < 8 << 20

    async def test_too_large_a_one_is_refused_by_its_length(self, tmp_path: Path) -> None:
        flags = {"max_upload_bytes": "1KB", "max_body_bytes": "100B"}
        async with passing(tmp_path, **flags) as (served, upstream):
            response = await served.client.post("/v1/files", content=b"x" * 2000)
            message = error_of(response, 413, "request_too_large")["message"]
            assert "TRIALOGUE_MAX_UPLOAD_BYTES" in message
            body = {"model": "m", "messages": [{"role": "user", "content": "x" * 100}]}
            response = await served.client.post("/v1/chat/completions", json=body)
            message = error_of(response, 413, "request_too_large")["message"]
            assert "TRIALOGUE_MAX_BODY_BYTES" in message
            assert upstream.requests == []

    async def test_and_by_its_bytes(self, tmp_path: Path) -> None:
        async def body() -> AsyncIterator[bytes]:
            for _ in range(10):
                yield b"x" * 1000

        async with passing(tmp_path, max_upload_bytes="5000B", max_body_bytes="100B") as (
            served,
            _,
        ):
            for path in ("/v1/files", "/v1/chat/completions"):
                response = await served.client.post(path, content=body())
                error_of(response, 413, "request_too_large")

    async def test_a_client_that_leaves_in_the_middle_is_seen(self, tmp_path: Path) -> None:
        sink = Sink()
        async with sink, serving(tmp_path, [member(sink.passage)]) as served:
            async with connected(served.port) as connection:
                await connection.post("/v1/files", {"x": "y" * 1000}, less=500)
                await sink.came.wait()
            await sink.gone.wait()
            assert sink.digest == ""
