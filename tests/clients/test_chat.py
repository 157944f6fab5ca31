"""`trialogue chat` in a pseudo-terminal: its commands, and what is never sent to a model."""

from __future__ import annotations

import pytest

from tests.clients.terminal import command, terminal
from tests.support.fakes import Puppet
from tests.support.live import Served

PROMPT = "you> "


@pytest.mark.parametrize("word", ["exit", "Quit", "/quit", "/exit"])
async def test_a_word_leaves_and_is_never_asked(
    served: Served, upstream: Puppet, word: str
) -> None:
    async with terminal("chat", served=served) as screen:
        await screen.read(PROMPT)
        screen.type(word)
        assert await screen.code() == 0
    assert upstream.prompts == []


async def test_an_unknown_command_is_never_asked(served: Served, upstream: Puppet) -> None:
    async with terminal("chat", served=served) as screen:
        await screen.read(PROMPT)
        screen.type("/regenrate now")
        await screen.read("[there is no command /regenrate; /help lists those there are]\n")
        await screen.read(PROMPT)
        upstream.answer("A file.")
        screen.type("/etc/hosts is what?")
        await screen.read("A file.\n")
    assert [prompt.messages[-1].content for prompt in upstream.prompts] == ["/etc/hosts is what?"]


async def test_an_unknown_command_in_a_pipe_is_never_asked(
    served: Served, upstream: Puppet
) -> None:
    code, output, notices = await command("chat", at=served.websocket, text=b"/nothing\nexit\nx\n")
    assert (code, output) == (2, "")
    assert "there is no command /nothing" in notices
    assert upstream.prompts == []


async def test_conversations_are_found_opened_and_begun(served: Served, upstream: Puppet) -> None:
    async with terminal("chat", "-C", "fruit", served=served) as screen:

        async def ask(question: str, answer: str) -> None:
            await screen.read(PROMPT)
            upstream.answer(answer)
            screen.type(question)
            await screen.read(f"{answer}\n")

        await ask("apples", "Red.")
        await screen.read(PROMPT)
        screen.type("/new")
        await ask("pears", "Green.")
        assert [one.content for one in upstream.prompts[-1].messages] == ["pears"]
        await screen.read(PROMPT)
        screen.type("/list apples")
        await screen.read("fruit ")
        await screen.read(PROMPT)
        screen.type("/search apples")
        await screen.read("fruit ")
        await screen.read(PROMPT)
        screen.type("/open none")
        await screen.read("error: There is no conversation 'none'.")
        await screen.read(PROMPT)
        screen.type("/open fruit")
        await ask("and now?", "Still red.")
        assert [one.content for one in upstream.prompts[-1].messages] == [
            *("apples", "Red.", "and now?")
        ]
        await screen.read(PROMPT)
        screen.type("/help")
        await screen.read("/search WORDS")
