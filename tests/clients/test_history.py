"""`trialogue list`, `show`, `rm` and `open` as people type them."""

from __future__ import annotations

import json

import pytest

from clients.history import address
from server.core.turns.questions import Ask
from storage.port import NotFoundError
from tests.clients.terminal import command
from tests.server.transports.websocket.websocket_client import OWNER
from tests.support.fakes import Puppet
from tests.support.imports import imported
from tests.support.live import Served


async def talked(served: Served, upstream: Puppet, conversation_id: str, *questions: str) -> None:
    """Have a conversation with these questions."""
    for question in questions:
        upstream.answer(f"{question}!")
        turn = await served.conversations.ask(OWNER, conversation_id, Ask(question))
        async for _ in served.conversations.follow(OWNER, turn.id):
            pass


async def test_conversations_are_listed_newest_first(served: Served, upstream: Puppet) -> None:
    await talked(served, upstream, "a", "About apples")
    await talked(served, upstream, "b", "About pears\x1b[2J")
    code, output, _ = await command("list", at=served.websocket)
    assert code == 0
    first, second = output.splitlines()
    assert first.startswith("b ")
    assert second.startswith("a ")
    assert second.endswith("About apples")
    assert "\x1b" not in output  # a title steers no terminal
    assert (await command("list", "apples", at=served.websocket))[1].splitlines() == [second]
    _, output, _ = await command("list", "-n", "1", "--json", at=served.websocket)
    assert [json.loads(line)["id"] for line in output.splitlines()] == ["b"]


async def test_a_list_goes_on_behind_its_first_page(served: Served, upstream: Puppet) -> None:
    for number in range(102):
        await served.conversations.create(OWNER, id=f"c{number}")
    _, output, _ = await command("list", "-n", "500", at=served.websocket)
    assert len(output.splitlines()) == 102


@pytest.mark.parametrize("most", ["-3", "0", "many"])
async def test_a_list_has_room_for_one_at_least(served: Served, most: str) -> None:
    code, output, notices = await command("list", "-n", most, at=served.websocket)
    assert (code, output) == (2, "")
    assert "--limit" in notices


async def test_a_conversation_is_shown_from_its_beginning(served: Served, upstream: Puppet) -> None:
    await talked(served, upstream, "a", *(str(number) for number in range(60)))
    code, output, _ = await command("show", "a", at=served.websocket)
    assert code == 0
    assert output.startswith("user:\n0\n\nassistant:\n0!\n\nuser:\n1\n")
    assert output.endswith("assistant:\n59!\n\n")
    assert await command("show", at=served.websocket) == (0, output, "")
    _, output, _ = await command("show", "a", "--json", at=served.websocket)
    assert json.loads(output.splitlines()[-1])["content"] == "59!"


async def test_conversations_are_deleted(served: Served, upstream: Puppet) -> None:
    await talked(served, upstream, "a", "x")
    code, output, notices = await command("rm", "a", at=served.websocket)
    assert (code, output, notices) == (0, "", "[deleted a]\n")
    with pytest.raises(NotFoundError):
        await served.conversations.get(OWNER, "a")


@pytest.mark.parametrize("word", ["show", "rm", "open"])
async def test_what_is_not_there_is_one_line(served: Served, word: str) -> None:
    code, output, notices = await command(word, "none", at=served.websocket)
    assert (code, output) == (1, "")
    assert notices.startswith("error: There is no conversation 'none'.")
    assert notices.count("\n") == 1


async def test_the_address_of_the_page_is_printed(served: Served, upstream: Puppet) -> None:
    await talked(served, upstream, "a:b", "x")
    code, output, _ = await command("open", "a:b", at=served.websocket)
    assert (code, output) == (0, "http://127.0.0.1:8000/#a:b\n")


def test_the_page_is_beside_the_websocket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIALOGUE_HTTP_PORT", "8443")
    assert (
        address("wss://chat.example:9001/", "websocket", "demo")
        == "https://chat.example:8443/#demo"
    )
    assert address("ws://[::1]:9001/", "websocket", "demo") == "http://[::1]:8443/#demo"


async def test_help_tells_where_the_page_is_looked_for(served: Served) -> None:
    _, output, _ = await command("open", "--help", at=served.websocket)
    assert "TRIALOGUE_HTTP_PORT" in output
    assert "the conversation (of the 100 newest" in " ".join(output.split())


async def test_parts_of_which_a_file_says_only_the_kind_are_named(served: Served) -> None:
    named = ("function", "custom", "tool_result", "refusal")
    await imported(served, "partly", *({"type": kind} for kind in named))
    code, output, notices = await command("show", "partly", at=served.websocket)
    assert (code, notices) == (0, "")
    assert output.endswith("assistant:\n[function]\n[custom]\n[tool_result]\n[refusal]\n\n")
