"""How much memory GPUs have free for a model (VRAM), as llama.cpp's own program tells."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Final

from server.config.tables import LocalTable

#: Those with memory of their own: what Vulkan or Metal call theirs may be the machine's.
_DEVICE: Final = re.compile(
    r"^ +(?:CUDA|ROCm|HIP|MUSA|CANN)\d+: .*\(\d+ MiB, (\d{1,8}) MiB free\)\s*$", re.MULTILINE
)
#: what llama.cpp leaves free of each
_LEFT: Final = 1 << 30
_SECONDS: Final = 10.0


def gpu_memory(options: LocalTable, program: Path | None, taken: int) -> int:
    """Return how many bytes of GPUs a model may take, where others have `taken` so many of all."""
    if options.gpu_layers == 0:
        return 0
    if options.gpu_memory is not None:
        return max(0, options.gpu_memory - taken)
    return free_bytes(program)


def free_bytes(program: Path | None) -> int:
    """Return the bytes that `llama-server --list-devices` has room for; none by the wheel.

    A program that does not know the word, or hangs, has no GPU as far as we know.
    """
    if program is None:
        return 0
    try:
        told = subprocess.run(  # noqa: S603 - the program that the settings name
            [program, "--list-devices"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return 0
    found = _DEVICE.findall(told.stdout.decode("utf-8", "replace"))
    return sum(max(0, (int(free) << 20) - _LEFT) for free in found)
