"""The commands of the terminal client over each wire: the same words, the same output."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from clients.web import base
from clients.wires import WIRES
from server.core.turns.questions import Ask
from storage.parts import Kind, Part
from tests.clients.programs import CHECKOUT, last_turn, port, read
from tests.clients.relay import Relay
from tests.clients.terminal import command, environment, terminal
from tests.server.transports.websocket.websocket_client import OWNER
from tests.support.fakes import Puppet
from tests.support.live import Fork, Served

#: The smallest picture.
ENCODED = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"
    "+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
EACH = pytest.mark.parametrize("wire", WIRES)


def at(served: Served, wire: str) -> str:
    """Return where a server is, for who speaks this wire; the address alone says which it is."""
    return {"websocket": served.websocket, "rest": served.http, "grpc": served.grpc}[wire]


@EACH
async def test_a_conversation_is_had_over_it(
    served: Served, upstream: Puppet, wire: str, tmp_path: Path
) -> None:
    url = at(served, wire)
    upstream.answer("Good day, ", "wörld").answer("Again.")
    words = ("-C", "c", "-s", "Be brief.")
    assert (await command("ask", *words, "Hello", at=url))[:2] == (0, "Good day, wörld\n")
    code, output, _ = await command("ask", "-c", "--json", "And?", at=url)
    turn = json.loads(output)
    assert (code, turn["answer"], turn["wire"]) == (0, "Again.", wire)
    assert isinstance(turn["usage"]["total_tokens"], int)
    assert [one.content for one in upstream.prompts[-1].messages] == [
        *("Be brief.", "Hello", "Good day, wörld", "And?")
    ]
    assert (await command("list", at=url))[1].startswith("c ")
    assert (await command("show", "c", at=url))[1].endswith("user:\nAnd?\n\nassistant:\nAgain.\n\n")
    assert (await command("rm", "c", at=url))[0] == 0
    code, _, notices = await command("show", "c", at=url)
    assert (code, notices.count("\n")) == (1, 1)
    assert notices.startswith("error: There is no conversation 'c'.")


@EACH
async def test_a_lost_connection_is_dialled_again(
    served: Served, upstream: Puppet, wire: str
) -> None:
    async with Relay(int(at(served, wire).strip("/").rpartition(":")[2])) as relay:
        scheme = {"websocket": "ws://", "rest": "http://", "grpc": ""}[wire]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "server", "ask", "--url", f"{scheme}{relay.address}", "Hello"),
            cwd=CHECKOUT,
            env=environment(),
            stdout=PIPE,
            stderr=PIPE,
        )
        await upstream.asked(1)
        upstream.say("Once ")
        await read(process, "Once ")
        relay.cut()
        upstream.say("upon a time").finish()
        output, notices = await process.communicate()
        assert (process.returncode, output.decode()) == (0, "upon a time\n")
    assert "from character 5" in notices.decode()


@EACH
async def test_nobody_there_is_one_line(wire: str) -> None:
    code, output, notices = await command("ask", "--wire", wire, "x", at=NOWHERE[wire])
    assert (code, output, notices.count("\n")) == (1, "", 1)
    assert "cannot be reached" in notices


NOWHERE = {"websocket": "ws://127.0.0.1:1/", "rest": "http://127.0.0.1:1", "grpc": "127.0.0.1:1"}


@EACH
async def test_commands_of_a_chat_work_over_it(served: Served, upstream: Puppet, wire: str) -> None:
    upstream.answer("Red.").answer("Green.").answer("Blue.")
    lines = "apples\n/regenerate\n/edit pears\n/search pears\n/context\n/list\n/system Be brief.\n"
    code, output, notices = await command(
        "chat", "-C", "c", at=at(served, wire), text=lines.encode()
    )
    assert (code, notices) == (0, "")
    assert output.startswith("Red.\nGreen.\nBlue.\n")
    assert [one.messages[-1].content for one in upstream.prompts] == ["apples", "apples", "pears"]
    assert (await served.conversations.get(OWNER, "c")).system_prompt == "Be brief."


@EACH
async def test_calls_of_tools_are_a_line_each(served: Served, upstream: Puppet, wire: str) -> None:
    upstream.say(Part(Kind.REASONING), "Let me see.", Part(Kind.TEXT), "Looking.")
    upstream.say(Part(Kind.TOOL_CALL, "call_a", "look"), '{"at":\n "Oslo"}')
    upstream.say(Part(Kind.TOOL_CALL, "call_b", "wait"), "{}").finish("tool_calls")
    code, output, notices = await command("ask", "-C", "c", "Where?", at=at(served, wire))
    assert (code, output) == (0, "Looking.\n")
    assert notices == '[calls look: {"at": "Oslo"}]\n[calls wait: {}]\n'
    _, output, _ = await command("show", "c", at=at(served, wire))
    assert "Looking.\n[calls look:" in output
    assert "Let me see." not in output


@EACH
async def test_pictures_are_asked_about(
    served: Served, upstream: Puppet, wire: str, tmp_path: Path
) -> None:
    (tmp_path / "cat.png").write_bytes(base64.b64decode(ENCODED))
    upstream.answer("A cat.")
    words = ("--image", str(tmp_path / "cat.png"), "Who is it?")
    assert (await command("ask", *words, at=at(served, wire)))[:2] == (0, "A cat.\n")
    assert upstream.prompts[-1].messages[-1].content == [
        {"type": "text", "text": "Who is it?"},
        {
            "type": "image_url",
            "image_url": {"url": f"data:image/png;base64,{ENCODED}", "detail": "auto"},
        },
    ]


@pytest.mark.parametrize("name", ["notes.txt", "none.png"])
async def test_what_is_no_picture_is_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "notes.txt").write_text("x")
    code, output, notices = await command(
        "ask", "--image", str(tmp_path / name), "x", at=NOWHERE["rest"]
    )
    assert (code, output, notices.count("\n")) == (2, "", 1)
    assert name in notices


@EACH
async def test_whoever_has_read_enough_closes_the_pipe(
    served: Served, upstream: Puppet, wire: str
) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "server", "ask", "--url", at(served, wire), "-C", "c", "Tell me"),
        cwd=CHECKOUT,
        env=environment(),
        stdout=PIPE,
        stderr=PIPE,
        limit=4,
    )
    await upstream.asked(1)
    upstream.say("Once ")
    await read(process, "Once ")
    process.stdout._transport.close()  # type: ignore[union-attr]
    upstream.say("upon ", "a ", "time").finish()
    assert process.stderr is not None
    assert await process.stderr.read() == b""
    assert await process.wait() == 141
    assert (await last_turn(served.conversations, "c")).answer == "Once upon a time"


@pytest.mark.parametrize("word", ["websocket", "rest"])
async def test_the_models_of_a_server_are_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    async with Fork(tmp_path) as server:
        monkeypatch.setenv("TRIALOGUE_HTTP_PORT", str(port(server.http)))
        url = server.websocket if word == "websocket" else server.http
        code, output, _ = await command("models", at=url)
    assert (code, output.splitlines()[0]) == (0, "eliza")


@pytest.mark.parametrize(
    ("url", "wire", "page"),
    [
        ("http://a:1/x/", "rest", "http://a:1/x"),
        ("ws://a:1/x/ws", "websocket", "http://a:1/x"),
        ("wss://a:1/", "websocket", "https://a:8000"),
        ("a:9000", "grpc", "http://a:8000"),
    ],
)
def test_the_page_is_found_from_every_address(url: str, wire: str, page: str) -> None:
    assert base(url, wire) == page


async def test_a_plain_terminal_shows_the_last_words(served: Served, upstream: Puppet) -> None:
    upstream.answer("Red.")
    turn = await served.conversations.ask(OWNER, "c", Ask("apples"))
    async for _ in served.conversations.follow(OWNER, turn.id):
        pass
    async with terminal("chat", "-C", "c", served=served) as screen:
        await screen.read("user: apples\nassistant: Red.\n")


@pytest.mark.parametrize("page", [b"<h1>Please log in</h1>", b"[]"])
async def test_what_is_no_server_of_ours_is_told_in_one_line(page: bytes) -> None:
    """A proxy in front, or whatever else has the port, answers with a page of its own."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(page), page))
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as other:
        url = "http://{}:{}".format(*other.sockets[0].getsockname())
        for word in ("list", "models"):
            told = await command(word, at=url)
            assert told == (1, "", f"error: {url} is no Trialogue server.\n")
