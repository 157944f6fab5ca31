"""What a process takes of the machine, as Linux tells it: memory, descriptors, threads."""

from __future__ import annotations

import asyncio
import resource
from dataclasses import dataclass
from pathlib import Path

#: Seconds between two looks, and how many in a row must agree until a process counts as settled.
_LOOK = 0.25
_AGREEING = 4


@dataclass(frozen=True, slots=True)
class Footprint:
    """Memory in bytes: resident now, and the most there ever was."""

    memory: int
    peak: int
    descriptors: int
    threads: int

    def __str__(self) -> str:
        return (
            f"{self.memory / (1 << 20):.1f} MiB (peak {self.peak / (1 << 20):.1f}), "
            f"{self.descriptors} descriptors, {self.threads} threads"
        )


def footprint(pid: int) -> Footprint:
    """Read what a process takes now."""
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    told = {name: value for name, _, value in (line.partition(":") for line in status)}
    return Footprint(
        memory=int(told["VmRSS"].split()[0]) << 10,
        peak=int(told["VmHWM"].split()[0]) << 10,
        descriptors=sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir()),
        threads=int(told["Threads"]),
    )


def forget_peak(pid: int) -> None:
    """Let the most memory there ever was be what there is now."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


async def settled(pid: int, *, descriptors: int | None = None, seconds: float = 30) -> Footprint:
    """Return what a process takes once it stands still: descriptors too, where a number is due.

    After `seconds` it is what it is.
    """
    deadline = asyncio.get_running_loop().time() + seconds
    last, agreeing = footprint(pid), 0
    while agreeing < _AGREEING and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(_LOOK)
        now = footprint(pid)
        still = abs(now.memory - last.memory) < 256 << 10 and now.descriptors == last.descriptors
        due = descriptors is None or now.descriptors <= descriptors
        agreeing = agreeing + 1 if still and due else 0
        last = now
    return last


def raise_descriptors(wanted: int) -> int:
    """Let this process and its children have so many descriptors; return how many it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        return most
    return soft
