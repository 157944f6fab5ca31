"""The clients as programs: where they are, and what they print."""

from __future__ import annotations

from asyncio.subprocess import Process
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]


async def read(process: Process, expected: str) -> None:
    """Read exactly this from a client's standard output."""
    assert process.stdout is not None
    assert (await process.stdout.readexactly(len(expected.encode()))).decode() == expected
