"""The shell client as people run it, with every awk that this machine has."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from server.upstream.port import UpstreamFailedError
from storage.sqlite.store import SQLiteStore
from tests.support.access import locked
from tests.support.fakes import Puppet
from tests.support.live import Served, serve

SCRIPT = Path(__file__).resolve().parents[2] / "clients" / "ask.sh"
AWKS = [
    name
    for name in ("awk", "gawk", "mawk", "original-awk", "busybox")
    if shutil.which(name) is not None
]


@pytest.fixture(params=AWKS)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A PATH on which `awk` is a particular one."""
    folder = tmp_path / "bin"
    folder.mkdir()
    found = shutil.which(request.param)
    applet = " awk" if request.param == "busybox" else ""
    (folder / "awk").write_text(f'#!/bin/sh\nexec {found}{applet} "$@"\n')
    (folder / "awk").chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


@asynccontextmanager
async def running(url: str, *words: str, path: str = "", key: str = "") -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        SCRIPT,
        *words,
        env={
            **os.environ,
            "PATH": path or os.environ["PATH"],
            "TRIALOGUE_URL": url,
            "TRIALOGUE_API_KEY": key,
        },
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
    url: str, *words: str, path: str = "", key: str = "", text: str = ""
) -> tuple[int | None, str, str]:
    """Ask; return the exit code, the answer and the notices."""
    async with running(url, *words, path=path, key=key) as process:
        output, notices = await process.communicate(text.encode())
        return process.returncode, output.decode(), notices.decode()


@asynccontextmanager
async def telling(*chunks: bytes) -> AsyncIterator[str]:
    """Serve this and nothing else over HTTP; yield the address."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for chunk in chunks:
            writer.write(chunk)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def stream(*texts: str, status: str = "completed") -> bytes:
    """Return an answer as SSE, all that is not ASCII escaped as `\\uXXXX`."""
    events = [("turn.delta", {"type": "turn.delta", "text": text}) for text in texts]
    ended = {"type": "turn.ended", "turn": {"status": status, "answer": '"status":"x"'}}
    body = "".join(
        f"event: {kind}\nid: turn_1:1\ndata: {json.dumps(data)}\n\n"
        for kind, data in [*events, ("turn.ended", ended)]
    )
    return b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n: hello\n\n" + body.encode()


async def test_an_answer_is_printed_and_nothing_else(
    served: Served, upstream: Puppet, path: str
) -> None:
    said = 'Good day, "wörld" \\ 🎉\n\tand\\n a second\r\nline: {"text": "x"}'
    upstream.answer(*said)
    assert await run(served.http, "Hello", "there", path=path) == (0, f"{said}\n", "")
    assert upstream.prompts[0].messages[-1].content == "Hello there"


@pytest.mark.parametrize("host", ["", "127.0.0.1", "0.0.0.0"])
async def test_a_server_of_this_environment_is_found(
    served: Served, upstream: Puppet, host: str
) -> None:
    upstream.answer("Good day")
    place = {"TRIALOGUE_HOST": host, "TRIALOGUE_HTTP_PORT": served.http.rpartition(":")[2]}
    client = await asyncio.create_subprocess_exec(
        *(SCRIPT, "Hello"), env={**os.environ, **place}, stdout=PIPE, stderr=PIPE
    )
    output, _ = await client.communicate()
    assert (client.returncode, output) == (0, b"Good day\n")


async def test_every_escape_of_json_is_understood(path: str) -> None:
    said = 'quote " slash \\ line\n tab\t é ż 日 \u07ff\u0800\uffff 🎉\U0010ffff \x01\x1f \\u0041'
    async with telling(stream(said, "", "/", "end")) as url:
        code, output, notices = await run(url, "x", path=path)
    assert (code, notices) == (0, "")
    assert output == f"{said}/end\n"


async def test_a_prompt_reaches_the_server_as_it_is(
    served: Served, upstream: Puppet, path: str
) -> None:
    upstream.answer("ok").answer("ok")
    prompt = 'He said "hé" \\n \\ $HOME `id`\n\tand\x01\x1f 🎉 %s'
    assert (await run(served.http, "-c", "c", prompt, path=path))[0] == 0
    assert (await run(served.http, "-c", "c", "-", path=path, text=f"{prompt}\n"))[0] == 0
    contents = [message.content for message in upstream.prompts[1].messages]
    assert contents == [prompt, "ok", prompt]


async def test_text_is_printed_as_it_comes(served: Served, upstream: Puppet, path: str) -> None:
    async with running(served.http, "Hello", path=path) as process:
        assert process.stdout is not None
        await upstream.asked(1)
        upstream.say("Once ")
        assert await process.stdout.readexactly(5) == b"Once "
        upstream.say("upon").finish()
        assert await process.stdout.read() == b"upon\n"
        assert await process.wait() == 0


async def test_a_refusal_is_one_line(served: Served) -> None:
    code, output, notices = await run(served.http, "  ")
    assert (code, output) == (1, "")
    assert notices == "ask.sh: prompt must not be empty.\n"


async def test_a_key_lets_it_in(store: SQLiteStore, upstream: Puppet) -> None:
    upstream.answer("Hello")
    key = 'a"b\\c$d'
    async with serve(store, upstream, auth=locked(f"ada:{key}")) as served:
        assert (await run(served.http, "x", key=key))[:2] == (0, "Hello\n")
        code, _, notices = await run(served.http, "x", key="wrong")
    assert code == 1
    assert notices == "ask.sh: Incorrect API key provided.\n"


async def test_a_key_that_cannot_be_one_is_not_repeated(served: Served) -> None:
    code, output, notices = await run(served.http, "x", key="good\nsecret")
    assert (code, output) == (2, "")
    assert notices.startswith("ask.sh: no key has a line break")
    assert "secret" not in notices


async def test_a_failure_is_one_line(served: Served, upstream: Puppet, path: str) -> None:
    upstream.say("Half").fail(UpstreamFailedError('It "broke"\n badly.'))
    code, output, notices = await run(served.http, "x", path=path)
    assert (code, output) == (1, "Half\n")
    assert notices == 'ask.sh: It "broke" badly.\n'


@pytest.mark.parametrize("status", ["cancelled", "interrupted"])
async def test_half_an_answer_is_not_success(status: str) -> None:
    async with telling(stream("Half", status=status)) as url:
        assert await run(url, "x") == (1, "Half\n", f"ask.sh: the answer was {status}\n")


async def test_nor_is_a_stream_that_was_cut() -> None:
    async with telling(stream("Half").partition(b"event: turn.ended")[0]) as url:
        code, output, notices = await run(url, "x")
    assert (code, output) == (1, "Half\n")
    assert notices == "ask.sh: the connection was lost before the answer ended\n"


async def test_a_server_that_is_not_ours_is_one_line() -> None:
    async with telling(b"HTTP/1.1 502 Bad Gateway\r\n\r\n<html>\n</html>") as url:
        assert await run(url, "x") == (1, "", "ask.sh: the server answered with HTTP 502\n")


async def test_nobody_there_is_one_line() -> None:
    async with telling() as url:
        pass
    code, output, notices = await run(url, "x")
    assert (code, output) == (1, "")
    assert notices.count("\n") == 1


@pytest.mark.parametrize("words", [(), ("-c",), ("-z", "x"), ("-c", "a b", "x"), ("-c", "", "x")])
async def test_wrong_words_are_one_line(words: tuple[str, ...]) -> None:
    code, output, notices = await run("http://127.0.0.1:1", *words)
    assert (code, output) == (2, "")
    assert "ask.sh: " in notices
