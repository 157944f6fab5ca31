"""Keeps the conversations of a file; what is kept already stays as it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Protocol

from server.core.archive.new_ids import renamed
from server.core.archive.reading import Readable, read
from server.core.archive.records import Count, Failed, Found, Read
from storage.model import Conversation, Message, Turn
from storage.port import AlreadyExistsError, NotFoundError

#: Failures that are told one by one; the others are only counted.
MOST_FAILED = 1_000
#: Names that `dropped` has at most; what comes later is counted under one.
MOST_NAMES = 200
OTHER = "other"


@dataclass(slots=True)
class Report:
    """What became of a file. `dropped` counts what was left out of the imported conversations."""

    imported: int = 0
    unchanged: int = 0
    failures: int = 0
    failed: list[Failed] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)

    def rendered(self) -> dict[str, Any]:
        """Return the report as JSON tells it."""
        return {
            "imported": self.imported,
            "unchanged": self.unchanged,
            "failed": [{"index": f.index, "id": f.id, "reason": f.reason} for f in self.failed],
            "failed_count": self.failures,
            "dropped": dict(self.dropped),
        }

    def fail(self, failed: Failed) -> None:
        self.failures += 1
        if len(self.failed) < MOST_FAILED:
            self.failed.append(failed)

    def drop(self, found: Found) -> None:
        for name, count in found.dropped.items():
            full = len(self.dropped) >= MOST_NAMES and name not in self.dropped
            self.dropped[OTHER if full else name] += count


class Puts(Protocol):
    """Where conversations are put: a Store is one."""

    async def put(
        self,
        owner: str,
        conversation: Conversation,
        messages: Sequence[Message],
        turns: Sequence[Turn],
    ) -> bool: ...


async def import_(
    store: Puts,
    owner: str,
    source: AsyncIterator[bytes] | Readable,
    count: Count,
    progress: Callable[[int], None] | None = None,
    *,
    now: int | None = None,
) -> Report:
    """Keep what a file has, each conversation in a transaction of its own.

    `progress` is told after each how many have been read. Raises InvalidRequestError for a file
    that is not understood, UnavailableError when the store fails; what was kept before stays.
    """
    report = Report()
    async with aclosing(read(source, count, now=now)) as found:
        async for one in found:
            await _keep(store, owner, one, report)
            if progress is not None:
                progress(report.imported + report.unchanged + report.failures)
    return report


async def _keep(store: Puts, owner: str, one: Read, report: Report) -> None:
    if isinstance(one, Failed):
        return report.fail(one)
    try:
        kept, changed = await _put(store, owner, one)
    except (AlreadyExistsError, NotFoundError) as error:
        return report.fail(Failed(one.index, one.conversation.id, str(error)))
    if not changed:
        report.unchanged += 1
        return None
    report.imported += 1
    return report.drop(kept)


async def _put(store: Puts, owner: str, found: Found) -> tuple[Found, bool]:
    """Keep a conversation; foreign messages whose ids are taken elsewhere get ids of ours.

    ChatGPT gives a chat that was branched off the ids of the messages that it was branched from.
    """
    try:
        changed = await store.put(owner, found.conversation, found.messages, found.turns)
    except AlreadyExistsError:
        if not found.foreign:
            raise
        found = renamed(found)
        changed = await store.put(owner, found.conversation, found.messages, found.turns)
    return found, changed
