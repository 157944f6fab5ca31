"""A bell that all nodes of one database hear: NOTIFY behind the commit, and LISTEN."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import asyncpg

from storage.port import UnavailableError
from storage.postgres.address import Address
from storage.postgres.database import Database, connect

CHANNEL = "trialogue"
#: Seconds in which what is rung is gathered: a notification a commit would cost a third of them.
GATHERED = 0.01
#: Bytes of one notification; PostgreSQL takes less than 8,000.
MOST_BYTES = 7_500
#: Seconds without hearing ourselves, after which we hear nothing.
DEAF_AFTER = 3.0
#: Seconds after which a connection that hears nothing is made anew.
ANEW_AFTER = 10.0

#: What is told: a word, and what it is about.
Told = Sequence[Any]


class Bell:
    """Rings and hears; nothing that matters may depend on it, since a notification can be lost.

    It rings for itself with every beat, so that it knows when nothing comes: a pooler that hands
    connections on swallows notifications without a word, and so does a connection that is cut.
    """

    def __init__(self, where: Address, db: Database) -> None:
        self._where = where
        self._db = db
        self._name = secrets.token_hex(4)
        self._told: list[Told] = []
        self._flushing: asyncio.Task[None] | None = None
        self._heard_at = float("-inf")

    @property
    def hears(self) -> bool:
        """Whether what others ring is heard; else everything is to be looked at, often."""
        return asyncio.get_running_loop().time() - self._heard_at < DEAF_AFTER

    def ring(self, *told: Any) -> None:
        """Tell all others something, soon."""
        self._told.append(told)
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._flush(), name="bell")

    async def test(self) -> None:
        """Ring for ourselves."""
        await notify(self._db, self._name, ())

    async def hear(self, heard: Callable[[Told], None], missed: Callable[[], None]) -> None:
        """Listen until cancelled, and call `heard` with what others ring; `missed` when all is
        heard again, and something may not have been.
        """
        while True:
            with suppress(UnavailableError, OSError):
                await self._listen(heard, missed)
            await asyncio.sleep(self._where.patience.look)

    async def _listen(self, heard: Callable[[Told], None], missed: Callable[[], None]) -> None:
        lost, hears = asyncio.Event(), asyncio.Event()

        def told(_connection: Any, _pid: int, _channel: str, payload: Any) -> None:
            sender, *notes = json.loads(payload)
            if sender[0] == self._name:
                first = self._heard_at == float("-inf")  # nobody was there to miss anything
                self._heard_at = asyncio.get_running_loop().time()
                if not hears.is_set():
                    hears.set()
                    if not first:
                        missed()
                return
            for note in notes:
                heard(note)

        connection = await connect(self._where)
        try:
            connection.add_termination_listener(lambda _: lost.set())
            await connection.add_listener(CHANNEL, told)
            while not lost.is_set():
                with suppress(TimeoutError):
                    async with asyncio.timeout(ANEW_AFTER):
                        await lost.wait()
                if not self.hears:  # cut without a word, or swallowed by a pooler
                    return
        finally:
            connection.terminate()

    async def _flush(self) -> None:
        while self._told:
            await asyncio.sleep(GATHERED)
            told, self._told = self._told, []
            for part in _parts(told):
                with suppress(UnavailableError):  # they look for it themselves
                    await notify(self._db, self._name, part)
        self._flushing = None


async def notify(db: Database, sender: str, told: Sequence[Told]) -> None:
    """Tell all nodes something but the one of this name. Raises UnavailableError."""
    payload = json.dumps([[sender], *told])
    try:
        await db.rows("SELECT pg_notify(:channel, :payload)", channel=CHANNEL, payload=payload)
    except asyncpg.PostgresError as error:  # its queue is full, for one
        raise UnavailableError("The database takes no notification.") from error


def _parts(told: Sequence[Told]) -> Sequence[Sequence[Told]]:
    """Return what is told in parts that fit a notification; what fits none is left out."""
    parts: list[list[Told]] = []
    room = 0
    for one in told:
        size = len(json.dumps(one)) + 2
        if size > MOST_BYTES:
            continue
        if size > room:
            parts.append([])
            room = MOST_BYTES
        parts[-1].append(one)
        room -= size
    return parts
