"""What llama.cpp tells in its own way, or has no route for, told as OpenAI's clients know it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from tests.support.live import Fork
from tests.support.llama_server import LlamaServer


@pytest.fixture
async def server(tmp_path: Path, tiny_model: Path) -> AsyncIterator[Fork]:
    async with AsyncExitStack() as stack:
        llama = await stack.enter_async_context(LlamaServer(tiny_model, window=512))
        env = {"OPENAI_BASE_URL": llama.base_url}
        yield await stack.enter_async_context(Fork(tmp_path, env=env))


@pytest.fixture
async def client(server: Fork) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(api_key="k", base_url=f"{server.http}/v1") as opened:
        yield opened


async def test_the_default_model_is_what_it_lists(server: Fork, tiny_model: Path) -> None:
    assert str(tiny_model) in server.output
    async with httpx2.AsyncClient(base_url=server.http, timeout=60) as rest:
        asked = {"prompt": "Hello", "max_tokens": 4}
        turn = (await rest.post("/ask/c", json=asked)).json()
        preview = (await rest.post("/conversations/c/context", json={"prompt": "Hi"})).json()
    assert turn["model"] == str(tiny_model)
    assert turn["context"]["window"] == preview["window"] == 512
    assert (turn["context"]["counted"], preview["counted"]) == ("upstream", "upstream")
    assert (turn["context"]["window_known"], preview["window_known"]) == (True, True)


async def test_log_probabilities_of_a_text(client: openai.AsyncOpenAI, tiny_model: Path) -> None:
    asked: Any = {"model": str(tiny_model), "prompt": "Hello", "max_tokens": 3, "logprobs": 2}
    asked |= {"temperature": 0}
    told = (await client.completions.create(**asked)).choices[0]
    logprobs = told.logprobs
    assert logprobs is not None
    assert logprobs.tokens is not None
    assert logprobs.text_offset is not None
    assert logprobs.token_logprobs is not None
    assert len(logprobs.tokens) == len(logprobs.token_logprobs) == 3
    assert logprobs.text_offset[0] == 0
    assert logprobs.text_offset == sorted(logprobs.text_offset)
    assert all(1 <= len(top) <= 2 for top in logprobs.top_logprobs or ())
    pieces = [chunk async for chunk in await client.completions.create(**asked, stream=True)]
    tokens = [
        token
        for chunk in pieces
        for choice in chunk.choices
        if choice.logprobs is not None
        for token in choice.logprobs.tokens or ()
    ]
    assert len(tokens) == 3


async def test_a_prompt_is_echoed(client: openai.AsyncOpenAI, tiny_model: Path) -> None:
    asked: Any = {"model": str(tiny_model), "prompt": ["Hello", "Håp"], "max_tokens": 3}
    asked |= {"temperature": 0, "seed": 1}
    plain = (await client.completions.create(**asked)).choices
    texts = [prompt + one.text for prompt, one in zip(asked["prompt"], plain, strict=True)]
    echoed = await client.completions.create(**asked, echo=True, logprobs=1)
    assert [one.text for one in echoed.choices] == texts
    assert [one.logprobs and one.logprobs.text_offset for one in echoed.choices] == [
        [5, 6, 7],
        [3, 4, 5],
    ]
    streamed = {0: "", 1: ""}
    async for chunk in await client.completions.create(**asked, echo=True, stream=True):
        for one in chunk.choices:
            streamed[one.index] += one.text
    assert [*streamed.values()] == texts
    assert echoed.usage is not None
    assert echoed.usage.completion_tokens == 3


@pytest.mark.parametrize("many", [False, True])
async def test_a_prompt_of_tokens_is_echoed(
    client: openai.AsyncOpenAI, tiny_model: Path, many: bool
) -> None:
    hello, half = [259, 75, 104, 111, 111, 114], [75, 198]  # the second ends within a letter
    asked: Any = {"model": str(tiny_model), "prompt": [hello, half] if many else hello}
    asked |= {"max_tokens": 3, "temperature": 0, "seed": 1}
    prompts = [" Hello", "H\N{REPLACEMENT CHARACTER}"] if many else [" Hello"]
    plain = (await client.completions.create(**asked)).choices
    texts = [prompt + one.text for prompt, one in zip(prompts, plain, strict=True)]
    echoed = (await client.completions.create(**asked, echo=True)).choices
    assert [one.text for one in echoed] == texts
    streamed = dict.fromkeys(range(len(texts)), "")
    async for chunk in await client.completions.create(**asked, echo=True, stream=True):
        for one in chunk.choices:
            streamed[one.index] += one.text
    assert [*streamed.values()] == texts


async def test_tokens_that_there_are_not_are_refused_as_without_an_echo(
    client: openai.AsyncOpenAI, tiny_model: Path
) -> None:
    asked: Any = {"model": str(tiny_model), "prompt": [10**9], "echo": True}
    with pytest.raises(openai.BadRequestError, match="invalid tokens"):
        await client.completions.create(**asked)


async def test_what_may_follow_a_text(server: Fork) -> None:
    async with httpx2.AsyncClient(base_url=server.http, timeout=60) as rest:
        told = await rest.post("/v1/internal/logits", json={"prompt": "Hello", "top_logits": 5})
    assert told.status_code == 200
    likely = told.json()["logits"]
    assert 1 <= len(likely) <= 5
    assert all(0 < share < 1 for share in likely.values())


async def test_embeddings_and_moderations_fall_back(client: openai.AsyncOpenAI) -> None:
    embedded = await client.embeddings.create(model="text-embedding-3-small", input="Hello")
    assert len(embedded.data[0].embedding) == 1536
    judged = await client.moderations.create(input="Hello")
    assert judged.results[0].flagged is False


async def test_input_tokens_is_no_stored_completion(server: Fork, tiny_model: Path) -> None:
    asked = {"model": str(tiny_model), "messages": [{"role": "user", "content": "Hello"}]}
    async with httpx2.AsyncClient(base_url=server.http, timeout=60) as rest:
        told = await rest.post("/v1/chat/completions/input_tokens", json=asked)
    assert told.status_code == 200
    assert told.json()["input_tokens"] > 5
