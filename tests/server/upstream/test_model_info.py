"""Windows and counts, as upstreams' lists of models and the settings tell them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from server.openai_protocol import codec
from server.upstream.bodies import one
from server.upstream.model_info import Counter, window_of
from server.upstream.pool import PoolMember, UpstreamPool
from server.upstream.port import Call, Reply
from storage.model import PromptMessage, Role
from tests.support.fakes import Puppet

HELLO = (PromptMessage(Role.USER, "Hello"),)


class Lister:
    """Lists these models, and counts as it was told to."""

    name = "lister"

    def __init__(self, *models: Mapping[str, Any], count: Mapping[str, Any] | None = None) -> None:
        self._models, self._count = models, count
        self.calls: list[Call] = []

    @asynccontextmanager
    async def call(self, call: Call) -> AsyncIterator[Reply]:
        self.calls.append(call)
        body = codec.encode(self._count or {"error": {"message": "no such route"}})
        yield Reply(200 if self._count else 404, {}, one(body))

    async def models(self) -> Sequence[Mapping[str, Any]]:
        return self._models

    async def close(self) -> None: ...


def pool(speaker: Lister, **fields: Any) -> UpstreamPool:
    return UpstreamPool([PoolMember("m", Puppet(), speaker, **fields)], now=lambda: 1.0)


@pytest.mark.parametrize(
    "listed",
    [
        {"meta": {"n_ctx": 4096, "n_ctx_train": 131072}},
        {"max_model_len": 4096},
        {"context_length": 4096, "top_provider": {"context_length": 2048}},
        {"loaded_context_length": 4096, "max_context_length": 131072},
        {"context_window": 4096},
    ],
)
def test_where_lists_tell_a_window(listed: Mapping[str, Any]) -> None:
    assert window_of(listed) == 4096


@pytest.mark.parametrize("value", [0, -1, 1, True, "4096", 4096.0, None, 1 << 40])
def test_what_is_no_window(value: object) -> None:
    assert window_of({"context_length": value, "meta": value}) is None


async def test_an_alias_is_counted_as_what_it_stands_for() -> None:
    upstreams = pool(Lister(), aliases={"fast": "gpt-4"})
    info = await upstreams.info("fast")
    assert (info.named.model, info.named.exact) == ("gpt-4", True)
    await upstreams.close()


async def test_the_settings_for_an_upstream_count_more_than_its_list() -> None:
    upstreams = pool(Lister({"id": "q", "context_length": 4096}), windows={"q*": 512})
    info = await upstreams.info("q")
    assert (info.set_window, info.told_window) == (512, 4096)
    await upstreams.close()


@pytest.mark.parametrize(
    ("owner", "how", "path", "answer"),
    [
        ("llamacpp", Counter.LLAMA_CPP, "/chat/completions/input_tokens", {"input_tokens": 32}),
        ("vllm", Counter.VLLM, "/tokenize", {"count": 32, "max_model_len": 4096}),
    ],
)
async def test_a_server_counts_for_us(
    owner: str, how: Counter, path: str, answer: Mapping[str, Any]
) -> None:
    speaker = Lister({"id": "q", "owned_by": owner}, count=answer)
    upstreams = pool(speaker)
    info = await upstreams.info("q")
    assert info.counter is how
    assert await upstreams.count(info, HELLO) == 32
    assert speaker.calls[0].path == path
    await upstreams.close()


async def test_one_that_does_not_is_not_asked_again_soon() -> None:
    speaker = Lister({"id": "q", "owned_by": "llamacpp"})
    upstreams = pool(speaker)
    info = await upstreams.info("q")
    assert [await upstreams.count(info, HELLO) for _ in range(3)] == [None] * 3
    assert len(speaker.calls) == 1
    await upstreams.close()


@pytest.mark.parametrize("tokenizer", ["learn", "tiktoken:cl100k_base"])
async def test_the_settings_say_how_it_is_counted(tokenizer: str) -> None:
    speaker = Lister({"id": "q", "owned_by": "llamacpp"})
    upstreams = pool(speaker, tokenizers={"*": tokenizer})
    info = await upstreams.info("q")
    assert info.counter is None
    assert info.named.exact is (tokenizer != "learn")
    await upstreams.close()
