"""The gRPC client as people run it: a process of its own against a live server."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import sysconfig
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from server.upstream.port import UpstreamFailedError
from storage.model import Turn
from tests.clients.programs import CHECKOUT, read
from tests.clients.relay import Relay
from tests.server.transports.grpc.grpc_client import Served, serving
from tests.support.access import locked
from tests.support.fakes import Parrot, Puppet

SCRIPT = ("clients/grpc_client.py",)
MODULE = ("-m", "clients.grpc_client")


@asynccontextmanager
async def running(
    address: str, *arguments: str, how: tuple[str, ...] = SCRIPT, key: str = ""
) -> AsyncIterator[Process]:
    """Run the client; it is killed if the test leaves it alive."""
    environment = {**os.environ, "TRIALOGUE_API_KEY": key, "PYTHONUNBUFFERED": "1"}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *how, "--url", address, *arguments),
        cwd=CHECKOUT,
        env=environment,
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
    address: str, *arguments: str, lines: str = "", key: str = ""
) -> tuple[int | None, str, str]:
    """Run the client to its end; return its exit code, output and notices."""
    async with running(address, *arguments, key=key) as process:
        output, notices = await process.communicate(lines.encode())
        return process.returncode, output.decode(), notices.decode()


async def only_turn(served: Served) -> Turn:
    """Return the one turn of the one conversation there is."""
    page = await served.conversations.page("default")
    (conversation,) = page.items
    (turn_id,) = {
        message.turn_id
        for message in (await served.conversations.messages("default", conversation.id)).items
    }
    assert turn_id is not None
    return await served.conversations.turn("default", turn_id)


async def test_one_question_gives_one_answer(tmp_path: Path) -> None:
    async with serving(tmp_path, Parrot()) as served:
        code, output, notices = await run(served.address, "-p", "Hello, wörld 🎉")
        turn = await only_turn(served)
    assert (code, output) == (0, "Hello, wörld 🎉 \n")
    assert turn.answer == "Hello, wörld 🎉 "
    assert f"--conversation-id {turn.conversation_id}]" in notices


async def test_each_line_is_a_question_of_one_conversation(tmp_path: Path) -> None:
    puppet = Puppet().answer("One").answer("Two")
    async with serving(tmp_path, puppet) as served:
        code, output, _ = await run(
            served.address,
            *("--conversation-id", "c1", "--system-prompt", "Be brief.", "--model", "eliza-2"),
            lines="first\n\nsecond\n",
        )
    assert (code, output) == (0, "One\nTwo\n")
    assert puppet.prompts[0].model == "eliza-2"
    assert [message.content for message in puppet.prompts[1].messages] == [
        *("Be brief.", "first", "One", "second")
    ]


async def test_an_answer_survives_its_connections(tmp_path: Path) -> None:
    puppet = Puppet()
    async with serving(tmp_path, puppet) as served, Relay(served.listener.port) as relay:
        async with running(relay.address, "-p", "Hello") as process:
            for piece in ("Once ", "upon ", "ä ", "time"):
                puppet.say(piece)
                await read(process, piece)
                relay.cut()
            puppet.say(".").finish()
            output, notices = await process.communicate()
        turn = await only_turn(served)
    assert (process.returncode, output) == (0, b".\n")
    assert turn.answer == "Once upon ä time."
    assert b"[connection lost; try 1 of 10 in 0.2 s, from character 5]" in notices
    assert len(puppet.prompts) == 1


async def test_a_question_that_got_lost_is_asked_once(tmp_path: Path) -> None:
    """The connection breaks when the server has the question and the client no answer yet."""
    puppet = Puppet()
    async with serving(tmp_path, puppet) as served, Relay(served.listener.port) as relay:
        relay.swallow(behind=b"Hello there")
        async with running(relay.address, "-p", "Hello there") as process:
            await puppet.asked(1)
            relay.cut()
            puppet.answer("Hi")
            output, _ = await process.communicate()
    assert (process.returncode, output, len(puppet.prompts)) == (0, b"Hi\n", 1)


async def test_interrupting_cancels_the_answer(tmp_path: Path) -> None:
    puppet = Puppet()
    async with serving(tmp_path, puppet) as served:
        async with running(served.address, "-p", "Hello") as process:
            puppet.say("Well, ")
            await read(process, "Well, ")
            process.send_signal(signal.SIGINT)
            output, notices = await process.communicate()
        turn = await only_turn(served)
    assert (process.returncode, output) == (130, b"\n")
    assert notices.decode().endswith("[cancelled]\n")
    assert (turn.status, turn.answer) == ("cancelled", "Well, ")


async def test_a_failed_answer_says_why(tmp_path: Path) -> None:
    puppet = Puppet().say("Well").fail(UpstreamFailedError("The upstream broke."))
    async with serving(tmp_path, puppet) as served:
        code, output, notices = await run(served.address, "-p", "Hello")
    assert (code, output) == (1, "Well\n")
    assert notices.endswith("[failed: The upstream broke.]\n")


async def test_an_answer_that_a_stopping_server_cut_is_told_as_such(tmp_path: Path) -> None:
    puppet = Puppet()
    async with (
        serving(tmp_path, puppet) as served,
        running(served.address, "-p", "Hello") as process,
    ):
        puppet.say("Well, ")
        await read(process, "Well, ")
        await served.conversations.drain(0)
        output, notices = await process.communicate()
    assert (process.returncode, output) == (1, b"\n")
    assert b"[interrupted: " in notices


async def test_a_key_is_wanted_and_taken_from_the_environment(tmp_path: Path) -> None:
    async with serving(tmp_path, Parrot(), locked("ann:secret")) as served:
        code, output, notices = await run(served.address, "-p", "Hello")
        assert (code, output) == (1, "")
        assert notices.startswith("error: ")
        assert notices.endswith("Give a key with --api-key or TRIALOGUE_API_KEY.\n")
        assert notices.count("\n") == 1
        assert (await run(served.address, "-p", "Hello", key="secret"))[:2] == (0, "Hello \n")
        with_flag = await run(served.address, "-p", "Hello", "--api-key", "secret")
        assert with_flag[:2] == (0, "Hello \n")


@pytest.mark.parametrize("key", ["secret\nx", "secret\r", "ключ secret"])
async def test_a_key_that_cannot_be_one_is_not_repeated(key: str) -> None:
    code, output, notices = await run("localhost:1", "-p", "Hello", key=key)
    assert (code, output) == (2, "")
    assert "no key has a line break" in notices
    assert "secret" not in notices


async def test_an_address_that_is_none_is_one_line() -> None:
    code, output, notices = await run("[::1", "-p", "Hello")
    assert (code, output) == (1, "")
    assert notices == "error: [::1 must be HOST:PORT, or https://HOST:PORT\n"


async def test_nobody_there_is_said_in_one_line(tmp_path: Path) -> None:
    async with serving(tmp_path, Parrot()) as served:
        address = served.address
    code, output, notices = await run(address, "-p", "Hello")
    assert (code, output, notices.count("\n")) == (1, "", 1)
    assert notices.startswith(f"error: nobody answers at {address}. Start a server with:")


@pytest.mark.parametrize("host", ["", "127.0.0.1", "0.0.0.0"])
async def test_a_server_of_this_environment_is_found(tmp_path: Path, host: str) -> None:
    async with serving(tmp_path, Parrot()) as served:
        client = await asyncio.create_subprocess_exec(
            *(sys.executable, *SCRIPT, "-p", "Hello"),
            cwd=CHECKOUT,
            env={
                **os.environ,
                "TRIALOGUE_HOST": host,
                "TRIALOGUE_GRPC_PORT": str(served.listener.port),
            },
            stdout=PIPE,
            stderr=PIPE,
        )
        output, _ = await client.communicate()
    assert (client.returncode, output) == (0, b"Hello \n")


@pytest.mark.parametrize("how", [SCRIPT, MODULE])
async def test_it_shows_how_to_use_it(how: tuple[str, ...]) -> None:
    async with running("x", "--help", how=how) as process:
        output, _ = await process.communicate()
    assert process.returncode == 0
    assert b"examples:" in output


async def test_it_runs_from_a_checkout_that_is_not_installed() -> None:
    # -S reads no .pth files, so nothing is installed in editable mode.
    packages = sysconfig.get_path("purelib")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-S", *SCRIPT, "--help"),
        cwd=CHECKOUT,
        env={"PYTHONPATH": packages},
        stdout=PIPE,
    )
    output, _ = await process.communicate()
    assert (process.returncode, b"examples:" in output) == (0, True)
