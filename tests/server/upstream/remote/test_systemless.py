"""Models whose template takes no system message are told it in the user's first."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from server.upstream.port import Prompt, UpstreamRejectedError
from storage.model import Content, PromptMessage, Role
from tests.server.upstream.remote.turn_helpers import PROMPT, scripted, told
from tests.support.upstream_script import Exchange, fail, say

WORDS = (
    "System role not supported",
    "Conversation roles must alternate user/assistant/user/assistant/...",
    "Only user and assistant roles are supported!",
    "Developer instruction is not enabled for models/gemma-3-27b-it",
)


def prompt(said: Content = "Hi", **more: Any) -> Prompt:
    messages = (PromptMessage(Role.SYSTEM, "Be kind."), PromptMessage(Role.USER, said))
    return replace(PROMPT, messages=messages, **more)


def strict(words: str) -> Any:
    """Refuse a system message in these words, as a server does whose template raises them."""

    async def behave(exchange: Exchange) -> None:
        has_one = exchange.request.body["messages"][0]["role"] == "system"
        await (fail(400, words) if has_one else say("Yes."))(exchange)

    return behave


@pytest.mark.parametrize("words", WORDS)
async def test_it_is_told_in_the_user_s_first(words: str) -> None:
    async with scripted(*[strict(words)] * 2) as (server, client):
        assert (await told(client, prompt()))[0] == "Yes."
    sent = [one.body["messages"] for one in server.requests]
    roles = [[one["role"] for one in messages] for messages in sent]
    assert roles == [["system", "user"], ["user"]]
    assert sent[1][0]["content"] == "Be kind.\n\nHi"


async def test_a_picture_keeps_its_place() -> None:
    picture = {"type": "image_url", "image_url": {"url": "https://example.org/y.png"}}
    async with scripted(*[strict(WORDS[0])] * 2) as (server, client):
        await told(client, prompt([picture]))
    (said,) = server.requests[1].body["messages"]
    assert said["content"] == [{"type": "text", "text": "Be kind."}, picture]


async def test_what_came_as_it_is_stays_so() -> None:
    async with scripted(strict(WORDS[0])) as (server, client):
        with pytest.raises(UpstreamRejectedError, match="not supported"):
            await told(client, prompt(as_it_came=True))
    assert len(server.requests) == 1


@pytest.mark.parametrize("words", [*WORDS, "You are too rude."])
async def test_a_template_that_refuses_everything_is_asked_twice_at_most(words: str) -> None:
    refusing = fail(400, words)
    async with scripted(*[refusing] * 3) as (server, client):
        with pytest.raises(UpstreamRejectedError, match=words.split("/")[0]):
            await told(client, prompt())
        assert len(server.requests) == 1 + (words in WORDS)
        with pytest.raises(UpstreamRejectedError):
            await told(client, PROMPT)  # there is nothing to put anywhere
    assert len(server.requests) == 2 + (words in WORDS)
