"""Conversations with a real model of somebody else's: llama.cpp's server, strict templates."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest

from server.core.conversations import Ask
from server.core.errors import ContextLengthError
from storage.model import Role, Status
from storage.port import NotFoundError
from storage.sqlite.store import SQLiteStore
from tests.support.live import Fork
from tests.support.llama_server import LlamaServer
from tests.support.tiny_gguf import STRICT, STRICT_OF, tiny_gguf
from tests.support.wires import WIRES, RefusedError
from tests.torture.long_conversations import SCRIPTS, TEXTS, TURNS, asked, conversing, talked


@pytest.fixture(scope="module")
def strict_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_gguf(tmp_path_factory.mktemp("models") / "strict.gguf", template=STRICT)


@pytest.mark.parametrize("tokenizer", [None, "learn"])
@pytest.mark.parametrize("script", SCRIPTS)
async def test_sixty_turns_and_none_refused(
    store: SQLiteStore, strict_model: Path, script: str, tokenizer: str | None
) -> None:
    await sixty_turns(store, strict_model, 512, script, tokenizer)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("script", "window"),
    # This model reads every byte as a token: 8,192 of them take minutes on a small machine.
    [*((script, 2048) for script in SCRIPTS), ("mixed", 8192)],
)
async def test_sixty_turns_in_larger_windows(
    store: SQLiteStore, strict_model: Path, script: str, window: int
) -> None:
    await sixty_turns(store, strict_model, window, script, None)


async def sixty_turns(
    store: SQLiteStore, model: Path, window: int, script: str, tokenizer: str | None
) -> None:
    """Past the first trim the upstream's cache has to serve, too."""
    of = await talked(store, model, window, script, tokenizer=tokenizer)
    assert of.broken() == []
    assert len(of.turns) == TURNS
    assert of.counted == ({"upstream"} if tokenizer is None else {"learnt"})
    assert of.turns[0].context.window_known
    if tokenizer is None:
        assert {turn.drift for turn in of.turns} == {0}


@pytest.mark.parametrize("tokenizer", [None, "learn"])
async def test_a_long_paste_is_refused_and_nothing_is_left_of_it(
    store: SQLiteStore, strict_model: Path, tokenizer: str | None
) -> None:
    async with (
        LlamaServer(strict_model, window=512) as llama,
        conversing(store, llama.base_url, tokenizer=tokenizer) as core,
    ):
        await asked(core, "Hello")
        before = await core.get("ada", "c")
        for paste in ("long " * 300, "1234567890" * 60):
            try:
                turn = await asked(core, paste)
            except ContextLengthError:
                continue
            assert turn.error is not None
            assert turn.error.code == "context_length_exceeded"
            with pytest.raises(NotFoundError):
                await store.turn("ada", turn.id)
        after = await core.get("ada", "c")
        assert (after.head_id, after.message_count) == (before.head_id, before.message_count)
        assert (await asked(core, "Hi")).status is Status.COMPLETED
        with_paste = [one.content for one in (await core.messages("ada", "c")).items]
        assert [str(one)[:5] for one in with_paste[::2]] == ["Hello", "Hi"]


async def test_a_conversation_that_a_long_paste_would_begin_is_not_there(
    store: SQLiteStore, strict_model: Path
) -> None:
    async with (
        LlamaServer(strict_model, window=512) as llama,
        conversing(store, llama.base_url, tokenizer="learn") as core,
    ):
        turn = await asked(core, Ask("long " * 110, character="pirate"))
        assert turn.status is Status.FAILED
        with pytest.raises(NotFoundError):
            await core.get("ada", "c")
        assert (await asked(core, "Hi")).status is Status.COMPLETED


async def test_a_history_that_is_too_long_is_trimmed_anew(
    store: SQLiteStore, strict_model: Path
) -> None:
    """Nobody tells the window, and the first count is a guess: the refusal tells both."""
    async with (
        LlamaServer(strict_model, window=2048) as llama,
        conversing(store, llama.base_url, tokenizer="learn", context_window=100_000) as core,
    ):
        turns = [await asked(core, TEXTS["Hindi"] * 2) for _ in range(12)]
    assert {turn.status for turn in turns} == {Status.COMPLETED}
    healed = [turn for turn in turns if turn.context.messages_trimmed]
    assert healed
    assert {turn.context.window for turn in healed} == {2048}
    kept = [lesson for lesson in await store.lessons() if lesson.upstream == "llama"]
    assert [lesson.window for lesson in kept] == [2048]
    assert kept[0].ratio is not None
    assert kept[0].ratio > 2


@pytest.mark.parametrize("template", [STRICT, *STRICT_OF.values()], ids=["all", *STRICT_OF])
async def test_strict_templates_take_a_greeting_a_cancelled_turn_and_a_summary(
    store: SQLiteStore, tmp_path: Path, template: str
) -> None:
    model = tiny_gguf(tmp_path / "strict.gguf", template=template)
    async with LlamaServer(model, window=8192) as llama, conversing(store, llama.base_url) as core:
        ask = Ask("Ahoy", character="pirate", max_tokens=8)
        assert (await asked(core, ask)).status is Status.COMPLETED
        long = await core.ask("ada", "c", Ask("Go on", max_tokens=4000, temperature=0))
        await core.cancel("ada", long.id)
        assert (await asked(core, "Hello again")).status is Status.COMPLETED
        head = (await core.get("ada", "c")).head_id
        assert head is not None
        message = await store.message("ada", "c", head)
        summary = replace(
            message,
            id="msg_summary",
            role=Role.SYSTEM,
            content="They said hello.",
            turn_id=None,
            stands_for=message.depth - 1,
        )
        await store.summarise("ada", summary)
        await core.update("ada", "c", {"truncation": "summarize"})
        assert (await asked(core, "Hi")).status is Status.COMPLETED


@pytest.mark.parametrize("family", STRICT_OF)
async def test_each_of_them_refuses_what_it_is_not_sent(tmp_path: Path, family: str) -> None:
    """Else the test above would prove nothing."""
    model = tiny_gguf(tmp_path / "strict.gguf", template=STRICT_OF[family])
    roles = ("user", "system", "user") if family == "Qwen" else ("user", "user")
    messages = [{"role": role, "content": "x"} for role in roles]
    async with LlamaServer(model, window=512) as llama, httpx2.AsyncClient() as client:
        body = {"messages": messages, "max_tokens": 1}
        told = await client.post(f"{llama.base_url}/chat/completions", json=body)
    assert told.status_code == 400


@pytest.mark.parametrize("wire", WIRES)
async def test_on_every_wire(tmp_path: Path, strict_model: Path, wire: str) -> None:
    async with LlamaServer(strict_model, window=512) as llama:
        table = {"name": "llama", "base_url": llama.base_url, "tokenizer": "learn"}
        env = {"TRIALOGUE_UPSTREAMS": json.dumps([table]), "TRIALOGUE_MODEL": "tiny"}
        async with Fork(tmp_path, env=env) as server:
            speak = WIRES[wire](server)
            assert (await last(speak.ask("c", "Hello", max_tokens=8)))["status"] == "completed"
            refused = await last(speak.ask("c", "long " * 110, max_tokens=8))
            assert refused["error"]["code"] == "context_length_exceeded"
            with pytest.raises(RefusedError, match="context_length_exceeded"):
                await last(speak.ask("c", "long " * 500, max_tokens=8))
            assert len(await speak.messages("c")) == 2
            assert (await last(speak.ask("c", "Hi", max_tokens=8)))["status"] == "completed"
            assert len(await speak.messages("c")) == 4


async def last(events: Any) -> Any:
    found = [event async for event in events]
    return found[-1].turn


async def test_v1_says_it_in_openai_s_words(tmp_path: Path, strict_model: Path) -> None:
    async with LlamaServer(strict_model, window=512) as llama:
        env = {"OPENAI_BASE_URL": llama.base_url, "TRIALOGUE_MODEL": "tiny"}
        async with Fork(tmp_path, env=env) as server, httpx2.AsyncClient(timeout=60) as client:
            asked_ = {"model": "tiny", "messages": [{"role": "user", "content": "x" * 700}]}
            url = f"{server.http}/v1/chat/completions"
            joined = {"x-conversation-id": "c"}
            plain, kept = await asyncio.gather(
                client.post(url, json=asked_), client.post(url, json=asked_, headers=joined)
            )
            there = await client.get(f"{server.http}/conversations/c")
    for refused in (plain, kept):
        assert refused.status_code == 400
        error = refused.json()["error"]
        assert error["code"] == "context_length_exceeded"
        assert error["message"].startswith("This model's maximum context length is 512 tokens")
    assert there.status_code == 404
