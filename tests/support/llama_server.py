"""llama.cpp's own server, in a process of its own: an upstream as people run one."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any, Self

from tests.support.live import ROOT


class LlamaServer:
    """Serves a GGUF at `base_url` (`/v1` included) on a free port; ends with the `with`.

    `window` is the context in tokens, `parallel` how many answers are written at once; what else
    is given is put into the server's parameters under its name (`sleep_idle_seconds`, …).
    """

    def __init__(self, model: Path, *, window: int = 2048, parallel: int = 1, **more: Any) -> None:
        self._params = {"n_ctx": window, "n_parallel": parallel, **more}
        self._model = model
        self.base_url = ""

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.support.llama_server",
            json.dumps({"model": str(self._model), **self._params}),
            cwd=ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        assert self._process.stdout is not None
        address = (await self._process.stdout.readline()).decode().strip()
        if not address:
            raise AssertionError(f"llama.cpp's server ended with {await self._process.wait()}")
        self.base_url = f"{address}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()

    @property
    def pid(self) -> int:
        return self._process.pid

    def kill(self) -> None:
        """As `kill -9` does."""
        self._process.kill()


def _serve(given: dict[str, Any]) -> None:
    """Serve until our parent's end of stdin is closed, by itself or by its death."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = given.pop("model")
    params.hostnames, params.port = ["127.0.0.1"], 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.n_threads_http, params.verbosity, params.warmup = 4, 0, False
    for name, value in given.items():
        setattr(params, name, value)
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    _serve(json.loads(sys.argv[1]))
