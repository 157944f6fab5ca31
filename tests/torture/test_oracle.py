"""No answer to a guess tells anything of an upstream's key, on any wire: but the guess differs."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx2
import pytest
from trialogue.v1 import conversation_pb2 as pb
from trialogue.v1.conversation_pb2_grpc import ConversationServiceStub
from websockets.asyncio.client import connect

from server.config.settings import load
from server.transports.grpc.listener import RpcListener
from server.transports.websocket.listener import WebsocketListener
from server.upstream.pool import PoolMember
from server.upstream.remote.client import UpstreamClient
from tests.server.transports.openai.openai_client import serving
from tests.server.upstream.remote.turn_helpers import asking
from tests.support.access import OPEN_ACCESS
from tests.support.live import FREE, Fork
from tests.support.upstream_script import Exchange, complain, fail
from tests.support.upstream_server import ScriptedUpstream
from tests.torture.oracle import KEY, KNOWN, PLAIN, attacked, read_key, repeats

HOST = "127.0.0.1"
#: pieces of the key and of the address, masks of it, what others' keys look like, plain words
GUESSES = (
    *(KEY[:end] for end in range(1, len(KEY), 3)),
    *(KEY[start : start + 8] for start in range(0, len(KEY) - 7, 3)),
    *(KEY[-4:], KEY[:-1], KEY[1:], KEY.swapcase()[:-1], f"{KEY[:6]}***{KEY[-3:]}", "****nope"),
    *("sk-other-1234567890", "AIzaSyA1234567890", "127.0.0", "7.0.0.1x", "http://127.0.0", "gpt-5"),
)
#: what is the secret itself: answered as any other guess where the upstream repeats, and no more
WHOLE = (KEY, f"x{KEY}y", KEY.upper(), HOST, f"http://{HOST}/v1")


@dataclass
class House:
    """A server in front of an upstream that repeats."""

    upstream: ScriptedUpstream
    client: httpx2.AsyncClient
    grpc: str
    websocket: str

    async def rest(self, guess: str) -> str:
        body = {"prompt": "Hello", "model": guess}
        error = (await self.client.post("/ask/new", json=body)).json()["error"]
        del error["turn_id"]
        return json.dumps(error)

    async def asked_in_words(self, guess: str) -> str:
        said = await self.client.post("/ask/new", json={"prompt": guess, "model": "words"})
        return str(said.json()["error"]["message"])

    async def kept(self, guess: str) -> str:
        """Return the error of a turn as it is told again later."""
        body = {"prompt": "Hello", "model": guess}
        failed = (await self.client.post("/ask/new", json=body)).json()["error"]
        turn = (await self.client.get(f"/turns/{failed['turn_id']}")).json()
        return json.dumps(turn["error"])

    async def rpc(self, guess: str) -> str:
        async with grpc.aio.insecure_channel(self.grpc) as channel:
            stub: Any = ConversationServiceStub(channel)  # type: ignore[no-untyped-call]
            asked = pb.AskRequest(prompt="Hello", model=guess)
            ended = [e.ended.turn async for e in stub.Ask(asked) if e.HasField("ended")]
        return str(ended[0].error.message)

    async def frame(self, guess: str) -> str:
        async with connect(self.websocket, proxy=None) as socket:
            await socket.send(json.dumps({"type": "ask", "prompt": "Hello", "model": guess}))
            while (said := json.loads(await socket.recv()))["type"] != "turn.ended":
                pass
        return str(said["turn"]["error"]["message"])

    async def straight(self, guess: str) -> str:
        return await self._chat(guess)

    async def streamed(self, guess: str) -> str:
        return await self._chat(f"in-{guess}", stream=True)

    async def late(self, guess: str) -> str:
        """Return the error event of a stream that had begun."""
        text = await self._chat(f"late-{guess}", stream=True)
        return next(line for line in text.splitlines() if '"error"' in line)

    async def joined(self, guess: str) -> str:
        return await self._chat(guess, headers={"x-conversation-id": f"c-{abs(hash(guess))}"})

    async def any_route(self, guess: str) -> str:
        response = await self.client.post("/v1/images/generations", json={"model": guess})
        return response.text

    async def uploaded(self, guess: str) -> str:
        """Return the answer to a body that is streamed past us, and never held."""
        form = {"purpose": guess}
        files = {"file": ("a.jsonl", b"{}\n" * 100_000)}
        return (await self.client.post("/v1/files", data=form, files=files)).text

    async def headed(self, guess: str) -> str:
        """Return a header of a refusal in which the upstream repeats one of ours."""
        headers = {"x-title": guess}
        body = {"model": PLAIN, "prompt": "a"}
        response = await self.client.post("/v1/images/edits", json=body, headers=headers)
        return response.headers["openai-model"]

    async def _chat(self, model: str, **more: Any) -> str:
        headers = more.pop("headers", {})
        body = {"model": model, "messages": [{"role": "user", "content": "Hello"}], **more}
        response = await self.client.post("/v1/chat/completions", json=body, headers=headers)
        return response.text


async def repeat(exchange: Exchange) -> None:
    """Repeat what of a request is a guess, wherever it stands."""
    request = exchange.request
    if request.path.endswith("/files"):
        name = request.raw.split(b'name="purpose"\r\n\r\n')[1].split(b"\r\n")[0].decode()
        await fail(400, f"Invalid purpose: '{name}'", param=name)(exchange)
    elif request.path.endswith("/edits"):
        await fail(400, headers={"openai-model": request.headers["x-title"]})(exchange)
    elif request.body["model"] == "words":
        said = request.body["messages"][-1]["content"]
        await fail(400, f"Bad words: {said[:500]}")(exchange)
    else:
        await repeats(exchange)


async def only_repeat(exchange: Exchange) -> None:
    """Repeat a guess, with nothing of our own key or address beside."""
    name = (exchange.request.body or {}).get("model", "")
    error = {"message": f"No model `{name}`", "type": "x", "param": name, "code": name}
    if name.startswith("late-"):
        await complain("Hel", error=error)(exchange)
    elif name.startswith("in-"):
        await complain(error=error)(exchange)
    elif exchange.request.path.endswith(("/files", "/edits")) or name == "words":
        await repeat(exchange)
    else:
        await fail(404, body={"error": error})(exchange)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with ScriptedUpstream() as upstream:
        upstream.otherwise = repeat
        member = PoolMember(
            "scripted",
            asking(api_key=KEY, base_url=upstream.base_url),
            UpstreamClient(api_key=KEY, base_url=upstream.base_url),
        )
        async with serving(tmp_path, [member]) as served:
            settings, core = load(FREE), served.conversations
            rpc = RpcListener(core, OPEN_ACCESS, settings)
            websocket = WebsocketListener(core, OPEN_ACCESS, settings, page_port=served.port)
            async with rpc, websocket:
                yield House(
                    upstream,
                    served.client,
                    f"{HOST}:{rpc.port}",
                    f"ws://{HOST}:{websocket.port}/",
                )


WAYS: dict[str, Callable[[House, str], Awaitable[str]]] = {
    "rest": House.rest,
    "words": House.asked_in_words,
    "kept": House.kept,
    "grpc": House.rpc,
    "websocket": House.frame,
    "v1": House.straight,
    "v1 stream": House.streamed,
    "v1 stream begun": House.late,
    "v1 joined": House.joined,
    "v1 any route": House.any_route,
    "v1 upload": House.uploaded,
    "v1 headers": House.headed,
}


@pytest.mark.parametrize("way", WAYS)
async def test_no_two_answers_differ_but_by_the_guess(house: House, way: str) -> None:
    plain = await WAYS[way](house, PLAIN)
    assert PLAIN in plain
    assert KEY not in plain
    for guess in GUESSES:
        assert await WAYS[way](house, guess) == plain.replace(PLAIN, guess), guess


@pytest.mark.parametrize("way", WAYS)
async def test_nor_do_those_to_the_key_itself(house: House, way: str) -> None:
    house.upstream.otherwise = only_repeat
    plain = await WAYS[way](house, PLAIN)
    for guess in WHOLE:
        assert await WAYS[way](house, guess) == plain.replace(PLAIN, guess), guess


@pytest.mark.slow
async def test_the_script_reads_nothing() -> None:
    assert await attacked(300, 1, Fork) == ""


async def test_the_script_would_read_a_key_that_is_told() -> None:
    async def ask(guess: str) -> str:
        pieces = (KEY[at : at + len(KNOWN)] for at in range(len(KEY) - len(KNOWN) + 1))
        found = any(piece in guess for piece in pieces)
        return "The model `[key]`" if found else f"The model `{guess}`"

    assert await read_key(ask, 2_000, seed=1) == KEY.removeprefix(KNOWN)
