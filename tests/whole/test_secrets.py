"""Prompts, answers and keys are in no log, error, number, span; keys in no file either."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import grpc
import httpx2
import pytest
from trialogue.v1 import conversation_pb2 as pb
from trialogue.v1.conversation_pb2_grpc import ConversationServiceStub
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from server.core.access.auth import new_key
from server.core.clock import microseconds
from storage.keys import KeyFile
from tests.support.collector import Collector
from tests.support.live import Fork, Process
from tests.support.upstream_script import MODEL, Behaviour, complain, cut, fail, garbled, reset, say
from tests.support.upstream_server import ScriptedUpstream

PROMPT = "planted-prompt-7c1e"
ANSWER = "planted-answer-3b9d"
SYSTEM = "planted-system-5f2a"
TITLE = "planted-title-8e4c"
METADATA = "planted-metadata-1d6b"
OUR_KEY = "planted-our-key-0a9f8e7d6c5b"
WRONG_KEY = "planted-wrong-key-4e3d2c1b0a99"
UPSTREAM_KEY = "sk-proj-Zq7Xw2Vb9Nm4Kp8Lr3TdHj6"
IDEMPOTENCY = "planted-idempotency-2f7a"
COLLECTOR_KEY = "planted-collector-key-9c8b7a"
WORDS = (PROMPT, ANSWER, SYSTEM, TITLE, METADATA, IDEMPOTENCY)
KEYS = (OUR_KEY, WRONG_KEY, UPSTREAM_KEY, COLLECTOR_KEY)
#: as the installed extra decides
TRACED = find_spec("opentelemetry.sdk") is not None


@dataclass
class Visitor:
    """Does on every wire what people do, and keeps every error that it is told."""

    server: Process
    upstream: ScriptedUpstream
    key: str = OUR_KEY
    errors: list[str] = field(default_factory=list)
    asked: int = 0

    async def http(self, method: str, path: str, **options: Any) -> None:
        headers = {"authorization": f"Bearer {self.key}", **options.pop("headers", {})}
        async with httpx2.AsyncClient(base_url=self.server.http, verify=False, timeout=60) as one:
            with suppress(httpx2.HTTPError):  # a stream that is cut
                response = await one.request(method, path, headers=headers, **options)
                self._note(response)

    def _idempotency_key(self) -> str:
        self.asked += 1
        return f"{IDEMPOTENCY}-{self.asked}"

    def _note(self, response: httpx2.Response) -> None:
        if response.status_code >= 400:
            self.errors.append(f"{response.headers} {response.text}")
        for line in response.text.splitlines():
            with suppress(ValueError):
                self._note_turn(json.loads(line.removeprefix("data: ")))

    def _note_turn(self, said: Any) -> None:
        """Keep the error of a turn that failed, or of a frame or a stream that is one."""
        if isinstance(said, dict):
            for one in (said, said.get("turn")):
                if isinstance(one, dict) and one.get("error"):
                    self.errors.append(json.dumps(one["error"]))

    async def rest(self) -> None:
        headers = {"idempotency-key": self._idempotency_key()}
        await self.http("POST", "/ask/c", json={"prompt": PROMPT}, headers=headers)

    async def sse(self) -> None:
        asked = {"prompt": PROMPT, "stream": True, "system_prompt": SYSTEM}
        await self.http("POST", "/ask/new", json=asked)

    async def straight(self) -> None:
        messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": PROMPT}]
        body = {"model": MODEL, "messages": messages, "stream": True}
        await self.http("POST", "/v1/chat/completions", json=body)

    async def joined(self) -> None:
        body = {"model": MODEL, "messages": [{"role": "user", "content": PROMPT}]}
        headers = {"x-conversation-id": "joined"}
        await self.http("POST", "/v1/chat/completions", json=body, headers=headers)

    async def rpc(self) -> None:
        told = [
            ("authorization", f"Bearer {self.key}"),
            ("idempotency-key", self._idempotency_key()),
        ]
        asked = pb.AskRequest(prompt=PROMPT, system_prompt=SYSTEM)
        async with grpc.aio.insecure_channel(self.server.grpc) as channel:
            stub: Any = ConversationServiceStub(channel)  # type: ignore[no-untyped-call]
            try:
                async for event in stub.Ask(asked, metadata=told):
                    self.errors.append(str(event.ended.turn.error))
            except grpc.aio.AioRpcError as error:
                self.errors.append(f"{error.details()} {error.trailing_metadata()}")

    async def frame(self) -> None:
        await self.frames({"type": "ask", "conversation_id": "ws", "prompt": PROMPT})

    async def frames(self, *frames: Any, query: str = "", **options: Any) -> None:
        """Say frames, each when the one before was answered."""
        options = options or {"additional_headers": {"authorization": f"Bearer {self.key}"}}
        address = self.server.websocket + query
        with suppress(ConnectionClosed, InvalidStatus):
            async with connect(address, proxy=None, **options) as socket:
                for frame in frames:
                    await socket.send(frame if isinstance(frame, str) else json.dumps(frame))
                    await self._heard(socket)

    async def _heard(self, socket: Any) -> None:
        ends = ("turn.ended", "error", "authenticated", "conversation", "list")
        try:
            while True:
                said = await socket.recv()
                frame = json.loads(said) if said.startswith("{") else {"type": said[:5]}
                self._note_turn(frame)
                if frame["type"] in (*ends, "<|end", "<|err"):
                    return
        except ConnectionClosed as closed:
            self.errors.append(str(closed))
            raise


def failures(address: str) -> Iterable[Behaviour]:
    """Return the ways in which an upstream fails and says too much."""
    quoted = f"Incorrect API key provided: {UPSTREAM_KEY}, at {address}."
    yield say(ANSWER)
    yield fail(401, quoted, code="invalid_api_key")
    yield fail(500, quoted)
    yield fail(429, quoted)
    yield cut(ANSWER)
    yield garbled(ANSWER)
    yield reset(ANSWER)
    yield complain(ANSWER, error={"message": quoted})


async def visit(of: Visitor) -> None:
    """Ask on every wire, with every failure of the upstream; then what is wrong of itself."""
    asks: tuple[Callable[[], Awaitable[None]], ...] = (
        *(of.rest, of.sse, of.straight, of.joined, of.rpc, of.frame),
    )
    for ask in asks:
        for failure in failures(of.upstream.base_url):
            of.upstream.script(failure)
            await ask()
    made = {"id": "made", "title": TITLE, "system_prompt": SYSTEM, "metadata": {"m": METADATA}}
    await of.http("POST", "/conversations", json=made)
    await of.http("POST", "/conversations", json=made)  # is there already
    await of.http("POST", "/ask/c", json={"prompt": PROMPT, "max_tokens": ANSWER})
    await of.http("POST", "/ask/c", content=f'{{"prompt": "{PROMPT}", ')
    await of.http("POST", "/v1/chat/completions", content=f'{{"messages": "{PROMPT}", ')
    await of.http("GET", f"/search?q={PROMPT}&limit=9999")
    await of.http("GET", f"/healthz?api_key={OUR_KEY}")
    await of.http("GET", "/nowhere", params={"key": OUR_KEY})
    await of.http("POST", "/conversations/import", content=f'[{{"title": "{TITLE}"}}]')
    await of.frames(
        f'{{"type": "ask", "prompt": "{PROMPT}"',
        {"type": "ask", "prompt": PROMPT, "max_tokens": ANSWER},
        {"type": "nonsense", "prompt": PROMPT},
        f"<|ask|>$easy${PROMPT}",
    )


async def show_keys(of: Visitor) -> None:
    """Show a wrong key in every way in which one can be shown."""
    for ask in (of.rest, of.sse, of.straight, of.joined, of.rpc, of.frame):
        await ask()
    asking = {"type": "ask", "prompt": PROMPT}
    await of.http("GET", "/v1/models", headers={"api-key": of.key, "authorization": ""})
    await of.frames({"type": "authenticate", "api_key": of.key}, asking, user_agent_header=None)
    words = ["trialogue.v1", f"trialogue-api-key.{of.key}"]
    await of.frames(asking, subprotocols=words)
    await of.frames(asking, query=f"?api_key={of.key}")


@pytest.mark.parametrize("level", ["debug", "info"])
async def test_what_is_said_and_shown_is_told_nobody_else(tmp_path: Path, level: str) -> None:
    kept_key, kept = new_key("ada", microseconds())
    KeyFile(tmp_path / "trialogue.keys").add(kept)
    async with Collector() as collector, ScriptedUpstream(models=(MODEL,)) as upstream:
        env = settings(upstream, collector, level)
        async with Fork(tmp_path, env=env) as server:
            ann, ada = Visitor(server, upstream), Visitor(server, upstream, kept_key)
            nobody = Visitor(server, upstream, WRONG_KEY)
            await visit(ann)
            await ada.sse()
            await show_keys(nobody)
            metrics = await read(server, "/metrics")
            files = await asyncio.to_thread(contents, tmp_path)
            upstream.refuse()
            server.terminate()
            assert await server.ended() == 0
        spans = b"".join(collector.bodies).decode("latin-1")
    # That all of it took place, or nothing would be proved.
    assert len(ann.errors) > 40
    assert sum(one.method == "POST" for one in upstream.requests) == 6 * len(list(failures(""))) + 2
    assert len(nobody.errors) >= 8
    assert all(f'"wire": "{wire}"' in server.log for wire in ("rest", "openai", "grpc"))
    assert PROMPT in files["trialogue.db"] + files["trialogue.db-wal"]
    assert bool(spans) == TRACED
    assert "[key]" in "".join(ann.errors)
    keys = (*KEYS, kept_key)
    address = upstream.base_url.removeprefix("http://").removesuffix("/v1")
    told = "\n".join([*ann.errors, *ada.errors, *nobody.errors])
    for name, text in {"log": server.log, "metrics": metrics, "spans": spans, "told": told}.items():
        found = [one for one in (*WORDS, *keys, address) if one in text]
        assert found == [], (name, [line for line in text.splitlines() if found[0] in line][:3])
    for name, text in files.items():
        assert [key for key in keys if key in text] == [], name


def settings(upstream: ScriptedUpstream, collector: Collector, level: str) -> dict[str, str]:
    """Return the environment of a server that knows every secret."""
    return {
        "OPENAI_API_KEY": UPSTREAM_KEY,
        "OPENAI_BASE_URL": upstream.base_url,
        "TRIALOGUE_API_KEYS": f"ann:{OUR_KEY}",
        "TRIALOGUE_MODEL": MODEL,
        "TRIALOGUE_LOG_LEVEL": level,
        "TRIALOGUE_UPSTREAM_RETRIES": "0",
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_EXPORTER_OTLP_HEADERS": f"authorization=Bearer {COLLECTOR_KEY}",
    }


async def read(server: Process, path: str) -> str:
    headers = {"authorization": f"Bearer {OUR_KEY}"}
    async with httpx2.AsyncClient(base_url=server.http, verify=False, headers=headers) as client:
        return (await client.get(path)).text


def contents(folder: Path) -> dict[str, str]:
    """Return every file that the server wrote, its log aside."""
    files = [path for path in folder.iterdir() if path.is_file() and path.name != "log"]
    return {path.name: path.read_bytes().decode("latin-1") for path in files}
