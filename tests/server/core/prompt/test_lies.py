"""An upstream that lies about windows and counts, another lie each time, ends no conversation."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from server.app.core import core_of
from server.core.conversations import Ask
from server.core.errors import ContextLengthError
from server.core.prompt.compose import CountingSettings
from server.core.turns.plan import Defaults
from server.openai_protocol import codec
from server.upstream.bodies import one
from server.upstream.pool import PoolMember, UpstreamPool
from server.upstream.port import Call, Finish, Prompt, Reply, UpstreamOverflowError
from storage.model import Status
from storage.sqlite.store import SQLiteStore
from tests.server.core.following import asked
from tests.storage.nouns import ADA
from tests.support.fakes import Parrot

WINDOWS: Sequence[object] = (
    0,
    -5,
    1e308,
    "4096",
    None,
    True,
    [],
    {},
    64,
    1 << 31,
    1 << 80,
    128,
    4096,
)
COUNTS: Sequence[object] = (0, -5, 1e308, "12", None, True, [], {}, 1, 1 << 31, 1 << 80, 40)


class Liar:
    """Lists its model with another window, and counts otherwise, each time."""

    name = "liar"

    def __init__(self, windows: Sequence[object], counts: Sequence[object]) -> None:
        self._windows, self._counts = itertools.cycle(windows), itertools.cycle(counts)

    async def models(self) -> Sequence[Mapping[str, Any]]:
        told = {"context_length": next(self._windows), "meta": {"n_ctx": next(self._windows)}}
        return [{"id": "m", "object": "model", "owned_by": "llamacpp", **told}]

    @asynccontextmanager
    async def call(self, call: Call) -> AsyncIterator[Reply]:
        data = codec.encode({"input_tokens": next(self._counts)})
        yield Reply(200, {}, one(data))

    async def close(self) -> None: ...


class Refuser(Parrot):
    """Takes no prompt of more than so many messages."""

    def __init__(self, most: int) -> None:
        super().__init__(("Yes.",))
        self.most = most

    async def complete(self, prompt: Prompt) -> AsyncIterator[str | Finish]:
        if len(prompt.messages) > self.most:
            self.prompts.append(prompt)
            raise UpstreamOverflowError("It is too long.", 400, tokens=5000, window=4096)
        async for piece in super().complete(prompt):
            yield piece


def pool(liar: Liar, writer: Parrot) -> UpstreamPool:
    return UpstreamPool([PoolMember("liar", writer, liar, list_seconds=0.0)])


DEFAULTS = Defaults("m", counting=CountingSettings(max_tokens=20))


async def test_whatever_it_tells_of_windows_and_counts(store: SQLiteStore) -> None:
    upstreams = pool(Liar(WINDOWS, COUNTS), Parrot(("Yes.",)))
    answered = 0
    async with core_of(store, upstreams, DEFAULTS, models=upstreams) as core:
        for number in range(60):
            try:
                turn = await asked(core, f"{number} " + "What? " * (number % 20))
            except ContextLengthError:  # in a window that was told for it
                continue
            assert turn.status is Status.COMPLETED
            assert turn.context.prompt_tokens < 1 << 20
            answered += 1
        preview = await core.preview(ADA, "c", Ask("Hi"))
    await upstreams.close()
    assert answered > 30
    assert 64 <= preview.composed.window.size <= 1 << 31


@pytest.mark.parametrize("count", [1, 1 << 40])
async def test_a_count_that_is_wrong_is_not_believed_once_a_prompt_was_refused(
    store: SQLiteStore, count: int
) -> None:
    refuser = Refuser(most=1 << 20)
    upstreams = pool(Liar((4096,), (count,)), refuser)
    async with core_of(store, upstreams, DEFAULTS, models=upstreams) as core:
        for _ in range(10):
            await asked(core, "What is it? " * 10)
        refuser.most = 15
        before = len(refuser.prompts)
        turn = await asked(core, "And now?")
    await upstreams.close()
    assert turn.status is Status.COMPLETED
    lengths = [len(prompt.messages) for prompt in refuser.prompts[before:]]
    assert 1 < lengths[-1] <= 15, "some of the history is sent"


@pytest.mark.parametrize("name", ["", "\x1b]0;x\x07", "a\nb", "x" * 501])
async def test_a_name_that_moves_a_cursor_is_nobody_s_default(name: str) -> None:
    class Named(Liar):
        async def models(self) -> Sequence[Mapping[str, Any]]:
            return [{"id": name}, {"id": "good"}]

    upstreams = pool(Named((), ()), Parrot())
    assert await upstreams.first_listed("other") == "good"
    await upstreams.close()
