"""Kills a server's heart at every statement that it gives its database, one after the other.

    python -m tests.torture.failpoints              every statement
    python -m tests.torture.failpoints --writes     those that write: a read changes nothing
    python -m tests.torture.failpoints --only 17    one of them: no dice, no seed

A child process makes conversations, asks, is checkpointed, answers, regenerates, cancels, renames,
imports in steps and deletes, and tells through a pipe what was acknowledged; SQLite's trace counts
the statements of its writing connection, and at the chosen one the process kills itself (SIGKILL),
before the statement runs. Then the database is opened again as a start opens it: all that was
acknowledged is there, nothing is half-written, no import is seen in part and each can be run again,
what ran is `interrupted`, and the conversation can be asked again. Ends with 1 where a promise was
broken.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sqlite3
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import structlog

from server.app.core import core_of
from server.core.conversations import Conversations
from server.core.turns.plan import Defaults
from server.core.turns.questions import Ask, Regenerate
from server.live.turn import Delta, Ended
from storage.model import Conversation, Message, Status, Turn
from storage.port import NotFoundError
from storage.sqlite.conversations import STEP_CHARACTERS
from storage.sqlite.store import SQLiteStore
from tests.storage.nouns import conversation, message, turn
from tests.support.fakes import Puppet

OWNER, MODEL = "ada", "gpt-4o"
#: One of them fills a step of an import.
LONG = "said " * (STEP_CHARACTERS // 8)
Tell = Callable[[dict[str, Any]], None]


class Doomed(SQLiteStore):
    """Kills its process at the statement of a number; counts them all."""

    def __init__(self, path: Path, fatal: int) -> None:
        super().__init__(path)
        self._fatal = fatal
        self.statements: list[str] = []

    async def __aenter__(self) -> Doomed:
        await super().__aenter__()
        connection = self._writer._connection
        await connection.run(lambda c: c.set_trace_callback(self._note))
        return self

    def _note(self, statement: str) -> None:
        if statement.startswith("--"):
            return  # a step of the full-text index, within a statement of ours
        self.statements.append(" ".join(statement.split())[:60])
        if len(self.statements) == self._fatal:
            os.kill(os.getpid(), signal.SIGKILL)


async def live(path: Path, fatal: int, tell: Tell) -> list[str]:
    """Do a bit of everything, and tell what was acknowledged."""
    puppet = Puppet()
    async with (
        Doomed(path, fatal) as store,
        core_of(store, puppet, Defaults(MODEL), checkpoint_seconds=0.02) as conversations,
    ):
        first = await conversations.ask(OWNER, "c", Ask("One", idempotency_key="k"))
        tell({"asked": first.id, "question": "One", "key": "k"})
        await _checkpointed(conversations, store, puppet, first)
        puppet.say(" and whole").finish()
        tell(_ending(await _end(conversations, first)))
        again = await conversations.regenerate(OWNER, "c", Regenerate())
        tell({"asked": again.id, "question": "One"})
        await puppet.asked(2)
        puppet.answer("Another")
        tell(_ending(await _end(conversations, again)))
        second = await conversations.ask(OWNER, "c", Ask("Two", parent_id="root"))
        tell({"asked": second.id, "question": "Two"})
        tell(_ending(await conversations.cancel(OWNER, second.id)))
        await conversations.update(OWNER, "c", {"title": "Renamed"})
        tell({"title": "Renamed"})
        puppet.answer("Gone soon")
        await puppet.asked(3)
        doomed = await conversations.ask(OWNER, "d", Ask("Three"))
        tell({"elsewhere": doomed.id})
        await conversations.delete(OWNER, "d")
        tell({"deleted": "d"})
        await store.put(OWNER, *imported(4))
        tell({"imported": 4})
        await store.put(OWNER, *imported(8))
        tell({"imported": 8})
        await conversations.delete(OWNER, "i")
        tell({"deleted": "i"})
        return store.statements


def imported(count: int) -> tuple[Conversation, list[Message], list[Turn]]:
    """Return a conversation that is too much for one step; the first of its turns alone."""
    said = [
        message(f"i{n}", f"i{n - 1}" if n else None, content=LONG, conversation_id="i")
        for n in range(count)
    ]
    begun = turn("i", "i", question="i0")
    done = replace(begun, status=Status.COMPLETED, answer_id="i1", answer=LONG, ended_at=9)
    return conversation("i", title="Imported", head_id="i3"), said, [done]


async def _checkpointed(
    conversations: Conversations, store: Doomed, puppet: Puppet, turn: Turn
) -> None:
    """Say a first half, and wait until it is kept: whoever reads the file then finds it."""
    puppet.say("Half")
    async for event in conversations.follow(OWNER, turn.id):
        if isinstance(event, Delta):
            break
    while (await store.turn(OWNER, turn.id)).answer != "Half":
        await asyncio.sleep(0.005)


async def _end(conversations: Conversations, turn: Turn) -> Turn:
    async for event in conversations.follow(OWNER, turn.id):
        if isinstance(event, Ended):
            return event.turn
    raise AssertionError(turn.id)


def _ending(turn: Turn) -> dict[str, Any]:
    return {"ended": turn.id, "status": turn.status.value, "answer": turn.answer}


async def checked(path: Path, told: list[dict[str, Any]]) -> list[str]:
    """Open what a killed process left, and return what is not as it was promised."""
    puppet = Puppet()
    async with SQLiteStore(path) as store, core_of(store, puppet, Defaults(MODEL)) as core:
        rest = [one for one in told if "imported" not in one]
        broken = [line for one in rest for line in await _kept(core, puppet, one, told)]
        for owner, turn in await store.running():
            broken.append(f"{owner}: {turn.id} is still running")
        puppet.answer("Here again")
        again = await _end(core, await core.ask(OWNER, "c", Ask("Are you there?")))
        if (again.status, again.answer) != (Status.COMPLETED, "Here again"):
            broken.append(f"it cannot be asked again: {again.status}")
        broken += await _imports(store, told)
    return broken + _sound(path)


async def _imports(store: SQLiteStore, told: list[dict[str, Any]]) -> list[str]:
    """Look for an import that is seen in part; then run it again to the end."""
    acknowledged = max((one["imported"] for one in told if "imported" in one), default=0)
    possible = {0: {0, 4}, 4: {4, 5, 6, 7, 8}, 8: {0, 8}}[acknowledged]
    if (seen := await _seen(store)) not in possible or (seen and {"deleted": "i"} in told):
        return [f"import: {acknowledged} messages were acknowledged, {seen} are seen"]
    if await store.put(OWNER, *imported(8)) != (seen != 8):
        return [f"import: run again over {seen} messages, it changed what it should not"]
    return [] if await _seen(store) == 8 else ["import: run again, it is not whole"]


async def _seen(store: SQLiteStore) -> int:
    """Return how many of its messages there are; a conversation without its turn is -1."""
    try:
        count = (await store.conversation(OWNER, "i")).message_count
    except NotFoundError:
        with suppress(NotFoundError):
            await store.turn(OWNER, "turn_i")
            return -1
        return 0
    whole = (await store.turn(OWNER, "turn_i")).answer == LONG
    found = await store.every_message(OWNER, "i", after=None, limit=9)
    return count if whole and len(found) == count else -1


async def _kept(
    core: Conversations, puppet: Puppet, one: dict[str, Any], told: list[dict[str, Any]]
) -> list[str]:
    ended = {other["ended"] for other in told if "ended" in other}
    deleted = {"deleted": "d"} in told
    match one:
        case {"asked": turn_id, "question": words}:
            turn = await core.turn(OWNER, turn_id)
            page = await core.messages(OWNER, "c", leaf=turn.question_id)
            broken = [] if page.items[-1].content == words else [f"{turn_id}: question lost"]
            if turn_id not in ended and turn.status is Status.RUNNING:
                broken.append(f"{turn_id} is running")
            return broken + (await _asked_again(core, puppet, turn, one) if "key" in one else [])
        case {"ended": turn_id, "status": status, "answer": answer}:
            turn = await core.turn(OWNER, turn_id)
            same = (turn.status.value, turn.answer) == (status, answer)
            return [] if same else [f"{turn_id}: its end was told and is another now"]
        case {"title": title}:
            found = (await core.get(OWNER, "c")).title
            return [] if found == title else [f"title: {found}"]
        case {"elsewhere": turn_id}:
            if deleted:
                return []
            with suppress(NotFoundError):  # deleted, and killed before that was told
                await core.turn(OWNER, turn_id)
            return []
        case {"deleted": id_}:
            try:
                await core.get(OWNER, id_)
            except NotFoundError:
                return []
            return [f"{id_} was deleted and is there"]
    raise AssertionError(one)


async def _asked_again(
    core: Conversations, puppet: Puppet, turn: Turn, one: dict[str, Any]
) -> list[str]:
    """Come back with an idempotency key: for the answer there is, or another where it was cut."""
    left = turn.status is Status.INTERRUPTED
    if left:
        puppet.answer("At last")
    found = await core.ask(OWNER, "c", Ask(one["question"], idempotency_key=one["key"]))
    if not left:
        return [] if found.id == turn.id else [f"{turn.id}: its idempotency key is forgotten"]
    if found.id == turn.id or found.question_id != turn.question_id:
        return [f"{turn.id}: its question is not answered anew, but by {found.id}"]
    end = await _end(core, found)
    return [] if end.answer == "At last" else [f"{found.id}: {end.status}, {end.answer!r}"]


#: What no file of ours may ever hold.
_NEVER = {
    "messages without a conversation": "SELECT count(*) FROM messages WHERE conversation NOT IN "
    "(SELECT key FROM conversations)",
    "messages without their parent": "SELECT count(*) FROM messages WHERE parent IS NOT NULL "
    "AND parent NOT IN (SELECT key FROM messages)",
    "heads that are not there": "SELECT count(*) FROM conversations WHERE head IS NOT NULL "
    "AND head NOT IN (SELECT key FROM messages)",
    "miscounted conversations": "SELECT count(*) FROM conversations c WHERE message_count <> "
    "(SELECT count(*) FROM messages m WHERE m.conversation = c.key AND m.stands_for IS NULL)",
    "completed turns without an answer": "SELECT count(*) FROM turns WHERE status = 'completed' "
    "AND answer IS NULL",
}


def _sound(path: Path) -> list[str]:
    database = sqlite3.connect(path)
    try:
        (found,) = database.execute("PRAGMA integrity_check").fetchone()
        counts = {what: database.execute(sql).fetchone()[0] for what, sql in _NEVER.items()}
    finally:
        database.close()
    wrong = [f"{count} {what}" for what, count in counts.items() if count]
    return wrong if found == "ok" else [*wrong, f"integrity_check: {found}"]


def lived(path: Path, fatal: int) -> tuple[list[dict[str, Any]], list[str]]:
    """Live in a child process; return what it told, and its statements if it was not killed."""
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        os.close(reading)

        def tell(what: dict[str, Any]) -> None:
            os.write(writing, json.dumps(what).encode() + b"\n")

        code = 1
        try:
            statements = asyncio.run(live(path, fatal, tell))
            tell({"statements": statements})
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        told = [json.loads(line) for line in pipe]
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return told, []
    assert os.waitstatus_to_exitcode(status) == 0, "the child broke"
    return told[:-1], told[-1]["statements"]


def chosen(statements: list[str], only: int | None, writes: bool) -> list[int]:
    """Return the numbers of the statements to be killed at."""
    if only is not None:
        return [only]
    harmless = ("SELECT", "SAVEPOINT", "RELEASE") if writes else ()
    return [n for n, one in enumerate(statements, 1) if not one.startswith(harmless)]


def main(only: int | None, writes: bool) -> int:
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    with tempfile.TemporaryDirectory() as folder:
        _, statements = lived(Path(folder) / "whole.db", 0)
        broken = 0
        numbers = chosen(statements, only, writes)
        for number in numbers:
            path = Path(folder) / f"{number}.db"
            told, _ = lived(path, number)
            for line in asyncio.run(checked(path, told)):
                print(f"BROKEN at {number}, {statements[number - 1]}: {line}", flush=True)
                broken += 1
        kills = len(numbers)
    print(f"killed at {kills} of {len(statements)} statements: {broken} promises broken")
    return 1 if broken else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", type=int, metavar="NUMBER", help="the statement to be killed at")
    parser.add_argument("--writes", action="store_true", help="only at those that write")
    arguments = parser.parse_args()
    sys.exit(main(arguments.only, arguments.writes))
