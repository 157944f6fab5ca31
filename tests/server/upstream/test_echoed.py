"""What llama.cpp tells of tokens that it was to echo, and what comes of a lie."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from server.openai_protocol import codec
from server.upstream.bodies import one
from server.upstream.pool import PoolMember, UpstreamPool
from server.upstream.port import Call, Reply, UpstreamError, UpstreamFailedError
from tests.support.fakes import Puppet


class Teller:
    """Lists one model of this owner, and tells the texts of tokens one after the other."""

    name = "teller"

    def __init__(self, *told: object, owner: str = "llamacpp") -> None:
        self._told = list(told)
        self._owner = owner
        self.calls: list[Call] = []

    @asynccontextmanager
    async def call(self, call: Call) -> AsyncIterator[Reply]:
        self.calls.append(call)
        told = self._told.pop(0) if call.path == "/detokenize" else {}
        if isinstance(told, UpstreamError):
            raise told
        yield Reply(500 if told == 500 else 200, {}, one(codec.encode(told)))

    lists = 0

    async def models(self) -> Sequence[Mapping[str, Any]]:
        self.lists += 1
        return [{"id": "m", "object": "model", "owned_by": self._owner}]

    async def close(self) -> None: ...


async def completed(teller: Teller, prompt: object, **more: Any) -> Call:
    """Return the completion that was asked for in the end."""
    pool = UpstreamPool([PoolMember("teller", Puppet(), teller, aliases={"ours": "m"})])
    body = codec.encode({"model": "ours", "prompt": prompt, "echo": True, **more})
    async with pool.call(Call("POST", "/completions", body=body, model="ours")):
        pass
    await pool.close()
    return teller.calls[-1]


async def test_each_prompt_s_text_is_asked_for() -> None:
    teller = Teller({"content": "one"}, {"content": ""})
    call = await completed(teller, [[1, 2], [3]])
    assert (call.path, call.echoed) == ("/completions", ("one", ""))
    asked = [codec.parse(bytes(one.body))[0] for one in teller.calls[:-1]]  # type: ignore[arg-type]
    assert asked == [{"tokens": [1, 2]}, {"tokens": [3]}]
    assert all(one.beside for one in teller.calls[:-1])
    assert (await completed(Teller({"content": "one"}), [1, 2])).echoed == ("one",)


@pytest.mark.parametrize(
    "lie", [{}, {"content": 5}, {"content": None}, [], 500, UpstreamFailedError("gone")]
)
async def test_where_a_text_is_not_told_none_is_echoed(lie: object) -> None:
    call = await completed(Teller({"content": "one"}, lie), [[1], [2]])
    assert (call.path, call.echoed) == ("/completions", ())


@pytest.mark.parametrize(
    ("prompt", "more"),
    [("text", {}), (["text"], {}), ([1], {"echo": False}), ([1], {"echo": "true"})],
)
async def test_nobody_is_asked_for_what_is_not_echoed(prompt: object, more: Any) -> None:
    teller = Teller()
    await completed(teller, prompt, **more)
    assert (len(teller.calls), teller.lists) == (1, 0)


async def test_nobody_is_asked_but_llama_cpp_and_not_for_hundreds() -> None:
    for teller, prompt in ((Teller(owner="vllm"), [[1]]), (Teller(), [[1]] * 129)):
        assert (await completed(teller, prompt)).echoed == ()
        assert len(teller.calls) == 1
