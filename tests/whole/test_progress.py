"""How far an upstream has read a prompt: on every wire, where it is asked for, and nowhere else."""

from __future__ import annotations

from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from server.upstream.port import PromptProgress, UpstreamOverflowError
from tests.support.fakes import Puppet
from tests.support.live import Fork, Served
from tests.support.llama_server import LlamaServer
from tests.support.tiny_gguf import tiny_gguf
from tests.support.wires import WIRES, Event

READ, FARTHER = PromptProgress(410, 1172), PromptProgress(820, 1172)


async def kinds(events: Any) -> list[str]:
    return [event.kind async for event in events]


@pytest.mark.parametrize("wire", WIRES)
async def test_it_is_told_before_the_answer(served: Served, upstream: Puppet, wire: str) -> None:
    speak = WIRES[wire](served)
    async with aclosing(speak.ask("c", "Hello", progress=True)) as asked:
        started = await anext(asked)
        upstream.say(READ)
        told = await anext(asked)
        assert (told.kind, told.turn_id, told.read) == (
            "turn.progress",
            started.turn_id,
            (410, 1172),
        )
        following = speak.follow(started.turn_id, progress=True)
        watching = speak.watch("c", progress=True)
        async with aclosing(following), aclosing(watching):
            for beside in (following, watching):  # who comes late hears how far it is
                assert [(await anext(beside)).read for _ in range(2)] == [None, (410, 1172)]
            upstream.say(FARTHER)
            for beside in (asked, following, watching):
                assert (await anext(beside)).read == (820, 1172)
            upstream.answer("Hi.")
            assert (await kinds(asked))[-1] == (await kinds(following))[-1] == "turn.ended"
    assert "turn.progress" not in await kinds(speak.follow(started.turn_id, progress=True))


@pytest.mark.parametrize("wire", WIRES)
async def test_it_is_told_to_nobody_else(served: Served, upstream: Puppet, wire: str) -> None:
    upstream.say(READ, FARTHER).answer("Hi.")
    told = await kinds(WIRES[wire](served).ask("c", "Hello"))
    assert set(told) == {"turn.started", "turn.delta", "turn.ended"}
    upstream.say(READ).answer("Hi.")
    again = await kinds(WIRES[wire](served).regenerate("c"))
    assert "turn.progress" not in again


async def test_a_prompt_that_is_refused_once_read_is_sent_anew(
    served: Served, upstream: Puppet
) -> None:
    """Progress is no word of an answer."""
    speak = WIRES["rest"](served)
    for number in range(3):
        upstream.answer("Hi.")
        await kinds(speak.ask("c", f"Hello {number}"))
    upstream.say(READ).fail(UpstreamOverflowError("too long", 400, tokens=900, window=500))
    upstream.answer("Hi.")
    *_, end = [event async for event in speak.ask("c", "And now?", progress=True)]
    assert end.turn is not None
    assert end.turn["status"] == "completed"


@pytest.mark.parametrize("wire", WIRES)
async def test_llama_cpp_tells_it(tmp_path: Path, wire: str) -> None:
    server = LlamaServer(tiny_gguf(tmp_path / "tiny.gguf"), window=2048, n_batch=64, n_ubatch=64)
    async with server as llama:
        env = {"OPENAI_BASE_URL": llama.base_url, "TRIALOGUE_MODEL": "tiny"}
        async with Fork(tmp_path, env=env) as serving:
            asked = WIRES[wire](serving).ask("c", "x" * 600, max_tokens=4, progress=True)
            events: list[Event] = [event async for event in asked]
    told = [event.read for event in events if event.read is not None]
    assert told
    assert told == sorted(told)
    assert {total for _, total in told} == {told[0][1]}
    assert all(0 <= read <= total for read, total in told)


async def test_a_local_model_tells_it(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    tiny_gguf(tmp_path / "models" / "tiny.gguf")
    env = {"TRIALOGUE_MODELS": str(tmp_path / "models"), "TRIALOGUE_MAX_TOKENS": "8"}
    async with Fork(tmp_path, "--local", "tiny", env=env) as serving:
        asked = WIRES["rest"](serving).ask("c", "x" * 6000, max_tokens=4, progress=True)
        told = [event.read async for event in asked if event.read is not None]
    assert told
