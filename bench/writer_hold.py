"""How long does a write keep the others waiting? The longest of every kind, in a large database.

    python -m bench.writer_hold                       a million messages; some minutes
    python -m bench.writer_hold --messages 50000      a quicker look
    TMPDIR=/dev/shm python -m bench.writer_hold       without the disk, whose own stalls count else

Half of the messages are of one conversation, half of its turns too; the others stand in
conversations of a hundred. A hold is the time from BEGIN to the end of COMMIT on the one
connection that writes, with the fsync and, where it is due, the checkpoint of SQLite's log; what
waits for a whole second behind forty holds of a few milliseconds is not held. Ends with 1 where
one was longer than the bound.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from storage.model import Completion, ContextUse, Conversation, Message, Role, Status, Turn
from storage.port import Claim, Outcome, Piece
from storage.sqlite.group_commit import GroupCommit
from storage.sqlite.store import SQLiteStore

OWNER = "bench"
#: In milliseconds.
BOUND = 50.0
#: Times that every short write is made.
TIMES = 300
#: Messages of an ordinary conversation.
USUAL = 100
DAY = 24 * 3600 * 1_000_000
TEXT = (
    "the garden of my mother has a red fence and nobody remembers who painted it so long ago but "
    "when it rains in autumn 日本の庭は静か the colour comes off déjà vu and the cat goes 🐈"
)


class TimedStore(SQLiteStore):
    """Notes how long each transaction took, under the kind that is set."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.kind = "other"
        self.holds: dict[str, list[tuple[float, float]]] = defaultdict(list)

    async def __aenter__(self) -> TimedStore:
        await super().__aenter__()
        writer: GroupCommit = self._writer
        commit = writer._commit_if_present

        def timed(connection: sqlite3.Connection, works: Sequence[Any]) -> Sequence[Any]:
            began, worked = time.perf_counter(), time.thread_time()
            try:
                return commit(connection, works)
            finally:
                took, worked = time.perf_counter() - began, time.thread_time() - worked
                self.holds[self.kind].append((1000 * took, 1000 * worked))

        writer._commit_if_present = timed  # type: ignore[method-assign]
        return self

    @contextmanager
    def of(self, kind: str) -> Iterator[None]:
        self.kind = kind
        if kind not in self.holds:
            _progress(kind)
        yield
        self.kind = "other"


class Maker:
    """Makes conversations with ids of their own; the same ones in every run."""

    def __init__(self) -> None:
        self._chance = random.Random(1)
        self._numbers = count()

    def id(self, kind: str) -> str:
        return f"{kind}_{next(self._numbers)}"

    def text(self, words: int | None = None) -> str:
        return " ".join(
            self._chance.choices(TEXT.split(), k=words or self._chance.randint(20, 200))
        )

    def message(self, conversation_id: str, parent: str | None, role: Role) -> Message:
        text = self.text()
        return Message(
            *(self.id("msg"), conversation_id, parent, role, text, len(text) // 4),
            encoding="o200k_base",
            model=None,
            turn_id=None,
            created_at=1,
        )

    def line(self, conversation_id: str, messages: int, under: str | None = None) -> list[Message]:
        made: list[Message] = []
        for place in range(messages):
            role = Role.ASSISTANT if place % 2 else Role.USER
            made.append(self.message(conversation_id, made[-1].id if made else under, role))
        return made

    def turn(self, question: Message, answer: Message | None = None) -> Turn:
        status = Status.RUNNING if answer is None else Status.COMPLETED
        return Turn(
            *(self.id("turn"), question.conversation_id, status, "m", question.parent_id),
            question_id=question.id,
            answer_id=None if answer is None else answer.id,
            answer="",
            context=ContextUse(9, 9, 9, 1, 0),
            created_at=1,
            ended_at=None if answer is None else 2,
        )


def conversation(conversation_id: str, head: str | None = None) -> Conversation:
    return Conversation(conversation_id, "A garden", None, None, {}, 1, 1, head_id=head)


async def imports(store: TimedStore, make: Maker, messages: int) -> str:
    """Fill the database; return the leaf of the large conversation, which is "large"."""
    line = make.line("large", messages // 2)
    begun = [make.turn(q, a) for q, a in zip(line[::2], line[1::2], strict=False)]
    gc.freeze()  # looking through a million objects of ours, again and again, holds every thread
    with store.of("import, a step of one large conversation"):
        await store.put(OWNER, conversation("large", line[-1].id), line, begun)
    with store.of("import, a conversation of a hundred"):
        for number in range(messages // 2 // USUAL):
            said = make.line(f"c{number}", USUAL)
            await store.put(OWNER, conversation(f"c{number}", said[-1].id), said, [])
    with store.of("import, more of a large conversation"):
        more = make.line("large", messages // 100, line[-1].id)
        await store.put(OWNER, conversation("large"), [*line, *more], [])
    return line[-1].id


async def asks(store: TimedStore, make: Maker, leaf: str) -> None:
    running: list[Turn] = []
    for number in range(TIMES):
        here = "large" if number == 0 else f"new{number}"
        asked = make.message(here, leaf if number == 0 else None, Role.USER)
        running.append(make.turn(asked))
        key = Claim(f"key{number}", b"f", 3 * DAY)
        with store.of("begin"):
            await store.begin(
                OWNER, running[-1], asked, conversation=conversation(here), title="T", claim=key
            )
    with store.of(f"checkpoint of {TIMES} answers"):
        for position in range(0, 5_000, 100):
            pieces = [Piece(OWNER, turn.id, position, "x" * 100) for turn in running]
            await store.checkpoint(pieces)
    with store.of("end"):
        for turn in running:
            outcome = Outcome(
                Status.COMPLETED, make.text(), make.id("msg"), 9, "o200k_base", ended_at=DAY
            )
            await store.end(OWNER, turn.id, outcome)


async def changes(store: TimedStore, make: Maker, leaf: str) -> None:
    async def each(kind: str, call: Callable[[int], Any]) -> None:
        with store.of(kind):
            for number in range(TIMES):
                await call(number)

    kept = [
        Completion(make.id("chatcmpl"), "m", n, {"text": make.text()}, []) for n in range(TIMES)
    ]
    summaries = [make.message("large", leaf, Role.SYSTEM) for _ in range(TIMES)]
    await each("title", lambda n: store.update(OWNER, "large", {"title": make.text(9)}, n))
    await each("head", lambda n: store.update(OWNER, "large", {"head_id": leaf}, n))
    await each("metadata", lambda n: store.update(OWNER, "large", {"metadata": {"n": n}}, n))
    await each("create", lambda n: store.create(OWNER, conversation(make.id("conv"))))
    await each("summary", lambda n: store.summarise(OWNER, summaries[n]))
    await each("usage", lambda n: store.spend(OWNER, 9, n * DAY))
    await each("completion kept", lambda n: store.keep_completion(OWNER, kept[n]))
    await each("completion tagged", lambda n: store.tag_completion(OWNER, kept[n].id, {"a": "b"}))
    await each("completion deleted", lambda n: store.delete_completion(OWNER, kept[n].id))
    await each("readiness", lambda n: store.ping())


async def claims(store: TimedStore, make: Maker, messages: int) -> None:
    """Begin turns where many idempotency keys have outlived their day."""

    def outlived(connection: sqlite3.Connection) -> None:
        rows = ((OWNER, f"old{n}", b"f", n, 1) for n in range(messages // 10))
        connection.executemany("INSERT INTO claims VALUES (?, ?, ?, ?, ?)", rows)

    await store._writer.write(outlived)
    with store.of("begin with keys to forget"):
        for number in range(TIMES):
            asked = make.message("claims", None, Role.USER)
            key, turn = Claim(f"later{number}", b"f", 9 * DAY), make.turn(asked)
            await store.begin(OWNER, turn, asked, conversation=conversation("claims"), claim=key)
            done = Outcome(Status.CANCELLED, "", make.id("msg"), 0, "o200k_base", ended_at=9 * DAY)
            await store.end(OWNER, turn.id, done)


async def deletes(path: Path, store: TimedStore, make: Maker) -> None:
    """Delete the half of all that is one conversation; stop in the middle and start again."""
    with store.of("delete, a conversation of a hundred"):
        for number in range(20):
            await store.delete(OWNER, f"c{number}")
    with store.of("delete, a step of a large conversation"):
        deleting = asyncio.create_task(store.delete(OWNER, "large"))
        while len(store.holds[store.kind]) < TIMES and not deleting.done():
            await asyncio.sleep(0.01)
        await store.close()
        await asyncio.gather(deleting, return_exceptions=True)
    async with TimedStore(path) as again:
        again.holds, again.kind = store.holds, "purge after a start, a step"
        _progress(again.kind)
        while len(again.holds[again.kind]) < TIMES and again._bulk._purges:
            await asyncio.sleep(0.01)


async def logs(path: Path, store: TimedStore, make: Maker) -> None:
    """Write while another process reads on, as a backup does: the log cannot be checkpointed."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as backup:
        backup.execute("PRAGMA wal_autocheckpoint = 0")
        backup.execute("BEGIN")
        backup.execute("SELECT count(*) FROM turns").fetchone()
        with store.of("import, a step beside a backup"):
            line = make.line("beside", 5_000)
            await store.put(OWNER, conversation("beside"), line, [])
    with store.of("the first writes after a backup"):
        for _ in range(3):
            await store.ping()


async def run(messages: int, bound: float) -> int:
    make = Maker()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.db"
        async with TimedStore(path) as store:
            leaf = await imports(store, make, messages)
            await asks(store, make, leaf)
            await changes(store, make, leaf)
            await claims(store, make, messages)
            await logs(path, store, make)
            await deletes(path, store, make)
        size = path.stat().st_size
    print(f"{messages:,} messages, {size >> 20:,} MiB; milliseconds that the writer was held")
    return told(store.holds, bound)


def told(holds: dict[str, list[tuple[float, float]]], bound: float) -> int:
    """Print what was measured; return 1 where a hold was longer than the bound."""
    print(f"{'':44} {'times':>7} {'median':>8} {'99 of 100':>9} {'longest':>8} {'most CPU':>8}")
    late = 0
    for kind, all_ in holds.items():
        if kind == "other":
            continue
        ordered = sorted(all_)
        (most, _), (nearly, _) = ordered[-1], ordered[int(0.99 * (len(ordered) - 1))]
        middle = statistics.median(took for took, _ in ordered)
        cpu = max(worked for _, worked in ordered)
        mark = "  OVER" if most > bound else ""
        print(
            f"{kind:44} {len(ordered):7,} {middle:8.2f} {nearly:9.2f} {most:8.2f} {cpu:8.2f}{mark}"
        )
        late += most > bound
    print(f"{late} kinds over {bound:g} ms" if late else f"none was over {bound:g} ms")
    return 1 if late else 0


def _progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--bound", type=float, default=BOUND, metavar="MS")
    arguments = parser.parse_args()
    return asyncio.run(run(arguments.messages, arguments.bound))


if __name__ == "__main__":
    sys.exit(main())
