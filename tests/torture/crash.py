"""Kills a server in the middle of its work, again and again, and counts what it promised to keep.

    python -m tests.torture.crash               fifty rounds
    python -m tests.torture.crash --rounds 3    a short look
    python -m tests.torture.crash --seed 7      the dice of an earlier run, whose seed it printed

A round: many conversations are asked at once on all wires while Eliza speaks slowly, and large ones
are imported beside; the server is killed at a random moment (SIGKILL) and started again on the same
database. Then every turn, message and import that was acknowledged is there, nothing is
half-written, no import is seen in part, running turns are `interrupted` with at most a second of
text missing, every conversation can be asked again, an import that was cut off can be run again,
and `PRAGMA integrity_check` is `ok`. Ends with 1 where a promise was broken.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sqlite3
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import aiohttp
import grpc
from trialogue.v1 import conversation_pb2 as pb
from trialogue.v1 import conversation_pb2_grpc as stubs
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from tests.support.live import Process

CONVERSATIONS = 24
#: Messages of a conversation that is imported: more than the time before a kill is enough for.
IMPORTED = 12_000
#: Messages of every second one, of which some are kept before the kill.
IMPORTED_SOON = 400
PROMPT = "My mother and my father remember the garden, and I dream of it"
SECOND = 1.0
#: Checks of time allow for a machine that stood still between a write and its announcement.
LENIENCE = 0.5


@dataclass
class Heard:
    """What one asker was told of its turn before the server died."""

    conversation_id: str
    turn_id: str = ""
    question_id: str = ""
    #: text so far and when it was heard
    deltas: list[tuple[float, str]] = field(default_factory=list)
    ended: dict[str, Any] | None = None

    def started(self, turn_id: str, question_id: str) -> None:
        self.turn_id, self.question_id = turn_id, question_id

    def delta(self, text: str) -> None:
        self.deltas.append((time.monotonic(), text))

    @property
    def text(self) -> str:
        return "".join(text for _, text in self.deltas)

    def text_before(self, moment: float) -> str:
        return "".join(text for heard, text in self.deltas if heard <= moment)


Asker = Callable[[Process, Heard], Awaitable[None]]


async def by_rest(server: Process, heard: Heard) -> None:
    url = f"{server.http}/ask/{heard.conversation_id}"
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, json={"prompt": PROMPT, "stream": True}) as answer,
    ):
        async for line in answer.content:
            if line.startswith(b"data: "):
                _note(heard, json.loads(line[6:]))


async def by_websocket(server: Process, heard: Heard) -> None:
    async with connect(server.websocket) as socket:
        ask = {"type": "ask", "conversation_id": heard.conversation_id, "prompt": PROMPT}
        await socket.send(json.dumps(ask))
        async for frame in socket:
            event = json.loads(frame)
            _note(heard, event)
            if event["type"] == "turn.ended":
                return


async def by_grpc(server: Process, heard: Heard) -> None:
    async with grpc.aio.insecure_channel(server.grpc) as channel:
        asked = pb.AskRequest(conversation_id=heard.conversation_id, prompt=PROMPT)
        stub = stubs.ConversationServiceStub(channel)  # type: ignore[no-untyped-call]
        async for event in stub.Ask(asked):
            match event.WhichOneof("event"):
                case "started":
                    heard.started(event.turn_id, event.started.turn.question_id)
                case "delta":
                    heard.delta(event.delta.text)
                case "ended":
                    turn = event.ended.turn
                    heard.ended = {"status": turn.status, "answer": turn.answer}


def _note(heard: Heard, event: dict[str, Any]) -> None:
    match event["type"]:
        case "turn.started":
            heard.started(event["turn_id"], event["turn"]["question_id"])
        case "turn.delta":
            heard.delta(event["text"])
        case "turn.ended":
            heard.ended = event["turn"]


@dataclass
class Importer:
    """Imports one conversation after the other, every second a large one, until the server dies."""

    prefix: str
    begun: list[dict[str, Any]] = field(default_factory=list)
    acknowledged: int = 0
    broken: list[str] = field(default_factory=list)

    async def run(self, server: Process) -> None:
        async with aiohttp.ClientSession(server.http) as session:
            while True:
                count = IMPORTED if len(self.begun) % 2 else IMPORTED_SOON
                self.begun.append(conversation(f"{self.prefix}-{len(self.begun)}", count))
                if (told := await imported(session, self.begun[-1])) != (1, 0):
                    self.broken.append(
                        f"{self.begun[-1]['id']}: imported for the first time: {told}"
                    )
                self.acknowledged += 1


def conversation(name: str, count: int) -> dict[str, Any]:
    """Return a conversation of so many messages in one line, in our own format."""
    at = "2026-01-01T00:00:00.000000Z"
    messages = [
        {
            "id": f"{name}-{place}",
            "parent_id": f"{name}-{place - 1}" if place else None,
            "role": ("user", "assistant")[place % 2],
            "content": f"Line {place} of what was said in the garden. " * 4,
            "tokens": 40,
            "encoding": "o200k_base",
            "created_at": at,
        }
        for place in range(count)
    ]
    times = {"created_at": at, "updated_at": at}
    return {"id": name, "title": name, **times, "head_id": messages[-1]["id"], "messages": messages}


async def imported(session: aiohttp.ClientSession, one: dict[str, Any]) -> tuple[int, int]:
    """Import a conversation; return how many were imported, and how many unchanged."""
    file = {"format": "trialogue", "version": 1, "conversations": [{**one, "turns": []}]}
    headers = {"content-type": "application/json"}
    body = BytesIO(json.dumps(file).encode())
    async with session.post("/conversations/import", data=body, headers=headers) as answer:
        told = await answer.json()
    return told["imported"], told["unchanged"]


async def kept_imports(session: aiohttp.ClientSession, importer: Importer) -> list[str]:
    """Look for what was acknowledged, and for parts of what was not; import that once more."""
    broken = list(importer.broken)
    async with session.get("/search", params={"q": importer.prefix, "limit": 100}) as answer:
        seen = {hit["conversation_id"] for hit in (await answer.json())["data"]}
    for number, one in enumerate(importer.begun):
        name, count = one["id"], len(one["messages"])
        async with session.get(f"/conversations/{name}/export") as answer:
            found = await answer.json() if answer.status == 200 else None
        if found is None and number < importer.acknowledged:
            broken.append(f"{name}: its import was acknowledged and is lost")
        if (found is not None) != (name in seen):
            broken.append(f"{name}: there and not found, or the reverse")
        if found is not None and len(found["conversations"][0]["messages"]) != count:
            broken.append(f"{name}: a part of it is seen")
        if await imported(session, one) != ((1, 0) if found is None else (0, 1)):
            broken.append(f"{name}: imported again, it is not what it should be")
    return broken


ASKERS: tuple[Asker, ...] = (by_rest, by_websocket, by_grpc)
LOST = (aiohttp.ClientError, WebSocketException, grpc.aio.AioRpcError, OSError, AssertionError)


async def main(rounds: int, seed: int) -> int:
    dice = random.Random(seed)
    broken: list[str] = []
    print(f"seed {seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for number in range(1, rounds + 1):
            found = await one_round(Path(folder), dice)
            print(f"round {number}: {found}", flush=True)
            broken += found.broken
    for line in broken:
        print(f"BROKEN: {line}")
    print(f"{rounds} rounds, seed {seed}: {len(broken)} promises broken")
    return 1 if broken else 0


@dataclass
class Found:
    acknowledged: int
    ended: int
    imports: int
    broken: list[str]

    def __str__(self) -> str:
        state = "ok" if not self.broken else f"{len(self.broken)} BROKEN"
        return (
            f"{self.acknowledged} turns acknowledged, {self.ended} ended and {self.imports} "
            f"conversations imported before the kill: {state}"
        )


async def one_round(folder: Path, dice: random.Random) -> Found:
    """Ask, kill, start again, check."""
    asked = [Heard(f"crash-{number}") for number in range(CONVERSATIONS)]
    importer = Importer(f"import-{dice.getrandbits(32):08x}")
    async with Process(folder, env={"TRIALOGUE_ELIZA_DELAY": "0.35"}) as server:
        tasks = [
            asyncio.create_task(_until_lost(dice.choice(ASKERS)(server, one))) for one in asked
        ]
        tasks.append(asyncio.create_task(_until_lost(importer.run(server))))
        await asyncio.sleep(dice.uniform(0.05, 3.0))
        killed = time.monotonic()
        server.kill()
        await server.ended()
        await asyncio.gather(*tasks)
    acknowledged = [one for one in asked if one.turn_id]
    async with Process(folder) as server:
        broken = await _checked(server, acknowledged, killed)
        async with aiohttp.ClientSession(server.http) as session:
            broken += await kept_imports(session, importer)
        server.terminate()
        if (code := await server.ended()) != 0:
            broken.append(f"the server ended with {code}")
    broken += _integrity(folder / "trialogue.db")
    ended = sum(one.ended is not None for one in asked)
    return Found(len(acknowledged), ended, importer.acknowledged, broken)


async def _until_lost(work: Awaitable[None]) -> None:
    with suppress(*LOST):
        await work


async def _checked(server: Process, acknowledged: list[Heard], killed: float) -> list[str]:
    broken: list[str] = []
    async with aiohttp.ClientSession(server.http) as session:
        for heard in acknowledged:
            broken += [f"{heard.turn_id}: {what}" for what in await _kept(session, heard, killed)]
        for heard in acknowledged[:6]:
            async with session.post(f"/ask/{heard.conversation_id}", json={"prompt": "Go on"}) as a:
                if a.status != 200 or (await a.json())["status"] != "completed":
                    broken.append(f"{heard.conversation_id} cannot be asked again")
    return broken


async def _kept(session: aiohttp.ClientSession, heard: Heard, killed: float) -> list[str]:
    async with session.get(f"/turns/{heard.turn_id}") as answer:
        if answer.status != 200:
            return [f"lost: {answer.status}"]
        turn = await answer.json()
    broken = []
    if heard.ended is not None:
        told = {"status": heard.ended["status"], "answer": heard.ended["answer"]}
        if told != {"status": turn["status"], "answer": turn["answer"]}:
            broken.append("its end was told and is another now")
    elif turn["status"] not in ("interrupted", "completed"):
        broken.append(f"is {turn['status']}")
    due = heard.text_before(killed - SECOND - LENIENCE)
    if not turn["answer"].startswith(due):
        broken.append(f"more than a second of text is missing: {len(due)} characters were due")
    if not (turn["answer"].startswith(heard.text) or heard.text.startswith(turn["answer"])):
        broken.append("its text is not what was heard")
    async with session.get(f"/conversations/{heard.conversation_id}/messages") as answer:
        messages = {message["id"]: message for message in (await answer.json())["data"]}
    if messages.get(heard.question_id, {}).get("content") != PROMPT:
        broken.append("its question is lost")
    if turn["answer_id"] and messages[turn["answer_id"]]["content"] != turn["answer"]:
        broken.append("its answer is half-written")
    return broken


def _integrity(path: Path) -> list[str]:
    database = sqlite3.connect(path)
    try:
        (found,) = database.execute("PRAGMA integrity_check").fetchone()
        (orphans,) = database.execute(
            "SELECT count(*) FROM messages "
            "WHERE conversation NOT IN (SELECT key FROM conversations)"
        ).fetchone()
        (running,) = database.execute(
            "SELECT count(*) FROM turns WHERE status = 'running'"
        ).fetchone()
    finally:
        database.close()
    return [
        *([f"integrity_check: {found}"] if found != "ok" else []),
        *([f"{orphans} orphans"] if orphans else []),
        *([f"{running} turns are still running"] if running else []),
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    chosen = parser.parse_args()
    sys.exit(asyncio.run(main(chosen.rounds, chosen.seed)))
