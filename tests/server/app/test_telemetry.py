"""Spans: what is sent of requests and turns, for whom they are, and that nothing is unasked."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx2
import pytest
import structlog
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from trialogue.v1 import conversation_pb2 as pb
from trialogue.v1.conversation_pb2_grpc import ConversationServiceStub
from websockets.asyncio.client import connect

from server.app.telemetry import OpenTelemetry, traces_of, wanted
from server.core.observability.traces import NoTraces
from server.upstream.port import UpstreamFailedError
from storage.model import Usage
from storage.sqlite.store import SQLiteStore
from tests.support.collector import Collector
from tests.support.fakes import Puppet
from tests.support.live import Fork, Served, serve

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"


@pytest.mark.parametrize(
    ("environ", "is_wanted", "is_told"),
    [
        ({}, False, False),
        ({"OTEL_SERVICE_NAME": "chat"}, False, False),
        ({ENDPOINT: "http://collector:4318"}, True, False),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"}, True, False),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True, False),
        ({ENDPOINT: "http://c:4318", "OTEL_TRACES_EXPORTER": "none"}, False, False),
        ({ENDPOINT: "http://c:4318", "OTEL_SDK_DISABLED": "true"}, False, False),
        ({ENDPOINT: "http://c:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, False, True),
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, False, True),
    ],
)
def test_the_usual_variables_say_whether_spans_are_sent(
    environ: dict[str, str], is_wanted: bool, is_told: bool
) -> None:
    with structlog.testing.capture_logs() as lines:
        assert wanted(environ) is is_wanted
    assert [line["log_level"] for line in lines] == ["warning"] * is_told


async def test_unasked_nothing_is_told() -> None:
    loaded = set(sys.modules)
    async with traces_of({}) as traces:
        assert isinstance(traces, NoTraces)
    assert set(sys.modules) == loaded


async def test_without_the_extra_one_line_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in [*sys.modules, "opentelemetry.exporter"]:
        if name.startswith(("opentelemetry.sdk", "opentelemetry.exporter")):
            monkeypatch.setitem(sys.modules, name, None)
    with structlog.testing.capture_logs() as lines:
        async with traces_of({ENDPOINT: "http://127.0.0.1:1"}) as traces:
            assert isinstance(traces, NoTraces)
    (line,) = lines
    assert "pip install 'trialogue[telemetry]'" in line["event"]


@asynccontextmanager
async def traced(folder: Path, upstream: Puppet) -> AsyncIterator[tuple[Served, Any]]:
    """Serve with spans that are kept in memory."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    async with (
        SQLiteStore(folder / "trialogue.db") as store,
        serve(store, upstream, traces=OpenTelemetry(provider)) as served,
    ):
        yield served, exporter
    provider.shutdown()


def by_name(exporter: Any) -> dict[str, Any]:
    return {span.name: span for span in exporter.get_finished_spans()}


async def over_http(served: Served) -> str:
    headers = {"traceparent": TRACEPARENT}
    async with httpx2.AsyncClient(base_url=served.http, verify=False, headers=headers) as client:
        await client.post("/ask/c", json={"prompt": "Hello", "max_tokens": 50, "seed": 7})
    return "POST /ask/{conversation_id}"


async def over_grpc(served: Served) -> str:
    async with grpc.aio.insecure_channel(served.grpc) as channel:
        stub: Any = ConversationServiceStub(channel)  # type: ignore[no-untyped-call]
        asked = pb.AskRequest(conversation_id="c", prompt="Hello", max_tokens=50, seed=7)
        async for _ in stub.Ask(asked, metadata=[("traceparent", TRACEPARENT)]):
            pass
    return "trialogue.v1.ConversationService/Ask"


@pytest.mark.parametrize("ask", [over_http, over_grpc])
async def test_a_request_and_its_turn_are_spans_of_the_callers_trace(
    tmp_path: Path, ask: Any
) -> None:
    upstream = Puppet().say("One ", "two").finish(usage=Usage(11, 2))
    async with traced(tmp_path, upstream) as (served, exporter):
        name = await ask(served)
    request, turn = (by_name(exporter)[one] for one in (name, "chat gpt-4o"))
    assert f"{request.context.trace_id:032x}" == f"{turn.context.trace_id:032x}" == TRACE
    assert f"{request.parent.span_id:016x}" == PARENT
    assert turn.parent.span_id == request.context.span_id
    told = dict(turn.attributes)
    assert 0 <= told.pop("gen_ai.response.time_to_first_chunk") < 60
    assert told.pop("trialogue.turn.id") == request.attributes["trialogue.turn.id"]
    assert told.pop("trialogue.request.id") == request.attributes["trialogue.request.id"]
    assert told == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.request.stream": True,
        "gen_ai.request.max_tokens": 50,
        "gen_ai.request.seed": 7,
        "gen_ai.conversation.id": "c",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 11,
        "gen_ai.usage.output_tokens": 2,
        "trialogue.turn.status": "completed",
    }


async def test_a_frame_begins_a_trace_of_its_own(tmp_path: Path) -> None:
    upstream = Puppet().answer("One")
    async with (
        traced(tmp_path, upstream) as (served, exporter),
        connect(served.websocket, proxy=None) as socket,
    ):
        await socket.send(json.dumps({"type": "ask", "conversation_id": "c", "prompt": "x"}))
        while json.loads(await socket.recv())["type"] != "turn.ended":
            pass
    spans = by_name(exporter)
    request, turn = spans["websocket ask"], spans["chat gpt-4o"]
    assert request.parent is None
    assert turn.parent.span_id == request.context.span_id
    assert request.attributes["trialogue.status"] == "ok"


async def test_a_failure_is_told_by_its_code_alone(tmp_path: Path) -> None:
    upstream = Puppet().fail(UpstreamFailedError("A secret broke."))
    async with traced(tmp_path, upstream) as (served, exporter):
        await over_http(served)
        async with httpx2.AsyncClient(base_url=served.http, verify=False) as client:
            await client.get("/turns/turn_0")
    spans = by_name(exporter)
    turn, missing = spans["chat gpt-4o"], spans["GET /turns/{turn_id}"]
    assert (turn.status.is_ok, turn.status.description) == (False, None)
    assert turn.attributes["error.type"] == "upstream_failed"
    assert missing.attributes["http.response.status_code"] == 404
    assert missing.status.is_ok
    assert "secret" not in "".join(span.to_json() for span in spans.values())


async def test_a_collector_that_is_away_does_not_keep_a_server_from_ending(tmp_path: Path) -> None:
    env = {ENDPOINT: "http://someone:a-password@127.0.0.1:9"}
    async with Fork(tmp_path, env=env) as server:
        async with httpx2.AsyncClient(base_url=server.http, verify=False) as client:
            assert (await client.post("/ask/c", json={"prompt": "Hello"})).status_code == 200
        server.terminate()
        assert await server.ended() == 0
    assert '"level": "warning"' in server.log
    assert "a-password" not in server.log


async def test_a_server_sends_its_spans_before_it_ends(tmp_path: Path) -> None:
    async with Collector() as collector:
        env = {ENDPOINT: collector.url, "OTEL_SERVICE_NAME": "chat-of-ours"}
        async with Fork(tmp_path, env=env) as server:
            async with httpx2.AsyncClient(base_url=server.http, verify=False) as client:
                await client.post("/ask/c", json={"prompt": "Hello"})
            server.terminate()
            assert await server.ended() == 0
            assert '"trace_id": "' in server.log
    sent = b"".join(collector.bodies)
    assert set(collector.paths) == {"/v1/traces"}
    for told in (b"chat-of-ours", b"chat eliza", b"POST /ask/{conversation_id}"):
        assert told in sent
