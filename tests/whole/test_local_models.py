"""A model pulled from a hub and served by `trialogue serve --local`, asked on every wire."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from server.commands import doctor
from server.config.settings import load
from tests.support.fake_hub import REPO, FakeHub, fake_hub
from tests.support.live import ROOT, Process
from tests.support.tiny_gguf import tiny_gguf, tiny_pieces
from tests.support.wires import WIRES
from tests.whole.listening import checked

#: an answer is short, and its window small
OPTIONS = {
    "TRIALOGUE_LOCAL_OPTIONS": '{"context": 2048, "threads": 1}',
    "TRIALOGUE_MAX_TOKENS": "24",
}


def environment(folder: Path, **more: str) -> dict[str, str]:
    return {**OPTIONS, "TRIALOGUE_MODELS": str(folder / "models"), **more}


class Installed(Process):
    """The command as `pip` installs it: from our wheel, and not from these files."""

    async def _begun(self, *words: str) -> asyncio.subprocess.Process:
        with (self._folder / "log").open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *self.program,
                *words,
                cwd=self._folder,
                env=self._env,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
            )


@pytest.fixture(scope="session", autouse=True)
def _installed(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Build our wheel and install it with the extra; what it needs is here, and nothing fetched."""
    made = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory"]
    subprocess.run([*build, str(made)], cwd=ROOT, check=True, capture_output=True)
    (wheel,) = made.glob("*.whl")
    venv.create(made / "venv", with_pip=True)
    (packages,) = (made / "venv").glob("lib/python*/site-packages")
    ours = {sysconfig.get_path(name) for name in ("purelib", "platlib")}
    (packages / "ours.pth").write_text("\n".join(sorted(ours)))
    pip = [str(made / "venv/bin/python"), "-m", "pip", "install", "--no-index", "--quiet"]
    # That the same is there for these tests, from these files, does not count; then its needs are
    # looked at, which must all be there.
    for words in (["--no-deps", "--force-reinstall", str(wheel)], ["trialogue[local]"]):
        subprocess.run([*pip, *words], cwd=made, check=True, env={"PATH": os.environ["PATH"]})
    Installed.program = (str(made / "venv/bin/trialogue"),)


async def pulled(folder: Path, hub: FakeHub) -> None:
    """Run `trialogue models pull` as a person does."""
    process = await asyncio.create_subprocess_exec(
        *(*Installed.program, "models", "pull", REPO, "--as", "tiny"),
        cwd=folder,
        env={
            **environment(folder, HF_ENDPOINT=hub.address),
            "PATH": os.environ["PATH"],
        },
    )
    assert await process.wait() == 0


async def test_two_processes_that_pull_one_model_do_not_meet_in_it(tmp_path: Path) -> None:
    data = tiny_gguf(tmp_path / "its.gguf").read_bytes()
    async with fake_hub(data) as hub:
        env = {**environment(tmp_path, HF_ENDPOINT=hub.address), "PATH": os.environ["PATH"]}
        words = ("models", "pull", REPO, "--as", "tiny")
        pulling = [
            await asyncio.create_subprocess_exec(
                *Installed.program, *words, cwd=tmp_path, env=env, stderr=asyncio.subprocess.PIPE
            )
            for _ in range(3)
        ]
        told = [(await one.communicate())[1].decode() for one in pulling]
    codes = [one.returncode for one in pulling]
    assert 0 in codes
    assert all("another process is at it" in told[at] for at, code in enumerate(codes) if code)
    assert hub.ranges_asked == [None]
    assert (tmp_path / "models/tiny.gguf").read_bytes() == data
    assert (
        sorted(one.name for one in (tmp_path / "models").iterdir() if one.suffix == ".part") == []
    )


@pytest.fixture
async def folder(tmp_path: Path) -> Path:
    """A folder with a model that was pulled."""
    async with fake_hub(tiny_gguf(tmp_path / "its.gguf").read_bytes()) as hub:
        await pulled(tmp_path, hub)
    return tmp_path


async def test_one_in_several_files_answers(tmp_path: Path) -> None:
    async with fake_hub(b"") as hub:
        hub.pieces = {one.name: one.read_bytes() for one in tiny_pieces(tmp_path)}
        await pulled(tmp_path, hub)
    async with Installed(tmp_path, "--local", "tiny", env=environment(tmp_path)) as server:
        events = [event async for event in WIRES["rest"](server).ask("c", "Hello")]
        told = await child(server)
    assert events[-1].turn is not None
    assert events[-1].turn["status"] == "completed"
    assert told["loaded"]


async def child(server: Process) -> dict[str, Any]:
    """Return what the server says of the child of its model."""
    async with httpx2.AsyncClient(base_url=server.http) as client:
        told = (await client.get("/readyz", params={"verbose": "1"})).json()
    (found,) = [one for one in told["upstreams"] if one.get("model") == "tiny"]
    return dict(found)


async def until(holds: Callable[[], bool]) -> None:
    while not holds():
        await asyncio.sleep(0.02)


def gone(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


async def test_a_pulled_model_answers_on_every_wire(folder: Path) -> None:
    async with Installed(folder, "--local", "tiny", env=environment(folder)) as server:
        assert "this machine, model tiny" in server.output
        for name, wire in WIRES.items():
            events = [event async for event in wire(server).ask(name, "Hello")]
            end = checked(events)
            assert end.turn is not None
            assert (end.turn["status"], end.turn["model"]) == ("completed", "tiny")
            assert end.turn["answer"] == "".join(one.text for one in events)
            assert end.turn["usage"]["completion_tokens"] > 0
        async with httpx2.AsyncClient(base_url=f"{server.http}/v1", timeout=60) as client:
            asked = {"model": "tiny", "messages": [{"role": "user", "content": "Hello"}]}
            answer = (await client.post("/chat/completions", json=asked)).json()
            assert answer["choices"][0]["message"]["role"] == "assistant"
            (listed,) = [
                one
                for one in (await client.get("/models")).json()["data"]
                if one["owned_by"] == "local"
            ]
        assert (listed["id"], listed["status"], listed["meta"]["n_ctx"]) == ("tiny", "loaded", 2048)
        assert len(listed["meta"]["sha256"]) == 64
        process = (await child(server))["pid"]
        server.terminate()
        assert await server.ended() == 0
        await until(lambda: gone(process))
        assert "Hello" not in server.log


async def test_the_child_of_a_server_that_is_killed_ends(folder: Path) -> None:
    async with Installed(folder, "--local", "tiny", env=environment(folder)) as server:
        checked([event async for event in WIRES["rest"](server).ask("a", "Hello")])
        process = (await child(server))["pid"]
        server.kill()
        await until(lambda: gone(process))


async def test_a_hangup_loads_it_anew_and_nobody_notices(folder: Path) -> None:
    async with Installed(folder, "--local", "*", env=environment(folder)) as server:
        checked([event async for event in WIRES["rest"](server).ask("a", "Hello")])
        first = await child(server)
        os.kill(server.pid, signal.SIGHUP)
        while (now := await child(server))["pid"] == first["pid"]:
            checked([event async for event in WIRES["grpc"](server).ask("a", "Hello")])
        assert now["loaded"]
        await until(lambda: gone(first["pid"]))
        end = checked([event async for event in WIRES["websocket"](server).ask("a", "Hello")])
        assert end.turn is not None
        assert end.turn["status"] == "completed"


async def test_a_model_that_cannot_be_loaded_fails_its_turns_with_the_reason(folder: Path) -> None:
    env = environment(folder)
    env["TRIALOGUE_LOCAL_OPTIONS"] = '{"memory_limit": "1MB"}'
    async with Installed(folder, "--local", "tiny", env=env) as server:
        end = checked([event async for event in WIRES["rest"](server).ask("a", "Hello")])
        assert end.turn is not None
        assert end.turn["status"] == "failed"
        assert end.turn["error"]["code"] == "upstream_failed"
        assert "1 MB are free" in end.turn["error"]["message"]


async def test_eliza_answers_where_no_model_is_named(folder: Path) -> None:
    async with Installed(folder, env=environment(folder)) as server:
        assert "Eliza, built in" in server.output
    async with Installed(
        folder, "--local", "*", env=environment(folder, TRIALOGUE_MODELS=str(folder / "none"))
    ) as server:
        assert "Eliza, built in" in server.output


async def test_the_doctor_looks_at_engine_file_and_memory(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    flags = {"local": "tiny", "models_folder": folder / "models", "http_port": 0}
    flags |= {"grpc_port": 0, "websocket_port": 0}
    assert await doctor.examine(load(flags)) == 0
    out = capsys.readouterr().out
    assert "ok   engine " in out
    assert "ok   local model tiny: as it was pulled; takes 10 MB with 2 windows of 8,192" in out
    file = folder / "models" / "tiny.gguf"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    assert await doctor.examine(load(flags)) == 1
    assert "BAD  local model tiny: its sha256 is another" in capsys.readouterr().out
    assert await doctor.examine(load({**flags, "local": "tiny,none"})) == 1
    assert "BAD  TRIALOGUE_LOCAL: model 'none'" in capsys.readouterr().out
