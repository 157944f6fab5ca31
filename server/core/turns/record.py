"""Keeps how turns end, and waits with them in memory for a database that is away."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import replace
from typing import Any

import structlog

from server.core.errors import Problem, problem_of
from server.live.news import Changed, Over
from server.live.port import LiveTurns
from server.live.turn import LiveTurn
from storage.model import Failure, Lesson, Status, Turn
from storage.port import NotFoundError, Outcome, Store, StoreError, UnavailableError
from storage.spending import cost

log = structlog.get_logger("trialogue.turns")

#: Seconds between tries, at first and at most.
RETRY_SECONDS = (0.1, 2.0)
#: Seconds that followers wait for an end to be kept before they are told that it is not.
PATIENCE = 300.0
#: So many turns that were taken back are remembered, for whoever still follows them.
WITHDRAWN = 256


class Keeping:
    """Tries to keep an end until it is kept; a drain alone gives up on it."""

    def __init__(self, store: Store, live: LiveTurns, patience: float = PATIENCE) -> None:
        """`patience` is how many seconds followers wait for an end that cannot be kept."""
        self._store = store
        self._live = live
        self._patience = patience
        self._hurry = asyncio.Event()
        self._away = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._withdrawn: deque[LiveTurn] = deque()

    async def keep(self, live: LiveTurn, outcome: Outcome) -> Turn:
        """Keep an end and return the turn as its followers are to hear of it.

        Where the database stays away for too long the turn has failed for them; that end, with all
        of the text, is kept when the database is back, unless we end before.
        """
        if not live.is_kept:
            return await self._spent(live, outcome)
        until = asyncio.get_running_loop().time() + self._patience
        kept = await self._kept(live, outcome, until)
        if isinstance(kept, Turn):
            return _as_told(kept, outcome.error)
        error = failure(kept)
        if not self._hurry.is_set():
            failed = replace(outcome, status=Status.FAILED, finish_reason=None, error=error)
            self._live.linger(live)
            late = self._later(live, self._kept(live, failed, float("inf")))
            late.add_done_callback(lambda _: self._live.release(live))
        return told_failed(live, outcome.ended_at, error)

    async def _spent(self, live: LiveTurn, outcome: Outcome) -> Turn:
        """Count what a turn took of which nothing is kept; return it as it ended."""
        with suppress(UnavailableError):
            await self._store.spend(live.owner, cost(live.turn, outcome), outcome.ended_at)
        said = outcome.said or outcome.status is Status.COMPLETED
        return replace(
            live.turn,
            status=outcome.status,
            answer_id=outcome.answer_id if said else None,
            finish_reason=outcome.finish_reason,
            usage=outcome.usage,
            error=outcome.error,
            ended_at=outcome.ended_at,
        ).saying(outcome.content)

    async def recover(self, outcome_of: Callable[[Turn], Awaitable[Outcome]]) -> None:
        """End every turn that somebody who died left running."""
        for owner, turn in await self._store.orphans():
            ended = await self._store.end(owner, turn.id, await outcome_of(turn))
            self._live.note(owner, Over(ended))

    async def withdraw(self, live: LiveTurn, head_id: str | None, title: str) -> None:
        """Take a turn back; where the database stays away, when it is back, unless we end before.

        Then it is found interrupted.
        """

        async def write() -> Turn:
            with suppress(NotFoundError):  # a try of which we heard nothing has taken it back
                await self._store.withdraw(live.owner, live.turn.id, head_id=head_id, title=title)
            return live.turn

        until = asyncio.get_running_loop().time() + self._patience
        taken_back = await self._tried(live, write, until)
        if not isinstance(taken_back, Turn) and not self._hurry.is_set():
            self._later(live, self._tried(live, write, float("inf")))
        self._live.linger(live)
        self._withdrawn.append(live)
        if len(self._withdrawn) > WITHDRAWN:
            self._live.release(self._withdrawn.popleft())

    async def learn(self, lesson: Lesson) -> None:
        """Keep what was learnt of a model, where the database can: it is learnt again."""
        try:
            await self._store.learn(lesson)
        except StoreError as error:
            log.warning("a lesson was not kept", error=type(error).__name__)

    async def _kept(
        self, live: LiveTurn, outcome: Outcome, until: float
    ) -> Turn | UnavailableError:
        """Keep an end; one that cannot be kept as told, whatever the reason, as a failure."""
        try:
            return await self._tried(live, self._end(live, outcome), until)
        except Exception as error:
            bare = _bare(outcome, failure(error))
            if outcome == bare:
                raise
            log.exception("the end of a turn could not be kept as told", turn=live.turn.id)
            return await self._tried(live, self._end(live, bare), until)

    def _end(self, live: LiveTurn, outcome: Outcome) -> Callable[[], Awaitable[Turn]]:
        return lambda: self._store.end(live.owner, live.turn.id, outcome)

    def note(self, why: UnavailableError | None) -> None:
        """Say in the log that the database is away, or back, when that has changed."""
        if why is not None and not self._away:
            log.error("the database is away: answers wait in memory", why=str(why))
        if why is None and self._away:
            log.warning("the database is back")
        self._away = why is not None

    def hurry(self) -> None:
        """From now on try once and give up."""
        self._hurry.set()

    async def close(self) -> None:
        """Try a last time to keep what waits."""
        self.hurry()
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    async def _tried(
        self, live: LiveTurn, write: Callable[[], Awaitable[Turn]], until: float
    ) -> Turn | UnavailableError:
        """Write an end, trying until a loop time; return the turn, or why it is not kept.

        Raises whatever but a database that is away keeps it from being written.
        """
        pause, longest = RETRY_SECONDS
        loop = asyncio.get_running_loop()
        while True:
            last = self._hurry.is_set() or loop.time() >= until
            try:
                kept = await write()
            except UnavailableError as error:
                self.note(error)
                if last:
                    log.error("the end of a turn could not be kept", turn=live.turn.id)
                    return error
            else:
                self.note(None)
                return kept
            with suppress(TimeoutError):
                async with asyncio.timeout(min(pause, max(until - loop.time(), 0))):
                    await self._hurry.wait()
            pause = min(2 * pause, longest)

    def _later(
        self, live: LiveTurn, keeping: Coroutine[Any, Any, Turn | UnavailableError]
    ) -> asyncio.Task[None]:
        """Go on trying to keep an end of which its followers were told that it is not kept."""
        task = asyncio.create_task(self._logged(live, keeping), name=f"{live.turn.id} late")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _logged(
        self, live: LiveTurn, keeping: Coroutine[Any, Any, Turn | UnavailableError]
    ) -> None:
        try:
            await keeping
            self._live.note(live.owner, Changed(live.turn.conversation_id))
        except Exception:
            log.exception("the end of a turn could not be kept", turn=live.turn.id)


def told_failed(live: LiveTurn, now: int, error: Failure) -> Turn:
    """Return a turn whose end is not kept, as its followers are told of it."""
    return replace(live.snapshot(), status=Status.FAILED, error=error, ended_at=now)


def _bare(outcome: Outcome, error: Failure) -> Outcome:
    """Return an end without a word of the upstream's but its answer, which is known to be sound."""
    return replace(
        outcome,
        status=Status.FAILED,
        finish_reason=None,
        usage=None,
        error=error,
        drift=None,
    )


def failure(error: BaseException) -> Failure:
    """Return what broke on our side as the failure of a turn."""
    problem = problem_of(error)
    return Failure(problem.code, problem.message)


def failure_of(problem: Problem) -> Failure:
    return Failure(
        problem.code,
        problem.message,
        problem.status,
        problem.retry_after,
        problem.upstream_code,
        problem.param,
    )


def _as_told(kept: Turn, error: Failure | None) -> Turn:
    """Return a kept turn with its failure as it was, which says how long to wait."""
    return replace(kept, error=error) if error is not None and kept.error == error else kept
