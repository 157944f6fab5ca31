"""A program of its own that serves one model: llama.cpp's server, on a leash.

    LLAMA_API_KEY=… python -P child.py OPTIONS-AS-JSON

It prints one line, `{"address": "http://127.0.0.1:PORT", "pid": NUMBER}`, and ends when its
standard input does: when its parent closes it, or dies. The number is of the process that has the
model. Nothing of ours is imported here, and nobody imports this.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, NoReturn, TextIO

#: behind the server, which the kernel is to end last, and which is to answer first
OOM_SCORE, NICENESS = 500, 5
_PR_SET_PDEATHSIG = 1
#: the exit code of a model that cannot be loaded, where trying again would not help
CANNOT_LOAD = 3
_LISTENS = re.compile(r"listening on (http://127\.0\.0\.1:\d+)")
#: errors alone: none of them has a prompt in it
_VERBOSITY = 1


def main() -> None:
    """Serve until the leash is let go."""
    options: dict[str, Any] = json.loads(sys.argv[1])
    output = _own_output()
    _humble()
    _die_with_parent()
    _hear_nobody()
    key = os.environ.pop("LLAMA_API_KEY")
    if options["program"]:
        _program(options, key, output)
    else:
        threading.Thread(target=_leash, daemon=True).start()
        _wheel(options, key, output)


def _own_output() -> TextIO:
    """Return standard output for our one line; what libraries print goes where complaints go."""
    output = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)
    return output


def _humble() -> None:
    """Let others go first."""
    with contextlib.suppress(OSError):
        os.nice(NICENESS)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(OOM_SCORE), "ascii")


def _die_with_parent() -> None:
    """Have the kernel end us with our parent, while a model is loaded and no thread may run too."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _hear_nobody() -> None:
    """Leave it to our parent when we end: who stops a service signals all its processes at once."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def _leash() -> NoReturn:
    """End everything when standard input ends."""
    while os.read(0, 4096):
        pass
    os._exit(0)


def _announce(output: TextIO, address: str, pid: int) -> None:
    print(json.dumps({"address": address, "pid": pid}), file=output, flush=True)


def _wheel(options: dict[str, Any], key: str, output: TextIO) -> None:
    """Serve by the library of the wheel."""
    try:
        import xllamacpp

        server = xllamacpp.Server(_parameters(xllamacpp.CommonParams(), options, key))
    except (ImportError, RuntimeError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(CANNOT_LOAD)
    _hear_nobody()
    _announce(output, server.listening_address, os.getpid())
    threading.Event().wait()


def _parameters(parameters: Any, options: dict[str, Any], key: str) -> Any:
    parameters.model.path = options["model"]
    parameters.model_alias = {options["alias"]}
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = 0
    parameters.api_keys = [key]
    parameters.n_ctx = options["context"] * options["parallel"]
    parameters.n_parallel = options["parallel"]
    parameters.kv_unified = False
    parameters.cpuparams.n_threads = options["threads"]
    parameters.cpuparams_batch.n_threads = options["threads"]
    if options["gpu_layers"] is not None:
        parameters.n_gpu_layers = options["gpu_layers"]
    parameters.sleep_idle_seconds = options["sleep"]
    parameters.cache_ram_mib = options["cache"]
    parameters.embedding = options["embeddings"]
    parameters.endpoint_slots = False
    parameters.ui = False
    parameters.offline = True
    parameters.verbosity = _VERBOSITY
    return parameters


def _program(options: dict[str, Any], key: str, output: TextIO) -> NoReturn:
    """Serve by a program, and end it when the leash is let go, or we are ended."""
    process = subprocess.Popen(  # noqa: S603 - the program that the settings name
        _words(options),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "LLAMA_API_KEY": key},
        preexec_fn=_die_with_parent,
        text=True,
        errors="replace",
    )
    threading.Thread(target=_leash_of, args=(process,), daemon=True).start()
    assert process.stdout is not None  # noqa: S101 - it is a pipe
    announced = False
    for line in process.stdout:
        sys.stderr.write(line)
        found = None if announced else _LISTENS.search(line)
        if found is not None:
            announced = True
            _announce(output, found[1], process.pid)
    code = process.wait()
    if code < 0:
        sys.stderr.write(f"error: it was ended by {signal.Signals(-code).name}\n")
    sys.exit(CANNOT_LOAD if code > 0 and not announced else 1)


def _leash_of(process: subprocess.Popen[str]) -> NoReturn:
    while os.read(0, 4096):
        pass
    process.kill()
    process.wait()
    os._exit(0)


def _words(options: dict[str, Any]) -> list[str]:
    """Return the command line of llama-server; none of it is a secret."""
    layers = options["gpu_layers"]
    return [
        *(options["program"], "--model", options["model"], "--alias", options["alias"]),
        *("--host", "127.0.0.1", "--port", "0", "--offline", "--no-webui", "--no-slots"),
        *("--ctx-size", str(options["context"] * options["parallel"])),
        *("--parallel", str(options["parallel"]), "--threads", str(options["threads"])),
        *("--sleep-idle-seconds", str(options["sleep"]), "--cache-ram", str(options["cache"])),
        *([] if layers is None else ["--n-gpu-layers", str(layers)]),
        *(["--embeddings"] if options["embeddings"] else []),
    ]


if __name__ == "__main__":
    main()
