"""What an import costs a server: memory over rest, an interruption, and the same file again.

    python -m bench.import_memory                    a file of 200 MB
    python -m bench.import_memory --megabytes 20     a quicker look

Writes a file in our own format and starts a server in a process of its own. `trialogue import`
carries the file to it by REST and is stopped by SIGINT when half of it is kept; then it is run
again to the end, and once more. After each run: what the client said, and the highest resident
memory of the server (VmHWM of Linux) over what it had at rest. Ends with 1 where a promise was
broken.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from tests.support.live import ROOT, Process

#: Messages of one conversation: a line of questions and answers, its second half a branch.
MESSAGES = 100
#: So much over rest the server may take, whatever the file has.
BOUND = 128 << 20
ROUTE = '"/conversations/import"'
TEXT = (
    "the garden of my mother has a red fence and nobody remembers who painted it so long ago but "
    "when it rains in autumn 日本 the colour comes off déjà vu and the cat walks home 🐈"
)


@dataclass(frozen=True)
class ImportRun:
    """How one run of the client ended."""

    code: int
    output: str
    errors: str
    seconds: float

    @property
    def report(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self.output)
        return told


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--megabytes", type=float, default=200, help="10 or more, to be stopped in the middle"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "all.json"
        conversations = write(file, int(arguments.megabytes * 1_000_000))
        size = file.stat().st_size / 1_000_000
        print(f"a file of {size:.0f} MB: {conversations:,} conversations of {MESSAGES} messages")
        return asyncio.run(_measured(Path(folder), file, conversations))


def write(file: Path, size: int) -> int:
    """Write a file of about so many bytes; return how many conversations it has."""
    chance = random.Random(size)
    count = 0
    with file.open("w", encoding="utf-8") as out:
        out.write('{"format":"trialogue","version":1,"conversations":[')
        while out.tell() < size:
            out.write("," if count else "")
            json.dump(_conversation(chance, count), out, ensure_ascii=False)
            count += 1
        out.write("]}")
    return count


def _conversation(chance: random.Random, number: int) -> dict[str, Any]:
    messages = list(_messages(chance, number))
    return {
        "id": f"conv-{number}",
        "title": f"Garden {number}",
        "created_at": "2026-01-01T00:00:00.000000Z",
        "updated_at": "2026-01-02T00:00:00.000000Z",
        "head_id": messages[-1]["id"],
        "messages": messages,
        "turns": [],
    }


def _messages(chance: random.Random, number: int) -> Iterator[dict[str, Any]]:
    for place in range(MESSAGES):
        above = None if place == 0 else 9 if place == MESSAGES // 2 else place - 1
        words = chance.choices(TEXT.split(), k=chance.randint(20, 200))
        yield {
            "id": f"msg-{number}-{place}",
            "parent_id": None if above is None else f"msg-{number}-{above}",
            "role": ("user", "assistant")[place % 2],
            "content": " ".join(words),
            "tokens": len(words),
            "encoding": "o200k_base",
            "created_at": "2026-01-01T00:00:00.000000Z",
        }


async def _measured(folder: Path, file: Path, conversations: int) -> int:
    broken: list[str] = []
    async with Process(folder) as server, aiohttp.ClientSession(server.http) as session:
        rest = _memory(server.pid, "VmRSS")
        print(f"the server has {rest >> 20} MB at rest")
        kept = await _interrupted(server, session, file, conversations, broken)
        print(f"  {kept:,} conversations are kept, all of them whole; {_over(server.pid, rest)}")
        for name, imported, unchanged in (
            ("run again", conversations - kept, kept),
            ("and once more", 0, conversations),
        ):
            run = await _imported(server, file)
            told = run.report
            print(f"{name}: {_short(told)} in {run.seconds:.1f} s; {_over(server.pid, rest)}")
            if (told["imported"], told["unchanged"], told["failed"]) != (imported, unchanged, []):
                broken.append(f"{name}: not {imported:,} imported and {unchanged:,} unchanged")
        over = _memory(server.pid, "VmHWM") - rest
    if over > BOUND:
        broken.append(f"{over >> 20} MB over rest, and {BOUND >> 20} MB is the bound")
    print("\n".join(f"BROKEN: {one}" for one in broken) or "every promise was kept")
    return 1 if broken else 0


async def _interrupted(
    server: Process,
    session: aiohttp.ClientSession,
    file: Path,
    conversations: int,
    broken: list[str],
) -> int:
    """Stop an import when half of it is kept; return how many conversations are."""
    client = await _client(server, file)
    while (await _status(session, f"/conversations/conv-{conversations // 2}")) != 200:
        if client.returncode is not None:
            raise SystemExit(f"the import ended by itself: {await client.communicate()}")
        await asyncio.sleep(0.2)
    client.send_signal(signal.SIGINT)
    output, errors = await client.communicate()
    line = errors.decode().strip()
    print(f"interrupted: exit code {client.returncode}, {line!r}")
    if (client.returncode, output, len(line.splitlines())) != (130, b"", 1):
        broken.append("interrupted: no exit code 130 with one line")
    while ROUTE not in server.log:
        await asyncio.sleep(0.02)
    if "error" in {json.loads(line)["level"] for line in server.log.splitlines()}:
        broken.append("interrupted: the server calls it an error of its own")
    if (await _status(session, "/readyz")) != 200:
        broken.append("interrupted: the server is not ready")
    return await _whole(session, conversations, broken)


async def _whole(session: aiohttp.ClientSession, conversations: int, broken: list[str]) -> int:
    """Count the conversations that are there; each must have all of its messages."""
    kept = 0
    for number in range(conversations):
        path = f"/conversations/conv-{number}"
        if (await _status(session, path)) != 200:
            continue
        kept += 1
        async with session.get(f"{path}/export") as answer:
            (told,) = json.loads(await answer.read())["conversations"]
        if len(told["messages"]) != MESSAGES or told["message_count"] != MESSAGES:
            broken.append(f"conversation {number} is half-written")
    return kept


async def _imported(server: Process, file: Path) -> ImportRun:
    began = time.monotonic()
    client = await _client(server, file)
    output, errors = await client.communicate()
    seconds = time.monotonic() - began
    return ImportRun(client.returncode or 0, output.decode(), errors.decode(), seconds)


async def _client(server: Process, file: Path) -> asyncio.subprocess.Process:
    """Begin `trialogue import`, as a user does."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "server", "import", str(file), "--url", server.http),
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "proto")))},
        cwd=file.parent,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def _status(session: aiohttp.ClientSession, path: str) -> int:
    async with session.get(path) as answer:
        return answer.status


def _memory(pid: int, name: str) -> int:
    """Return a figure of a process's memory, in bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) << 10


def _over(pid: int, rest: int) -> str:
    return f"{(_memory(pid, 'VmHWM') - rest) >> 20} MB over rest at most"


def _short(report: dict[str, Any]) -> str:
    return f"{report['imported']:,} imported, {report['unchanged']:,} unchanged"


if __name__ == "__main__":
    sys.exit(main())
