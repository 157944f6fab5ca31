"""`trialogue ask` as people type it: words, pipes, and what comes out of it."""

from __future__ import annotations

import json

import pytest

from clients.ask import code_of
from server.config.limits import WebsocketLimits
from server.core.conversations import Conversations
from server.core.turns.questions import Ask
from tests.clients.terminal import command, terminal
from tests.server.transports.websocket.websocket_client import OWNER, serving
from tests.support.access import locked
from tests.support.fakes import Puppet
from tests.support.live import Served

#: one that would wait for a key for longer than a test may take
PATIENT = WebsocketLimits(key_timeout=3600)


def asked(upstream: Puppet) -> str:
    """Return the question that was asked last."""
    content = upstream.prompts[-1].messages[-1].content
    assert isinstance(content, str)
    return content


@pytest.mark.parametrize(
    ("arguments", "text", "expected"),
    [
        (("review this",), b"+ a line\n- another\n", "+ a line\n- another\n\nreview this"),
        ((), b"one\ntwo\n", "one\ntwo"),
        (("What", "is", "it?"), None, "What is it?"),
        (("-m", "eliza-2", "What is it?"), None, "What is it?"),
        (("What", "-m", "eliza-2", "is it?"), None, "What is it?"),
        (("What is it?", "--model", "eliza-2"), b"", "What is it?"),
        (("-p", "What is it?"), None, "What is it?"),
        (("--", "-x"), None, "-x"),
    ],
    ids=["both", "pipe", "words", "before", "between", "behind", "prompt", "dashes"],
)
async def test_words_and_piped_text_are_one_question(
    served: Served, upstream: Puppet, arguments: tuple[str, ...], text: bytes | None, expected: str
) -> None:
    upstream.answer("Fine.")
    code, output, _ = await command("ask", *arguments, at=served.websocket, text=text)
    assert (code, output) == (0, "Fine.\n")
    assert asked(upstream) == expected
    if "eliza-2" in arguments:
        assert upstream.prompts[-1].model == "eliza-2"


@pytest.mark.parametrize("text", [None, b"", b" \n"], ids=["none", "empty", "blank"])
async def test_nothing_asked_is_told(served: Served, text: bytes | None) -> None:
    code, output, notices = await command("ask", at=served.websocket, text=text)
    assert (code, output) == (2, "")
    assert "nothing is asked" in notices


async def test_what_is_no_text_is_one_line(served: Served) -> None:
    code, output, notices = await command("ask", "this?", at=served.websocket, text=b"\xff\xfe\0")
    assert (code, output, notices) == (2, "", "error: what is piped in is no text (UTF-8)\n")


async def test_it_goes_on_with_the_last_conversation(served: Served, upstream: Puppet) -> None:
    """With the one that was spoken in last, not with the one that was begun last."""
    for conversation_id in ("old", "new-one", "old"):
        upstream.answer("One")
        turn = await served.conversations.ask(OWNER, conversation_id, Ask("x"))
        async for _ in served.conversations.follow(OWNER, turn.id):
            pass
    upstream.answer("Two")
    assert (await command("ask", "-c", "and?", at=served.websocket))[:2] == (0, "Two\n")
    assert len((await served.conversations.messages(OWNER, "old")).items) == 6


async def test_there_may_be_none_to_go_on_with(served: Served) -> None:
    code, output, notices = await command("ask", "-c", "and?", at=served.websocket)
    assert (code, output) == (1, "")
    assert notices == "error: There is no conversation yet to go on with.\n"


async def test_a_conversation_and_its_system_prompt_are_named(
    served: Served, upstream: Puppet
) -> None:
    upstream.answer("Arr")
    words = ("-C", "ship", "-s", "You are a pirate.", "Who?")
    assert (await command("ask", *words, at=served.websocket))[0] == 0
    assert (await served.conversations.get(OWNER, "ship")).system_prompt == "You are a pirate."
    assert [one.content for one in upstream.prompts[-1].messages] == ["You are a pirate.", "Who?"]


async def test_json_is_the_whole_turn(served: Served, upstream: Puppet) -> None:
    upstream.answer("Good day, ", "wörld")
    code, output, _ = await command("ask", "--json", "-C", "c", "Hello", at=served.websocket)
    turn = json.loads(output)
    assert (code, turn["answer"], turn["status"]) == (0, "Good day, wörld", "completed")
    assert turn["conversation_id"] == "c"


async def test_the_code_alone_is_printed(served: Served, upstream: Puppet) -> None:
    upstream.answer("So:\n\n```sh\n", "echo 1\n```\n\nthen\n\n~~~\necho 2\n~~~\n")
    code, output, _ = await command("ask", "-x", "how?", at=served.websocket)
    assert (code, output) == (0, "echo 1\n\necho 2\n")


async def test_no_code_prints_nothing_and_fails(served: Served, upstream: Puppet) -> None:
    upstream.answer("I would rather not.")
    code, output, notices = await command("ask", "-x", "how?", at=served.websocket)
    assert (code, output) == (1, "")
    assert notices.endswith("error: there is no block of code in the answer\n")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("````md\n```\nx\n```\n````\n", "```\nx\n```\n"),
        ("1. so:\n   ```py\n   if x:\n       y\n   ```\n", "if x:\n    y\n"),
        ("```py\ncut o", "cut o"),
        ("`inline` and ``` none ```", ""),
    ],
    ids=["nested", "in a list", "cut off", "inline"],
)
def test_a_block_of_code_is_what_markdown_calls_one(answer: str, expected: str) -> None:
    assert code_of(answer) == expected


async def test_a_terminal_is_not_read_as_a_question(served: Served, upstream: Puppet) -> None:
    upstream.answer("Fine.")
    async with terminal("ask", "How are you?", served=served) as screen:
        await screen.read("Fine.\n")
        assert await screen.code() == 0
    assert asked(upstream) == "How are you?"


async def test_without_a_key_it_is_said_at_once(conversations: Conversations) -> None:
    """Not when the server is tired of waiting for a first frame that shows one: here never."""
    async with serving(conversations, locked("ada:good"), limits=PATIENT) as served:
        code, output, notices = await command("ask", "x", at=served.url)
    assert (code, output) == (1, "")
    assert notices.startswith("error: This server needs an API key. Give a key with --api-key")
