"""How much memory a model takes, and how much is free."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from server.upstream.llama.files.gguf import Header
from server.upstream.llama.memory import NoMemoryError, Plan, available, fit, plan

GB = 1 << 30
#: a model of four thousand million parameters
HEADER = Header("qwen3", None, None, "Q4_K_M", 40_960, 4_000_000_000, 147_456, True, False, 1, 0)
SIZE = 2_500_000_000


def planned(free: int, context: int = 8192, parallel: int = 1) -> Plan:
    return plan("qwen", SIZE, HEADER, context=context, parallel=parallel, available=free)


def test_a_model_takes_its_file_its_windows_and_a_tenth() -> None:
    found = planned(8 * GB, parallel=2)
    assert found == Plan(8192, 2, int((SIZE + 147_456 * 8192 * 2) * 1.1))


def test_its_window_is_no_longer_than_it_was_trained_for() -> None:
    assert planned(64 * GB, context=1 << 20).window == 40_960


def test_its_window_gives_way_to_what_is_free() -> None:
    found = planned(3_500_000_000)
    assert (found.window, found.wished) == (4608, 8192)
    assert found.bytes <= 3_500_000_000


def test_what_does_not_fit_at_all_is_refused_with_the_numbers() -> None:
    with pytest.raises(NoMemoryError, match=r"needs 3,082 MB .* 2,048 tokens, and 3,000 MB"):
        planned(3_000_000_000)


def test_a_smaller_window_than_the_smallest_may_be_asked_for() -> None:
    assert planned(64 * GB, context=512).window == 512


def machine(root: Path, free_kb: int) -> None:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/meminfo").write_text(f"MemTotal: 99 kB\nMemAvailable:  {free_kb} kB\n")


def group(root: Path, folder: str, **files: object) -> None:
    (root / folder).mkdir(parents=True, exist_ok=True)
    for name, value in files.items():
        (root / folder / name.replace("__", ".")).write_text(f"{value}\n")


def test_what_the_machine_has_free_is_a_bound(tmp_path: Path) -> None:
    machine(tmp_path, 1000)
    assert available(None, 0, root=tmp_path) == 1000 * 1024
    assert available(500, 100, root=tmp_path) == 400
    assert available(500, 900, root=tmp_path) == 0


def test_what_sleeps_is_taken_once(tmp_path: Path) -> None:
    machine(tmp_path, 1000)
    assert available(None, 400, 400, root=tmp_path) == 1000 * 1024 - 400
    assert available(1000, 400, 400, root=tmp_path) == 600


def test_memory_of_gpus_comes_to_what_the_machine_has_and_not_to_the_limit(tmp_path: Path) -> None:
    machine(tmp_path, 1000)
    assert available(None, 0, gpu=500, root=tmp_path) == 1000 * 1024 + 500
    assert available(700, 100, gpu=500, root=tmp_path) == 600


def test_gpus_are_asked_where_the_machine_has_too_little() -> None:
    asked = 0

    def fitted(free: int, of_gpus: int) -> Plan:
        def gpu() -> int:
            nonlocal asked
            asked += 1
            return of_gpus

        planned = partial(plan, "qwen", SIZE, HEADER, context=8192, parallel=1)
        return fit(planned, lambda more: free + more, gpu)

    assert fitted(8 * GB, GB) == planned(8 * GB)
    assert asked == 0
    assert fitted(GB, 8 * GB) == planned(9 * GB)
    assert fitted(3 * GB + GB // 2, 8 * GB) == planned(9 * GB)
    assert planned(3 * GB + GB // 2).wished == 8192
    assert asked == 2
    for of_gpus in (0, GB):
        with pytest.raises(NoMemoryError, match="are free"):
            fitted(GB, of_gpus)


def test_the_control_group_and_those_above_it_are_bounds(tmp_path: Path) -> None:
    machine(tmp_path, 1000)
    (tmp_path / "proc/self/cgroup").write_text("0::/a/b\n")
    group(tmp_path, "sys/fs/cgroup/a/b", memory__max="max", memory__current=0)
    group(
        tmp_path,
        "sys/fs/cgroup/a",
        memory__max=500_000,
        memory__current=300_000,
        memory__stat="anon 1\ninactive_file 50000",
    )
    assert available(None, 0, root=tmp_path) == 250_000


def test_the_first_version_of_control_groups_is_read_too(tmp_path: Path) -> None:
    machine(tmp_path, 1000)
    (tmp_path / "proc/self/cgroup").write_text("9:cpu:/x\n4:memory:/docker/1\n")
    group(
        tmp_path,
        "sys/fs/cgroup/memory",
        memory__limit_in_bytes=400_000,
        memory__usage_in_bytes=100_000,
        memory__stat="total_inactive_file 1000",
    )
    assert available(None, 0, root=tmp_path) == 301_000


def test_a_system_that_says_nothing_bounds_nothing(tmp_path: Path) -> None:
    assert available(None, 0, root=tmp_path) > 1 << 60
