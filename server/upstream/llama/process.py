"""One process that serves one model: begun, waited for until it is ready, ended."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import signal
import subprocess
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import IO, Any, Self

from server.openai_protocol.codec import MalformedError, parse
from server.upstream.answering import Answering
from server.upstream.bodies import whole
from server.upstream.llama.child import CANNOT_LOAD
from server.upstream.port import Call, UpstreamError
from server.upstream.remote.bounds import Bounds
from server.upstream.remote.client import UpstreamClient
from server.upstream.retry import Retries

#: an hour: a large model on a slow machine reads a long prompt for many minutes
PATIENCE = 3600.0
#: how long a model may take to be loaded, in seconds: a large one from a slow disk takes minutes
LOADING = 1800.0
#: what it says once it listens: where, and which process has the model
_LISTENS = re.compile(rb'\{"address": "(http://127\.0\.0\.1:\d+)", "pid": (\d+)\}\s*')
#: lines of what it complains of that are kept
_LINES = 50
#: how often a program that still loads is asked whether it is ready, in seconds
_AGAIN = 0.1
#: how long it may take to see that its leash was let go
_GRACE = 2.0
#: how often it is looked whether one that is ending has ended, in seconds
_REAPED = 0.005
#: how long, and how much, what it says of its state may be
_STATE, _STATE_BYTES = 5.0, 1 << 20
#: what an engine says of its own end, once it is asked things: nothing else of it is kept then
_FATAL = re.compile(r"GGML_ASSERT|ggml_abort|out of memory|CUDA error|failed to allocate", re.I)
_STAMP = re.compile(r"^[\d.]+ [A-Z] ")
#: words of the line that says most of why it ended, the best first
_TELLING = ("error loading model", "GGML_ASSERT", "out of memory", "invalid", "failed", "error")
#: variables of ours, and of others' secrets, that are nothing to an engine
_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|^TRIALOGUE_|^OPENAI_|^OTEL_", re.I)


#: what it writes: its output, its errors
_Pipes = tuple[asyncio.StreamReader, asyncio.StreamReader]


class ChildError(Exception):
    """A child that ended before it was ready; the text says why."""

    def __init__(self, why: str, *, again: bool) -> None:
        super().__init__(why)
        #: whether trying again may help
        self.again = again


class Child:
    """A child that serves a model on this machine's own address, to whoever has its random key.

    It ends when its standard input does: when we end it, and when we die, however we do.
    """

    def __init__(
        self, process: subprocess.Popen[bytes], pipes: _Pipes, key: str, name: str, file: str
    ) -> None:
        self._process = process
        #: of the process that has the model, which may be a program that the child runs
        self.pid = process.pid
        self._output, self._errors = pipes
        self._key = key
        self._name = name
        self._file = file
        self._lines: deque[str] = deque(maxlen=_LINES)
        self._connected = self._ready = False
        self._reading = asyncio.create_task(self._read())
        #: ends with it
        self.ended = asyncio.create_task(self._wait())
        #: set once it is ready
        self.upstream: Answering
        self.speaker: UpstreamClient
        self._root: UpstreamClient
        #: what it says of itself: `meta` of its own list of models
        self.meta: Mapping[str, Any] = {}

    @classmethod
    async def begin(cls, command: Sequence[str], name: str, file: str) -> Self:
        """Begin a child, which then has still to become ready. Raises ChildError.

        Where it complains of the model's `file`, its `name` is told.
        """
        key = secrets.token_urlsafe(32)
        env = {one: value for one, value in os.environ.items() if not _SECRET.search(one)}
        try:
            # Not by the event loop, which forks: gRPC's threads are none of a child's business.
            process = subprocess.Popen(  # noqa: ASYNC220, S603 - begun in a millisecond
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**env, "LLAMA_API_KEY": key},
                start_new_session=True,  # Ctrl-C is for us, and lets turns end first
            )
        except OSError as error:
            raise ChildError(error.strerror or "it cannot be begun", again=True) from None
        pipes = (await _reader(process.stdout), await _reader(process.stderr))
        return cls(process, pipes, key, name, file)

    @property
    def gone(self) -> bool:
        """Whether it has ended."""
        return self.ended.done()

    @property
    def why(self) -> str:
        """Why it ended, as far as it is known; no word of anybody's."""
        code = self._process.returncode
        how = "it ended"
        if code is not None and code < 0:
            how = f"it was ended by {signal.Signals(-code).name}"
        elif code:
            how = f"it ended with {code}"
        telling = (line for words in _TELLING for line in self._lines if words in line)
        told = next(telling, self._lines[-1] if self._lines else None)
        return f"{how}: {told}" if told else how

    async def ready(self, patience: float = LOADING) -> None:
        """Wait until its model is loaded.

        Raises ChildError where it ends before that, or takes longer than so many seconds.
        """
        try:
            async with asyncio.timeout(patience):
                await self._begun()
        except TimeoutError:
            told = f"it was not loaded within {patience:,.0f} seconds"
            raise ChildError(told, again=False) from None
        self._ready = True
        self._lines.clear()

    async def _begun(self) -> None:
        """Wait for the line that says where it listens, then for its model."""
        while (found := _LISTENS.fullmatch(line := await self._line())) is None:
            if not line:
                await self.ended
                code = self._process.returncode
                raise ChildError(self.why, again=code != CANNOT_LOAD)
        self.pid = int(found[2])
        self._connect(found[1].decode())
        while not self.gone and not await self._loaded():
            await asyncio.wait([self.ended], timeout=_AGAIN)
        if self.gone:
            await self.close()
            raise ChildError(self.why, again=True)

    async def _line(self) -> bytes:
        """Return the next line that it prints; empty at the end."""
        while True:
            with suppress(ValueError):  # a line longer than any that counts is passed over
                return await self._output.readline()

    async def close(self) -> None:
        """End it, at once and for good."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        await asyncio.wait([self.ended], timeout=_GRACE)
        self._process.kill()
        await asyncio.wait([self.ended])
        if self._connected:
            self._connected = False
            await self.upstream.close()
            await self._root.close()

    async def asleep(self) -> bool:
        """Say whether it has given its memory back until it is asked the next time."""
        try:
            async with asyncio.timeout(_STATE), self._root.call(Call("GET", "/props")) as reply:
                told, _ = parse(await whole(reply.body, _STATE_BYTES))
        except (UpstreamError, MalformedError, TimeoutError):
            return False
        return bool(told.get("is_sleeping"))

    async def _read(self) -> None:
        """Keep what it complains of until it is ready; then only what it dies of."""
        with suppress(ValueError):  # a line longer than any that is told
            async for line in self._errors:
                said = line.decode("utf-8", "replace").strip().replace(self._file, self._name)
                text = "".join(one for one in _STAMP.sub("", said)[:300] if one.isprintable())
                if text and (not self._ready or _FATAL.search(text)):
                    self._lines.append(text)
        while await self._errors.read(1 << 16):
            pass

    async def _wait(self) -> None:
        """Wait for the end of what it writes, which is its own, and reap it."""
        await self._reading
        while self._process.poll() is None:  # noqa: ASYNC110 - nothing else would say it
            await asyncio.sleep(_REAPED)

    def _connect(self, address: str) -> None:
        bounds = Bounds(total=PATIENCE, first_byte=PATIENCE, between=PATIENCE)
        # No connection is kept: it may close one as the next call begins, and a new one is cheap.
        self._root = UpstreamClient(
            api_key=self._key, base_url=f"{address}/", name=self._name, kept=0
        )
        address = f"{address}/v1"
        self.speaker = UpstreamClient(
            api_key=self._key, base_url=address, name=self._name, bounds=bounds, kept=0
        )
        self.upstream = Answering(self.speaker, total=PATIENCE, retries=Retries(0))
        self._connected = True

    async def _loaded(self) -> bool:
        """Ask whether it is ready; only who has its key lists its model."""
        try:
            (listed,) = await self.speaker.models()
        except (UpstreamError, ValueError):
            return False
        self.meta = listed.get("meta") or {}
        return True


async def _reader(pipe: IO[bytes] | None) -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    return reader
