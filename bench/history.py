"""Does anything grow with the history? Ratios between a small one and a large one, in one run.

    python -m bench.history                 100 against 100,000 messages, and conversations
    python -m bench.history --large 10000   a quicker look

An ask is measured in CPU of the whole process (the upstream is a stub that answers at once) and in
messages read. Small and large take turns, so that a machine whose speed drifts is fair to both.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from server.app.core import core_of
from server.core.conversations import Ask, Defaults
from server.core.ids import Ids
from server.core.prompt.compose import CountingSettings
from storage.model import Conversation, Message, Query, Role
from storage.sqlite.store import SQLiteStore
from tests.support.fakes import Parrot

OWNER = "bench"
ENCODING = "o200k_base"
WINDOW = CountingSettings(window=4_000, max_tokens=1_000)
BATCH = 1_000
ROUNDS = 15


class CountingStore(SQLiteStore):
    """Counts the messages that walks up the tree return."""

    read = 0

    async def branch(self, *args: object, **kwargs: object) -> Sequence[Message]:
        found = await super().branch(*args, **kwargs)  # type: ignore[arg-type]
        self.read += len(found)
        return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", type=int, default=100)
    parser.add_argument("--large", type=int, default=100_000)
    arguments = parser.parse_args()
    return asyncio.run(_run(arguments.small, arguments.large))


async def _run(small: int, large: int) -> int:
    with tempfile.TemporaryDirectory() as folder:
        ask = await _asks(Path(folder), small, large)
        many = await _lists(Path(folder), small, large)
    good = ask <= 1.2 and many <= 2.0
    print("within bounds" if good else "OUT OF BOUNDS: 1.2 for an ask, 2.0 for a page")
    return 0 if good else 1


async def _asks(folder: Path, small: int, large: int) -> float:
    store = CountingStore(folder / "asks.db")
    async with store:
        for messages in (small, large):
            _progress(f"building a conversation of {messages:,} messages")
            await build_conversation(store, f"c{messages}", messages)
        async with core_of(store, Parrot(("Fine.",)), Defaults("gpt-4o", None, WINDOW)) as core:

            async def ask(messages: int) -> None:
                turn = await core.ask(OWNER, f"c{messages}", Ask("How does it go on from here?"))
                async for _ in core.follow(OWNER, turn.id):
                    pass

            cpu, read = await _paired(store, ask, small, large)
    print(f"ask: CPU {cpu:.2f}, messages read {read:.2f}  ({large:,} / {small:,} messages)")
    return max(cpu, read)


async def _lists(folder: Path, small: int, large: int) -> float:
    worst = 0.0
    stores: dict[int, CountingStore] = {}
    for conversations in (small, large):
        store = CountingStore(folder / f"lists{conversations}.db")
        await store.__aenter__()
        _progress(f"building {conversations:,} conversations")
        await build_conversations(store, conversations)
        stores[conversations] = store
    calls: dict[str, Callable[[SQLiteStore], Awaitable[object]]] = {
        "list": lambda store: store.conversations(OWNER, limit=20),
        "list by title": lambda store: store.conversations(OWNER, limit=20, q="needle"),
        "search, rare": lambda store: store.search(OWNER, Query("needle"), limit=20),
        "search, everywhere": lambda store: store.search(OWNER, Query("garden"), limit=20),
    }
    for name, call in calls.items():

        async def once(
            conversations: int, call: Callable[[SQLiteStore], Awaitable[object]] = call
        ) -> None:
            await call(stores[conversations])

        ratio, _ = await _paired(stores[large], once, small, large)
        print(f"{name}: CPU {ratio:.2f}  ({large:,} / {small:,} conversations)")
        worst = max(worst, ratio)
    for store in stores.values():
        await store.close()
    return worst


async def _paired(
    store: CountingStore, work: Callable[[int], Awaitable[None]], small: int, large: int
) -> tuple[float, float]:
    """Return the medians of the ratios large / small: CPU, and messages read."""
    cpu, read = [], []
    for round_ in range(ROUNDS + 3):
        spent, rows = {}, {}
        for size in (small, large):
            before, store.read = time.process_time(), 0
            for _ in range(10):
                await work(size)
            spent[size], rows[size] = time.process_time() - before, store.read
        if round_ >= 3:  # the first ones warm caches
            cpu.append(spent[large] / spent[small])
            read.append((rows[large] or 1) / (rows[small] or 1))
    return statistics.median(cpu), statistics.median(read)


async def build_conversation(store: SQLiteStore, conversation_id: str, messages: int) -> None:
    """Keep a conversation that is one line of so many messages."""
    ids = Ids(lambda: time.time_ns() // 1000)
    parent, made = None, 0
    while made < messages:
        batch = []
        for place in range(made, min(made + BATCH, messages)):
            role = Role.ASSISTANT if place % 2 else Role.USER
            message = _message(
                ids, conversation_id, parent, role, f"Line {place} of a long talk. " * 8
            )
            batch.append(message)
            parent = message.id
        await store.put(OWNER, _conversation(conversation_id, parent), batch, [])
        made += len(batch)
    await store.update(OWNER, conversation_id, {"head_id": parent}, 1)


async def build_conversations(store: SQLiteStore, conversations: int) -> None:
    """Keep so many conversations of two messages; twenty of them have a needle."""
    ids = Ids(lambda: time.time_ns() // 1000)
    spread = max(1, conversations // 20)

    async def one(place: int) -> None:
        word = "needle" if place % spread == 0 else "thread"
        name = f"c{place}"
        asked = _message(ids, name, None, Role.USER, f"A {word} in the garden, number {place}?")
        answer = _message(ids, name, asked.id, Role.ASSISTANT, f"Garden {place} has it.")
        made = _conversation(name, answer.id, title=f"{word} {place}")
        await store.put(OWNER, made, [asked, answer], [])

    for start in range(0, conversations, 500):
        await asyncio.gather(*map(one, range(start, min(start + 500, conversations))))


def _message(ids: Ids, conversation_id: str, parent: str | None, role: Role, text: str) -> Message:
    return Message(
        id=ids.new("msg"),
        conversation_id=conversation_id,
        parent_id=parent,
        role=role,
        content=text,
        tokens=len(text) // 4,
        encoding=ENCODING,
        model=None,
        turn_id=None,
        created_at=time.time_ns() // 1000,
    )


def _conversation(conversation_id: str, head: str | None, title: str = "Built") -> Conversation:
    now = time.time_ns() // 1000
    return Conversation(conversation_id, title, None, None, {}, now, now, head_id=head)


def _progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    import logging

    import structlog

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    sys.exit(main())
