"""Starts each server that is measured, in a process of its own, alone on one core."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import venv
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
#: the cores of the harness and its upstream, and of the server
HARNESS, SERVER = 0, 1
_TICK: Final = os.sysconf("SC_CLK_TCK")
_PATIENCE: Final = 120.0


@dataclass(frozen=True, slots=True)
class Peer:
    """How a server is had and started, and where it takes which calls.

    `{port}`, `{upstream}` and `{folder}` stand in its words and variables.
    """

    name: str
    words: Sequence[str]
    env: Mapping[str, str]
    #: what pip installs, in an environment of its own; None for what is here
    package: str | None = None
    #: by which API a turn is kept: "ask", "responses", or none
    kept: str | None = None


PEERS: Final = {
    "trialogue": Peer(
        "trialogue",
        (sys.executable, "-m", "server", "serve", "--http-port", "{port}"),
        {
            "OPENAI_API_KEY": "sk-bench",
            "OPENAI_BASE_URL": "{upstream}/v1",
            "TRIALOGUE_MODEL": "fast",
            "TRIALOGUE_DATABASE": "{folder}/trialogue.db",
            "PYTHONPATH": f"{ROOT}:{ROOT / 'proto'}",
        },
        kept="ask",
    ),
    "agentic": Peer(
        "agentic",
        (
            *(
                "{bin}/agentic-server",
                "--llm-api-base",
                "{upstream}",
                "--gateway-host",
                "127.0.0.1",
            ),
            *("--gateway-port", "{port}", "--skip-llm-ready-check"),
            *("--db-url", "sqlite://{folder}/agentic.db"),
        ),
        {"HOME": "{folder}"},
        package="agentic-api==0.9.0",
        kept="responses",
    ),
    "litellm": Peer(
        "litellm",
        (
            "{bin}/litellm",
            "--config",
            "{folder}/litellm.yaml",
            "--host",
            "127.0.0.1",
            "--port",
            "{port}",
        ),
        {"HOME": "{folder}", "LITELLM_LOCAL_MODEL_COST_MAP": "True"},
        package="litellm[proxy]",
    ),
}


@dataclass(slots=True)
class Running:
    """A server that runs, and what it takes."""

    url: str
    pid: int
    #: seconds from its start until it answers
    started: float

    @property
    def cpu(self) -> float:
        """Return the seconds of CPU that it and its children have had."""
        return sum(map(_cpu, _tree(self.pid)))

    @property
    def memory(self) -> int:
        """Return the bytes that it and its children hold."""
        return sum(map(_memory, _tree(self.pid)))


@asynccontextmanager
async def running(peer: Peer, upstream: str, folder: Path) -> AsyncIterator[Running]:
    """Run a server before an upstream; what it keeps is in a folder."""
    port = _free_port()
    said = {"port": port, "upstream": upstream, "folder": folder, "bin": _environment(peer)}
    (folder / "litellm.yaml").write_text(_LITELLM.format(**said))
    words = [word.format(**said) for word in peer.words]
    if peer.name == "trialogue":
        words += ["--grpc-port", str(_free_port()), "--websocket-port", str(_free_port())]
    env = {name: value.format(**said) for name, value in peer.env.items()}
    began = time.perf_counter()
    with (folder / f"{peer.name}.log").open("wb") as log:
        process = subprocess.Popen(
            words,
            env={"PATH": os.environ["PATH"], **env},
            stdout=log,
            stderr=log,
            cwd=folder,
            preexec_fn=lambda: os.sched_setaffinity(0, {SERVER}),
        )
    try:
        await _answers(process, port, folder / f"{peer.name}.log")
        yield Running(f"http://127.0.0.1:{port}", process.pid, time.perf_counter() - began)
    finally:
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
        process.kill()
        process.wait()


@asynccontextmanager
async def upstream() -> AsyncIterator[str]:
    """Run the upstream beside the harness, and yield its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.peers.upstream"],
        stdout=subprocess.PIPE,
        cwd=ROOT,
        preexec_fn=lambda: os.sched_setaffinity(0, {HARNESS}),
    )
    try:
        assert process.stdout is not None
        port = int(await asyncio.to_thread(process.stdout.readline))
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


async def _answers(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    until = time.perf_counter() + _PATIENCE
    while time.perf_counter() < until:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended:\n{log.read_text(errors='replace')[-2000:]}")
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(1):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(b"GET /v1/models HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
                answered = await reader.readline()
                writer.close()
                if b" 200 " in answered:
                    return
        await asyncio.sleep(0.01)
    raise RuntimeError(f"the server did not answer:\n{log.read_text(errors='replace')[-2000:]}")


def _environment(peer: Peer) -> Path:
    """Return where a peer's commands are, and install it where it is not there."""
    if peer.package is None:
        return Path(sys.executable).parent
    place = ROOT / ".peers" / peer.name
    bin_ = place / "bin"
    if not (place / "whole").exists():
        print(f"installing {peer.package} …", file=sys.stderr, flush=True)
        shutil.rmtree(place, ignore_errors=True)
        venv.create(place, with_pip=True)
        subprocess.run([bin_ / "python", "-m", "pip", "install", "-q", peer.package], check=True)
        (place / "whole").touch()
    return bin_


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def _tree(pid: int) -> list[int]:
    found = [pid]
    for one in found:
        for task in Path(f"/proc/{one}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    return found


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


def _memory(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) << 10


_LITELLM: Final = """\
model_list:
  - model_name: fast
    litellm_params: {{model: openai/fast, api_base: "{upstream}/v1", api_key: sk-bench}}
  - model_name: paced
    litellm_params: {{model: openai/paced, api_base: "{upstream}/v1", api_key: sk-bench}}
litellm_settings: {{telemetry: false}}
"""
