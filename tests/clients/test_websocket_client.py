"""The websocket client as people run it: a process of its own against a live server."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from clients.websocket_client import usual_url
from server.core.conversations import Conversations
from server.core.turns.questions import Ask
from server.upstream.port import UpstreamFailedError
from storage.model import Status
from storage.sqlite.store import SQLiteStore
from tests.clients.programs import CHECKOUT, last_turn, port, read
from tests.clients.relay import Relay
from tests.server.transports.websocket.websocket_client import OWNER, serving
from tests.support.access import locked
from tests.support.fakes import Puppet
from tests.support.live import Served, serve
from tests.support.wires import upgraded

SCRIPT = ("clients/websocket_client.py",)
MODULE = ("-m", "clients.websocket_client")


@asynccontextmanager
async def running(
    url: str, *arguments: str, how: tuple[str, ...] = SCRIPT, key: str = ""
) -> AsyncIterator[Process]:
    """Run the client; it is killed if the test leaves it alive."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *how, "--url", url, *arguments),
        cwd=CHECKOUT,
        env={**os.environ, "TRIALOGUE_API_KEY": key, "PYTHONUNBUFFERED": "1"},
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def run(
    url: str, *arguments: str, lines: str = "", how: tuple[str, ...] = SCRIPT, key: str = ""
) -> tuple[int | None, str, str]:
    """Run the client to its end; return its exit code, output and notices."""
    async with running(url, *arguments, how=how, key=key) as process:
        output, notices = await process.communicate(lines.encode())
        return process.returncode, output.decode(), notices.decode()


@pytest.mark.parametrize("how", [SCRIPT, MODULE], ids=["script", "module"])
async def test_one_question_gives_one_answer(
    served: Served, upstream: Puppet, how: tuple[str, ...]
) -> None:
    upstream.answer("Good day, ", "wörld 🎉")
    code, output, notices = await run(served.websocket, "-p", "Hello", how=how)
    assert (code, output) == (0, "Good day, wörld 🎉\n")
    assert "go on with --conversation-id conv_" in notices


async def test_each_line_is_a_question_of_one_conversation(
    served: Served, upstream: Puppet
) -> None:
    upstream.answer("One").answer("Two")
    code, output, _ = await run(
        served.websocket,
        *("--conversation-id", "c1", "--system-prompt", "Be brief.", "--model", "eliza-2"),
        lines="first\n\nsecond\n",
    )
    assert (code, output) == (0, "One\nTwo\n")
    assert upstream.prompts[0].model == "eliza-2"
    assert [message.content for message in upstream.prompts[1].messages] == [
        *("Be brief.", "first", "One", "second")
    ]


async def test_an_answer_is_printed_as_it_comes(served: Served, upstream: Puppet) -> None:
    async with running(served.websocket, "-p", "Hello") as client:
        await upstream.asked(1)
        upstream.say("Once ")
        await read(client, "Once ")
        upstream.say("upon").finish()
        await read(client, "upon\n")
        assert await client.wait() == 0


async def test_control_c_stops_an_answer_and_keeps_the_conversation(
    served: Served, upstream: Puppet
) -> None:
    async with running(served.websocket, "--conversation-id", "c") as client:
        assert client.stdin is not None
        client.stdin.write(b"first\n")
        await upstream.asked(1)
        upstream.say("Half")
        await read(client, "Half")
        client.send_signal(signal.SIGINT)
        await read(client, "\n")
        assert (await last_turn(served.conversations, "c")).status is Status.CANCELLED
        # What it says now belongs to no turn any more; the next one is fed anew.
        upstream.finish().answer("Whole")
        client.stdin.write(b"second\n")
        await read(client, "Whole\n")
        client.stdin.close()
        assert await client.wait() == 130


async def test_a_lost_connection_is_dialled_again_and_nothing_is_lost(
    served: Served, upstream: Puppet
) -> None:
    async with (
        Relay(port(served.websocket)) as relay,
        running(f"ws://{relay.address}/", "-p", "Hello") as client,
    ):
        await upstream.asked(1)
        upstream.say("Once ")
        await read(client, "Once ")
        relay.cut()
        upstream.say("upon a ")
        await read(client, "upon a ")
        relay.cut()
        upstream.say("time").finish()
        output, notices = await client.communicate()
        assert (client.returncode, output.decode()) == (0, "time\n")
    assert "from character 5" in notices.decode()


async def test_a_question_that_got_no_answer_is_asked_again_and_is_one_turn(
    served: Served, upstream: Puppet
) -> None:
    async with Relay(port(served.websocket)) as relay:
        relay.swallow(b"")
        address = f"ws://{relay.address}/"
        async with running(address, "--conversation-id", "c", "-p", "Hello") as client:
            relay.cut()
            upstream.answer("Once")
            output, _ = await client.communicate()
            assert (client.returncode, output.decode()) == (0, "Once\n")
    assert len((await served.conversations.messages(OWNER, "c")).items) == 2


async def test_a_watcher_reads_along_and_goes_on_after_a_cut(
    served: Served, upstream: Puppet
) -> None:
    upstream.say("One")
    await served.conversations.ask(OWNER, "c", Ask("x"))
    async with Relay(port(served.websocket)) as relay:
        watching = running(f"ws://{relay.address}/", "--conversation-id", "c", "--watch")
        async with watching as client:
            await read(client, "One")
            relay.cut()
            upstream.say(" more").finish()
            await read(client, " more\n")
            upstream.answer("Two")
            await served.conversations.ask(OWNER, "c", Ask("y"))
            await read(client, "Two\n")
            client.send_signal(signal.SIGINT)
            assert await client.wait() == 0


async def test_it_talks_on_the_http_port_too(store: SQLiteStore, upstream: Puppet) -> None:
    async with serve(store, upstream) as whole:
        upstream.answer("Hello")
        assert (await run(upgraded(whole), "-p", "x"))[:2] == (0, "Hello\n")


async def test_a_key_lets_it_in_and_a_wrong_one_is_one_line(
    conversations: Conversations, upstream: Puppet
) -> None:
    async with serving(conversations, locked("ada:good")) as served:
        upstream.answer("Hello")
        assert (await run(served.url, "-p", "x", key="good"))[:2] == (0, "Hello\n")
        code, output, notices = await run(served.url, "-p", "x", "--api-key", "bad")
    assert (code, output) == (1, "")
    assert notices.startswith("error: Incorrect API key provided. Give a key with --api-key")
    assert notices.count("\n") == 1


@pytest.mark.parametrize("key", ["secret\nx", "secret\r", "ключ secret"])
async def test_a_key_that_cannot_be_one_is_not_repeated(served: Served, key: str) -> None:
    code, output, notices = await run(served.websocket, "-p", "Hello", key=key)
    assert (code, output) == (2, "")
    assert "no key has a line break" in notices
    assert "secret" not in notices


async def test_a_failure_is_one_line(served: Served, upstream: Puppet) -> None:
    upstream.fail(UpstreamFailedError("The upstream\nbroke."))
    code, output, notices = await run(served.websocket, "-p", "x", "--conversation-id", "c")
    assert (code, output) == (1, "\n")
    assert notices == "[failed: The upstream broke.]\n"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--conversation-id", "a b", "-p", "x"), "error: conversation_id must be"),
        (("--conversation-id", "none", "--watch"), "error: There is no conversation 'none'."),
        (("-p", " "), "error: prompt must not be empty."),
    ],
)
async def test_a_refusal_is_one_line(
    served: Served, arguments: tuple[str, ...], expected: str
) -> None:
    code, output, notices = await run(served.websocket, *arguments)
    assert (code, output) == (1, "")
    assert notices.startswith(expected)
    assert notices.count("\n") == 1


async def test_nobody_there_is_one_line_that_says_what_to_do(
    conversations: Conversations,
) -> None:
    async with serving(conversations) as served:
        url = served.url
    code, _, notices = await run(url, "-p", "x")
    assert code == 1
    assert notices.startswith(f"error: {url} cannot be reached: Connection refused.")
    assert "trialogue serve" in notices
    assert notices.count("\n") == 1


@pytest.mark.parametrize(
    "url",
    [
        "localhost:9001",
        "http://localhost:9001/",
        "ws://[::1",
        "ws://[x",
        "ws://localhost:99999/",
        "ws://localhost:port/",
        f"ws://{'a' * 80}/",
    ],
)
async def test_an_address_that_is_none_is_one_line(url: str) -> None:
    code, _, notices = await run(url, "-p", "x")
    assert code == 1
    assert "must be ws://HOST:PORT/" in notices
    assert notices.count("\n") == 1


@pytest.mark.parametrize("host", ["", "127.0.0.1", "0.0.0.0"])
@pytest.mark.parametrize("how", [SCRIPT, ("-m", "server", "ask")], ids=["script", "command"])
async def test_a_server_of_this_environment_is_found(
    served: Served, upstream: Puppet, how: tuple[str, ...], host: str
) -> None:
    upstream.answer("Good day")
    client = await asyncio.create_subprocess_exec(
        *(sys.executable, *how, "-p", "Hello"),
        cwd=CHECKOUT,
        env={
            **os.environ,
            "PYTHONPATH": "proto",
            "TRIALOGUE_HOST": host,
            "TRIALOGUE_WEBSOCKET_PORT": str(port(served.websocket)),
        },
        stdout=PIPE,
        stderr=PIPE,
    )
    output, _ = await client.communicate()
    assert (client.returncode, output) == (0, b"Good day\n")


async def test_an_ipv6_address_is_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIALOGUE_HOST", "::1")
    monkeypatch.setenv("TRIALOGUE_WEBSOCKET_PORT", "7")
    assert usual_url() == "ws://[::1]:7/"


async def test_help_shows_examples() -> None:
    code, output, _ = await run("ws://localhost:1/", "--help")
    assert code == 0
    assert "websocket_client.py --conversation-id demo --watch" in output
