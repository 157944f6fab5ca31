"""Finds llama.cpp's server: a program on this machine, or the wheel of the extra `local`."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

INSTALL = "pip install 'trialogue[local]'"
_WHEEL = "xllamacpp"


class NoEngineError(Exception):
    """There is no engine; the text says how to get one."""


@dataclass(frozen=True, slots=True)
class Engine:
    """What runs models, always in a process of its own."""

    #: None for the wheel
    program: Path | None
    version: str | None = None

    @property
    def told(self) -> str:
        """What it is, for whoever asks."""
        return str(self.program) if self.program else f"{_WHEEL} {self.version}"

    def command(self, options: Mapping[str, Any]) -> list[str]:
        """Return the command line of a child; `child.py` says what the options are."""
        told = {**options, "program": str(self.program) if self.program else None}
        child = Path(__file__).with_name("child.py")
        return [sys.executable, "-P", str(child), json.dumps(told)]


def find(which: str, named: Path | None) -> Engine:
    """Return the engine that settings choose: `auto`, `llama-server` or `wheel`.

    `named` is the program to take in the place of the one on PATH. Raises NoEngineError.
    """
    if which != "wheel":
        if named is not None:
            return Engine(_executable(named))
        if (found := shutil.which("llama-server")) is not None:
            return Engine(Path(found))
        if which == "llama-server":
            raise NoEngineError("llama-server is not on PATH; TRIALOGUE_LLAMA_SERVER names it")
    if importlib.util.find_spec(_WHEEL) is None:
        raise NoEngineError(f"local models need llama.cpp's server: {INSTALL}")
    return Engine(None, importlib.metadata.version(_WHEEL))


def _executable(program: Path) -> Path:
    found = shutil.which(program)
    if found is None:
        raise NoEngineError(f"TRIALOGUE_LLAMA_SERVER: {program} is no program that can be run")
    return Path(found).resolve()


def default_threads() -> int:
    """Return how many threads a model gets: the physical cores that are ours, less one."""
    try:
        ours = os.sched_getaffinity(0)
    except AttributeError:  # not on this system
        return max(1, (os.cpu_count() or 2) // 2)
    cores = {_core(cpu) for cpu in ours}
    return max(1, len(cores) - 1)


def _core(cpu: int) -> str:
    """Return which processors share a core with this one."""
    file = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
    try:
        return file.read_text("ascii")
    except OSError:
        return str(cpu)


def lacks_avx2() -> bool:
    """Say whether this processor cannot run the wheel, which is built for AVX2 on x86."""
    try:
        info = Path("/proc/cpuinfo").read_text("utf-8", "replace")
    except OSError:
        return False
    flags = next((line.split() for line in info.splitlines() if line.startswith("flags")), None)
    return flags is not None and "avx2" not in flags
