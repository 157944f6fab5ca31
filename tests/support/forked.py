"""Our command in processes of their own, forked from one that has read our modules already.

Most of what a short process costs is the reading of modules, and a run of the tests begins some
hundred of them. Nothing of ours happens at import, so what was forked is as fresh as what was
executed; `tests/whole/test_process.py` and the programs beside it execute.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from server.__main__ import main

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    [
        "tests.support.forked",
        "server.__main__",
        "server.app.lifecycle",
        "server.commands.backup",
        "server.commands.doctor",
    ]
)


class Forked:
    """A command that runs; what it has written so far can be read, as of one that was executed."""

    def __init__(
        self, process: BaseProcess, output: asyncio.StreamReader, errors: asyncio.StreamReader
    ) -> None:
        self._process = process
        self.stdout = output
        self.stderr = errors

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def kill(self) -> None:
        self._process.kill()

    def send_signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    async def wait(self) -> int:
        await asyncio.to_thread(self._process.join)
        assert self._process.exitcode is not None
        return self._process.exitcode

    async def communicate(self) -> tuple[bytes, bytes]:
        """Return all that it writes, once it has ended."""
        output, errors = await asyncio.gather(self.stdout.read(), self.stderr.read())
        await self.wait()
        return output, errors


async def fork(
    *words: str, folder: Path, env: Mapping[str, str], log: Path | None = None
) -> Forked:
    """Run our command with these words, in this folder and nothing but this environment.

    Where there is a `log`, its errors are added to that file.
    """
    output, its_output = multiprocessing.Pipe(duplex=False)
    errors, its_errors = multiprocessing.Pipe(duplex=False)
    told = (words, folder, dict(env), log, its_output, its_errors)
    process = _FORKS.Process(target=_run, args=told)
    process.start()
    its_output.close()
    its_errors.close()
    return Forked(process, await _reader(output), await _reader(errors))


async def _reader(pipe: Connection) -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    with pipe:
        file = os.fdopen(os.dup(pipe.fileno()), "rb", buffering=0)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), file
    )
    return reader


def _run(
    words: Sequence[str],
    folder: Path,
    env: Mapping[str, str],
    log: Path | None,
    output: Connection,
    errors: Connection,
) -> None:
    """Be the command, in the process that was forked."""
    with output, errors:
        os.dup2(output.fileno(), 1)
        os.dup2(errors.fileno(), 2)
    if log is not None:
        with log.open("ab") as file:
            os.dup2(file.fileno(), 2)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(env)
    sys.exit(main(words))
