"""How much memory GPUs have, as a program tells that calls itself llama-server."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.config.tables import LocalTable
from server.upstream.llama.devices import free_bytes, gpu_memory

MIB, GIB = 1 << 20, 1 << 30


def program(folder: Path, says: str, code: int = 0) -> Path:
    path = folder / "llama-server"
    (folder / "said").write_text(says)
    path.write_text(f'#!/bin/sh\n[ "$1" = --list-devices ] && cat {folder}/said\nexit {code}\n')
    path.chmod(0o755)
    return path


TWO = """0.00.000.088 I srv  llama_server: initializing ...
Available devices:
  CUDA0: NVIDIA GeForce RTX 3080 Ti (11909 MiB, 11650 MiB free)
  ROCm1: AMD (odd) name (9 MiB, 8 MiB free) (24026 MiB, 23795 MiB free)
"""


def test_what_is_free_of_all_is_counted_but_a_gigabyte_of_each(tmp_path: Path) -> None:
    assert free_bytes(program(tmp_path, TWO)) == (11650 + 23795) * MIB - 2 * GIB


@pytest.mark.parametrize(
    "says",
    [
        "",
        "Available devices:\n",
        "  Vulkan0: Intel(R) UHD Graphics (2048 MiB, 1024 MiB free)\n",
        "  MTL0: Apple M1 Pro (12124 MiB, 12123 MiB free)\n",
        "  BLAS: Accelerate (0 MiB, 0 MiB free)\n",
        "  CUDA0: full (11909 MiB, 900 MiB free)\n",
        "  CUDA0: negative (11909 MiB, -900 MiB free)\n",
        "  CUDA0: endless (1 MiB, 999999999999999 MiB free)\n",
        "error: unknown argument --list-devices\n",
    ],
)
def test_what_is_none_of_a_gpu_s_own_counts_nothing(tmp_path: Path, says: str) -> None:
    assert free_bytes(program(tmp_path, says)) == 0


def test_a_program_that_cannot_be_asked_has_none(tmp_path: Path) -> None:
    assert free_bytes(None) == 0
    assert free_bytes(tmp_path / "none") == 0
    assert free_bytes(program(tmp_path, "what\n", code=1)) == 0


def test_settings_come_first(tmp_path: Path) -> None:
    asked = program(tmp_path, TWO)
    assert gpu_memory(LocalTable(), asked, 0) == free_bytes(asked)
    assert gpu_memory(LocalTable(gpu_layers=0), asked, 0) == 0
    set_so = LocalTable.model_validate({"gpu_memory": "24GB"})
    assert gpu_memory(set_so, asked, 4_000_000_000) == 20_000_000_000
    assert gpu_memory(set_so, asked, 25_000_000_000) == 0
