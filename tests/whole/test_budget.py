"""A budget of tokens, of a whole server: over every wire, and after its death."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import aclosing, closing
from pathlib import Path

import grpc
import pytest
from trialogue.v1 import conversation_pb2 as pb

from tests.server.transports.grpc import grpc_client
from tests.server.transports.rest.http_client import refused, talking
from tests.support.live import Fork, Process
from tests.support.wires import WIRES, RefusedError


def tokens(most: str) -> Mapping[str, str]:
    return {"TRIALOGUE_TOKEN_BUDGET": most}


async def ask(server: Process, wire: str, conversation_id: str = "c1") -> None:
    """Ask by a wire, to the end."""
    async with aclosing(WIRES[wire](server).ask(conversation_id, "Hello")) as events:
        assert [event async for event in events][-1].kind == "turn.ended"


async def test_what_is_spent_is_refused_on_every_wire(tmp_path: Path) -> None:
    async with Fork(tmp_path, env=tokens("1/month")) as server:
        await ask(server, "rest")
        for wire in WIRES:
            with pytest.raises(RefusedError) as caught:
                await ask(server, wire, "fresh")
            assert caught.value.code == "insufficient_quota"
        async with talking(server.http) as client:
            late = await client.post("/ask/fresh", json={"prompt": "Hello"})
            refused(late, 429, "insufficient_quota")
            assert int(late.headers["retry-after"]) > 0
            assert (await client.get("/conversations/fresh")).status_code == 404
            body = {"model": "eliza", "messages": [{"role": "user", "content": "Hello"}]}
            late = await client.post("/v1/chat/completions", json=body)
            refused(late, 429, "insufficient_quota")
        async with grpc.aio.insecure_channel(server.grpc) as channel:
            asked = pb.AskRequest(conversation_id="fresh", prompt="Hello")
            told = await grpc_client.refusal(grpc_client.stub(channel).Ask(asked).read())
        assert told.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert (told.reason, bool(told.retry_after)) == ("INSUFFICIENT_QUOTA", True)


async def test_a_kill_forgets_nothing_that_was_used(tmp_path: Path) -> None:
    """One turn has ended, and another is being written, when the server is killed."""
    slow = {**tokens("1000/day"), "TRIALOGUE_ELIZA_DELAY": "60"}
    async with Fork(tmp_path, env=tokens("1000/day")) as server:
        await ask(server, "rest", "ended")
        server.kill()
    async with (
        Fork(tmp_path, env=slow) as server,
        aclosing(WIRES["rest"](server).ask("running", "Hello")) as events,
    ):
        assert (await anext(events)).kind == "turn.started"
        server.kill()
    async with Fork(tmp_path, env=tokens("1/day")) as server:
        with pytest.raises(RefusedError, match="insufficient_quota"):
            await ask(server, "rest")
    with closing(sqlite3.connect(tmp_path / "trialogue.db")) as database:
        turns = database.execute(
            "SELECT status, coalesce(prompt_tokens, context_prompt_tokens) + "
            "coalesce(completion_tokens, 0) FROM turns ORDER BY key"
        ).fetchall()
        (used,) = database.execute("SELECT sum(tokens) FROM spending").fetchone()
    assert [status for status, _ in turns] == ["completed", "interrupted"]
    assert used == sum(tokens for _, tokens in turns)
