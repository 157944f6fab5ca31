"""A whole server for tests: every listener on a free port, in this process or in one of its own."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from server.app.core import core_of
from server.config.limits import UpstreamLimits
from server.config.settings import Settings, load
from server.core.access.auth import Auth
from server.core.conversations import Conversations
from server.core.observability.traces import Traces
from server.core.prompt.characters import Characters
from server.core.turns.plan import Defaults
from server.transports.grpc.listener import RpcListener
from server.transports.http.listener import HttpListener
from server.transports.http.upgrade import WEBSOCKET
from server.transports.rest import app as rest
from server.transports.rest.state import RestState
from server.transports.sockets import listening_socket
from server.transports.tls import certificate_of
from server.transports.websocket.listener import WebsocketListener
from server.upstream.port import Upstream
from storage.port import Store
from tests.support.access import OPEN_ACCESS
from tests.support.forked import Forked, fork

ROOT = Path(__file__).parents[2]
#: In continuous integration nothing may be missing; elsewhere what is missing is skipped.
CI = bool(os.environ.get("CI"))
FREE = {"http_port": 0, "grpc_port": 0, "websocket_port": 0}
#: where a server keeps its history, in its folder
NAME = "trialogue.db"
ANY_PORTS = ("--http-port", "0", "--grpc-port", "0", "--websocket-port", "0")


@dataclass(frozen=True)
class Served:
    """Where a server of this process listens, and what is behind it."""

    conversations: Conversations
    http: str
    grpc: str
    websocket: str


@asynccontextmanager
async def serve(
    store: Store,
    upstream: Upstream,
    *,
    model: str = "gpt-4o",
    auth: Auth | None = None,
    characters: Characters | None = None,
    traces: Traces | None = None,
    at_once: UpstreamLimits | None = None,
    **flags: Any,
) -> AsyncIterator[Served]:
    """Serve on all three ports; `flags` are settings by field name."""
    settings: Settings = load({**FREE, **flags})
    tls = certificate_of(settings)
    auth = auth or OPEN_ACCESS
    characters, at_once = characters or Characters(), at_once or UpstreamLimits()
    defaults = Defaults(model, characters=characters, upstreams=at_once)
    async with AsyncExitStack() as stack:
        core = await stack.enter_async_context(core_of(store, upstream, defaults, traces=traces))
        bound = stack.enter_context(listening_socket("127.0.0.1", 0))
        port = bound.getsockname()[1]
        rpc = await stack.enter_async_context(RpcListener(core, auth, settings, tls=tls))
        listener = WebsocketListener(core, auth, settings, page_port=port, tls=tls)
        websocket = await stack.enter_async_context(listener)
        mounts = [rest.mount(RestState(core, grpc_port=rpc.port))]
        upgrades = {WEBSOCKET: websocket.connection}
        await stack.enter_async_context(
            HttpListener(
                mounts, core.requests, auth, settings, bound=bound, tls=tls, upgrades=upgrades
            )
        )
        stack.push_async_callback(core.drain, 0)
        yield Served(
            core,
            f"http://127.0.0.1:{port}",
            f"127.0.0.1:{rpc.port}",
            f"ws://127.0.0.1:{websocket.port}/",
        )


class Process:
    """`trialogue serve` as a user starts it, in a process of its own."""

    #: what is executed; our command's words come behind it
    program: tuple[str, ...] = (sys.executable, "-m", "server")

    def __init__(self, folder: Path, *words: str, env: Mapping[str, str] | None = None) -> None:
        self._folder = folder
        self._words = words
        self._env = {"PATH": os.environ["PATH"], "TRIALOGUE_LOG_FORMAT": "json", **(env or {})}
        self.output = ""
        self.http = self.grpc = self.websocket = ""

    async def __aenter__(self) -> Self:
        self._process = await self._begun("serve", *ANY_PORTS, *self._words)
        try:
            await self._listening()
        except BaseException:  # one that is not entered is not left either
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self.ended()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def log(self) -> str:
        return (self._folder / "log").read_text()

    def kill(self) -> None:
        """As `kill -9` does."""
        self._process.kill()

    def terminate(self) -> None:
        self._process.send_signal(signal.SIGTERM)

    async def ended(self) -> int:
        """Wait for the end and return the exit code."""
        assert self._process.stdout is not None
        self.output += (await self._process.stdout.read()).decode()
        return await self._process.wait()

    async def _begun(self, *words: str) -> asyncio.subprocess.Process | Forked:
        with (self._folder / "log").open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *self.program,
                *words,
                cwd=self._folder,
                env={**self._env, "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "proto")))},
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
            )

    async def _listening(self) -> None:
        assert self._process.stdout is not None
        while "curl " not in self.output:
            line = await self._process.stdout.readline()
            if not line:
                code = await self.ended()
                raise AssertionError(f"the server ended with {code}:\n{self.output}{self.log}")
            self.output += line.decode()
        self.http = _found(r"(https?://\S+?)\s", self.output)
        self.grpc = _found(r"gRPC\s+(\S+)", self.output)
        self.websocket = _found(r"(wss?://\S+)", self.output)


class Fork(Process):
    """The same, sooner: in a process that was forked."""

    async def _begun(self, *words: str) -> Forked:
        return await fork(*words, folder=self._folder, env=self._env, log=self._folder / "log")


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    assert match is not None, text
    return match[1]
