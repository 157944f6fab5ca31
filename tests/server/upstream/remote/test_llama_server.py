"""Answers of llama.cpp's own server, with the model that the tests make."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.upstream.answering import Answering
from server.upstream.port import Finish, Prompt, UpstreamRejectedError
from storage.model import PromptMessage, Role
from tests.server.upstream.remote.turn_helpers import asking
from tests.support.llama_server import LlamaServer
from tests.support.tiny_gguf import STRICT, tiny_gguf


async def said(upstream: Answering, *words: str) -> tuple[str, Finish]:
    messages = tuple(PromptMessage(Role.USER, word) for word in words)
    pieces = [
        piece
        async for piece in upstream.complete(Prompt("", messages, max_tokens=8, temperature=0))
    ]
    assert isinstance(pieces[-1], Finish)
    return "".join(str(piece) for piece in pieces[:-1]), pieces[-1]


async def test_it_answers_the_same_each_time(tiny_model: Path) -> None:
    async with LlamaServer(tiny_model, window=512) as llama:
        upstream = asking(llama.base_url, api_key=None)
        text, finish = await said(upstream, "Hello")
        again, ending = await said(upstream, "Hello")
        assert (text, finish.reason) == (again, ending.reason)
        await upstream.close()
    assert text
    assert finish.usage is not None
    assert finish.usage.completion_tokens == 8


async def test_a_strict_template_refuses_two_questions_in_a_row(tmp_path: Path) -> None:
    model = tiny_gguf(tmp_path / "strict.gguf", template=STRICT)
    async with LlamaServer(model, window=512) as llama:
        upstream = asking(llama.base_url, api_key=None)
        await said(upstream, "Hello")
        with pytest.raises(UpstreamRejectedError, match="roles must alternate"):
            await said(upstream, "Hello", "Hello again")
        await upstream.close()
