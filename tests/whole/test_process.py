"""The server as a process of its own: what it prints, how it ends, when it refuses to begin."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import socket
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.support.live import ROOT, Process
from tests.support.starts import started
from tests.support.wires import WIRES
from tests.whole.listening import LONG, Listener, checked, heard, refused, settled

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")


class Shown(Process):
    """A server whose greeting is read to its end."""

    async def __aenter__(self) -> Shown:
        await super().__aenter__()
        return self

    async def _listening(self) -> None:
        await super()._listening()
        assert self._process.stdout is not None
        while "curl" not in self.output:
            self.output += (await self._process.stdout.readline()).decode()

    @property
    def line(self) -> str:
        """The line to paste."""
        (found,) = re.findall(r"^\s*(curl .*)$", self.output, re.MULTILINE)
        return str(found)


async def pasted(line: str, env: Mapping[str, str] | None = None) -> Any:
    """Return the JSON that a line prints in a shell."""
    process = await asyncio.create_subprocess_exec(
        *("sh", "-c", f"{line} --silent --show-error"),
        stdout=asyncio.subprocess.PIPE,
        env={"PATH": os.environ["PATH"], **(env or {})},
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    return json.loads(output)


async def drains(server: Process) -> None:
    """Wait until the server says that it is no longer ready."""
    async with httpx2.AsyncClient(base_url=server.http, verify=False) as client:
        while (response := await client.get("/readyz")).status_code == 200:
            await asyncio.sleep(0.01)
    assert response.status_code == 503
    assert response.json()["error"]["code"] == "draining"


async def test_it_says_where_it_listens_and_what_to_paste(tmp_path: Path) -> None:
    async with Shown(tmp_path) as server:
        told = {
            line.split("  ")[1].strip(): line
            for line in server.output.splitlines()
            if line[:2] == "  "
        }
        assert server.http in told["page, REST, SSE"]
        assert server.grpc in told["gRPC"]
        assert server.websocket in told["websocket"]
        assert "Eliza, built in: OPENAI_API_KEY is not set" in told["upstream"]
        assert f"trialogue.db (SQLite {sqlite3.sqlite_version})" in told["history"]
        assert "none needed on this machine" in told["keys"]
        turn = await pasted(server.line)
        assert (turn["conversation_id"], turn["status"]) == ("demo", "completed")
        for wire in WIRES.values():
            assert (await wire(server).messages("demo"))[-1] == ("assistant", turn["answer"])
        await _cannot_begin(tmp_path, server)
        server.terminate()
        assert await server.ended() == 0
    settled(tmp_path / "trialogue.db")
    assert "Traceback" not in server.log


async def _cannot_begin(folder: Path, beside: Process) -> None:
    """Try starts that cannot be, in the folder of a server that runs."""
    (folder / "file").write_text("no database")
    (folder / "folder").mkdir()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        starts = {
            "TRIALOGUE_HTTP_PORT": ["--http-port", beside.http.rpartition(":")[2]],
            "TRIALOGUE_GRPC_PORT": ["--grpc-port", port],
            "TRIALOGUE_WEBSOCKET_PORT": ["--websocket-port", port],
            "TRIALOGUE_DATABASE: trialogue.db": [],
            "TRIALOGUE_DATABASE: none/x.db": ["--database", "sqlite:///none/x.db"],
            "TRIALOGUE_DATABASE: folder": ["--database", "sqlite:///folder"],
            "TRIALOGUE_DATABASE: file": ["--database", "sqlite:///file"],
            "TRIALOGUE_DATABASE: file/x.db": ["--database", "sqlite:///file/x.db"],
            "TRIALOGUE_DATABASE: /proc/x.db": ["--database", "sqlite:////proc/x.db"],
            "TRIALOGUE_DATABASE: must": ["--database", "mysql://x"],
            "TRIALOGUE_DATABASE: postgresql://": ["--database", "postgresql://127.0.0.1:1/x"],
            "TRIALOGUE_ROOT_PATH: /web is a path": ["--root-path", "/web"],
            "TRIALOGUE_ROOT_PATH: /v1 is a path": ["--root-path", "/v1/chat"],
            "TRIALOGUE_ENCODING": ["--encoding", "klingon"],
            "TRIALOGUE_HTTP_PORT: ": ["--http-port", "http"],
            "TRIALOGUE_DRAIN_SECONDS": ["--drain-seconds", "-1"],
            "TRIALOGUE_ELIZA_DELAY": ["--eliza-delay", "nan"],
            "TRIALOGUE_MAX_BODY_BYTES": ["--max-body-bytes", "much"],
            "TRIALOGUE_TLS_CERT": ["--tls-cert", "file"],
            "TRIALOGUE_TLS_CERT, TRIALOGUE_TLS_KEY": ["--tls-cert", "file", "--tls-key", "file"],
        }
        free = ("http", "grpc", "websocket")
        words = [
            [*(f"--{one}-port=0" for one in free), *_elsewhere(setting), *more]
            for setting, more in starts.items()
        ]
        codes, told = await started(folder, words)
    for setting, code, line in zip(starts, codes, told, strict=True):
        assert code not in (0, None), setting
        assert line.startswith(f"trialogue: {setting}"), (setting, line)
        assert line.count("\n") == 1, line


def _elsewhere(setting: str) -> list[str]:
    """Take another database where it is not the database that a start fails for."""
    return [] if setting.startswith("TRIALOGUE_DATABASE") else ["--database=sqlite:///other.db"]


async def test_it_is_told_to_end_in_the_middle_of_ten_answers(tmp_path: Path) -> None:
    slow = {"TRIALOGUE_ELIZA_DELAY": "0.25"}
    async with Process(tmp_path, "--drain-seconds", "3", env=slow) as server:
        wires = [wire(server) for wire in WIRES.values()]
        prompts = [LONG, LONG, "Hello"] * 3 + ["Hello"]
        asked = {
            f"c{number}": Listener(wires[number // 3 % 3].ask(f"c{number}", prompt))
            for number, prompt in enumerate(prompts)
        }
        await asyncio.gather(*(listener.until(" ") for listener in asked.values()))
        # Somebody else follows on another wire, and somebody watches on a third.
        followers = [
            Listener(wires[number % 3].follow(one.turn_id))
            for number, one in enumerate(asked.values())
        ]
        watchers = [Listener(wire.watch("c0")) for wire in wires]
        await asyncio.gather(*(one.until(" ") for one in (*followers, *watchers)))
        server.terminate()
        await drains(server)
        for wire in wires:
            assert await refused(heard(wire, "c99")) == "draining"
            assert await refused(heard(wire, "c0")) == "draining"
        ends = [checked(await one.ends()) for one in asked.values()]
        assert [checked(await one.ends()) for one in followers] == ends
        assert [checked(await one.ends()) for one in watchers] == [ends[0]] * 3
        assert await server.ended() == 0
    statuses = {prompt: set[str]() for prompt in prompts}
    for prompt, end in zip(prompts, ends, strict=True):
        assert end.turn is not None
        statuses[prompt].add(end.turn["status"])
    assert statuses == {LONG: {"interrupted"}, "Hello": {"completed"}}
    settled(tmp_path / "trialogue.db")
    assert "Traceback" not in server.log


async def test_open_to_the_network_it_wants_the_key_that_it_made(tmp_path: Path) -> None:
    async with Shown(tmp_path, "--listen") as server:
        (key,) = set(re.findall(r"tk_[\w-]+", server.output))
        assert f"{key}   (made now, shown this once)" in server.output
        assert (await pasted(server.line))["status"] == "completed"
        await _opens_to(server, key)
        server.terminate()
        assert await server.ended() == 0
    files = [one for one in tmp_path.iterdir() if one.is_file()]
    assert [one.name for one in files if key.encode() in one.read_bytes()] == []
    assert {one.stat().st_mode & 0o077 for one in files if one.name != "log"} == {0}
    await _the_key_stays(tmp_path, key)


async def _the_key_stays(folder: Path, key: str) -> None:
    """Start once more; then tell it twice to end, and it waits no longer for an answer."""
    slow = {"TRIALOGUE_ELIZA_DELAY": "0.1"}
    async with Shown(folder, "--listen", "--drain-seconds", "600", env=slow) as server:
        assert "tk_" not in server.output
        turn = await pasted(server.line, {"TRIALOGUE_API_KEY": key})
        assert turn["status"] == "completed"
        await _opens_to(server, key)
        listeners = [Listener(wire(server, key).ask(f"l-{n}", LONG)) for n, wire in WIRES.items()]
        await asyncio.gather(*(one.until(" ") for one in listeners))
        server.terminate()
        await drains(server)
        server.terminate()
        ends = [checked(await one.ends()).turn for one in listeners]
        assert [end and end["status"] for end in ends] == ["interrupted"] * 3
        assert await server.ended() == 0
    settled(folder / "trialogue.db")


async def test_where_a_foreign_host_is_let_in_it_wants_the_key_that_it_made(tmp_path: Path) -> None:
    """A proxy on this machine may bring anybody under that name."""
    async with Shown(tmp_path, "--allowed-hosts", "chat.example") as server:
        (key,) = set(re.findall(r"tk_[\w-]+", server.output))
        assert f"{key}   (made now, shown this once)" in server.output
        assert (await pasted(server.line))["status"] == "completed"
        await _opens_to(server, key)
        for path in ("/conversations", "/v1/models"):
            url, host = f"{server.http}{path}", "Host: chat.example"
            told = await pasted(f"curl {url} -H '{host}'")
            assert told["error"]["code"] == "invalid_api_key"
            assert "data" in await pasted(
                f"curl {url} -H '{host}' -H 'Authorization: Bearer {key}'"
            )


async def test_the_first_key_closes_a_server_that_runs(tmp_path: Path) -> None:
    async with Shown(tmp_path) as server:
        assert (await pasted(server.line))["status"] == "completed"
        for owner in ("alice", "default"):
            made = await asyncio.create_subprocess_exec(
                *(*Process.program, "keys", "create", owner),
                cwd=tmp_path,
                env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
                stdout=asyncio.subprocess.PIPE,
            )
            output = (await made.communicate())[0].decode()
            assert ("keys create default" in output) is (owner == "alice")
            if owner == "alice":
                for wire in WIRES.values():
                    refusal = await refused(heard(wire(server, None), "c1"))
                    assert refusal == "invalid_api_key"
        await _opens_to(server, output.split()[0])


async def _opens_to(server: Process, key: str) -> None:
    await asyncio.gather(*(_opens(name, server, key) for name in WIRES))


async def _opens(name: str, server: Process, key: str) -> None:
    """Check that the key opens a wire, and that nothing else does."""
    wire = WIRES[name]
    for wrong in (None, "wrong", key[:-1]):
        assert await refused(heard(wire(server, wrong), "c1")) == "invalid_api_key"
        assert await refused(wire(server, wrong).messages("demo")) == "invalid_api_key"
    end = await heard(wire(server, key), f"key-{name}")
    assert end.turn is not None
    assert end.turn["status"] == "completed"
    assert len(await wire(server, key).messages("demo")) >= 2
