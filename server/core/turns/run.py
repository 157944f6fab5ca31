"""The turns that are being written now: reads their upstream, and records how they end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace

import structlog

from server.core.errors import Code, Problem, problem_of
from server.core.observability.metrics import WIRE
from server.core.observability.observed import Observed
from server.core.observability.request import REQUEST, RequestSpan
from server.core.observability.traces import TurnSpan
from server.core.turns.checkpoint import Checkpoints
from server.core.turns.heal import Healing, Sending
from server.core.turns.outcome import Outcomes
from server.core.turns.plan import Plan
from server.core.turns.record import Keeping, failure, told_failed
from server.core.turns.tooled import Tooled
from server.live.news import Changed, Over
from server.live.port import LiveTurns
from server.live.turn import LiveTurn
from server.upstream.port import Finish, Piece, PromptProgress, Upstream, UpstreamFailedError
from storage.model import Failure, Status, Turn
from storage.parts import Part

log = structlog.get_logger("trialogue.turns")


@dataclass(frozen=True, slots=True)
class Reading:
    """An answer that is asked for, what was planned for it, and the request within which it is."""

    answer: Healing
    plan: Plan
    within: RequestSpan | None


class Running:
    """Owns a task for every running turn."""

    def __init__(
        self,
        upstream: Upstream,
        live: LiveTurns,
        keeping: Keeping,
        checkpoints: Checkpoints,
        outcomes: Outcomes,
        observed: Observed,
    ) -> None:
        self._upstream = upstream
        self._live = live
        self._keeping = keeping
        self._checkpoints = checkpoints
        self._outcomes = outcomes
        self._observed = observed
        self._tasks: dict[LiveTurn, asyncio.Task[None]] = {}

    async def recover(self) -> None:
        """End every turn that a crash left running, with the text that was checkpointed."""
        await self._keeping.recover(self._outcomes.left)

    def start(
        self,
        live: LiveTurn,
        plan: Plan,
        done: Callable[[], None],
        writer: Upstream | None = None,
    ) -> None:
        """Begin to read the answer; `done` is called once its end is kept and announced."""
        sending = plan.sending
        if (request := REQUEST.get()) is not None:
            request.began(live)
            sending = sending.of(request.id)
        answer = self._answering(writer or self._upstream, sending, plan)
        reading = Reading(answer, plan, request.span if request else None)
        self._tasks[live] = asyncio.create_task(self._run(live, reading, done), name=live.turn.id)
        self._checkpoints.begin()

    def _answering(self, upstream: Upstream, sending: Sending, plan: Plan) -> Healing:
        learning = self._outcomes.learning
        if plan.tools is not None:
            return Tooled(upstream, sending, learning, plan.tools)
        return Healing(upstream, sending, learning)

    async def drain(self, grace: float) -> None:
        """Let the answers end; interrupt what still runs after `grace` seconds; keep all ends."""
        if self._tasks:
            await asyncio.wait(set(self._tasks.values()), timeout=grace)
        for live in list(self._tasks):
            live.stop(Status.INTERRUPTED)
        self._keeping.hurry()
        while self._tasks:
            await asyncio.wait(set(self._tasks.values()))
        await self._keeping.close()
        await self._checkpoints.close()

    async def _run(self, live: LiveTurn, reading: Reading, done: Callable[[], None]) -> None:
        """Write an answer, free its place, and then keep what was learnt on the way."""
        try:
            try:
                await self._write(live, reading)
            finally:
                self._live.forget(live)
                done()
            for lesson in reading.answer.lessons:  # one that is lost is learnt again
                await self._keeping.learn(lesson)
        except Exception:
            log.exception("what follows a turn broke", turn=live.turn.id)
        finally:
            self._tasks.pop(live, None)

    async def _write(self, live: LiveTurn, reading: Reading) -> None:
        """Read an answer and keep its end; whatever breaks, there is one."""
        span: TurnSpan | None = None
        try:
            try:
                prompt = reading.answer.sending.prompt
                span = self._observed.traces.turn(live.turn, prompt, reading.within)
                turn = await self._ended(live, reading)
            except Exception as error:
                log.exception("turn broke", turn=live.turn.id)
                turn = await self._broken(live, reading.plan.answer_id, failure(error))
            live.end(turn)
            if live.is_told:
                self._live.note(live.owner, Over(turn))
            self._report(live, span)
        except Exception:
            log.exception("the end of a turn was not counted", turn=live.turn.id)

    async def _ended(self, live: LiveTurn, reading: Reading) -> Turn:
        """Read an answer and keep its end; return the turn as its followers are to hear of it.

        Text that was told is never taken back, whatever the upstream says behind it.
        """
        finish, problem = await self._answer(live, reading.answer)
        live.turn = replace(live.turn, context=reading.answer.sending.sent)
        failed = problem is not None and live.stopped_as is None and not live.length
        too_long = problem is not None and problem.code is Code.CONTEXT_LENGTH_EXCEEDED
        if problem and failed and (too_long or not reading.plan.lasting):
            return await self._withdraw(live, reading.plan, problem)
        outcome = await self._outcomes.of(live, reading.answer, reading.plan, finish, problem)
        return await self._keeping.keep(live, outcome)

    async def _broken(self, live: LiveTurn, answer_id: str, error: Failure) -> Turn:
        """Keep an end that tells nothing but the text, and that the turn failed."""
        outcome = self._outcomes.broken(live, answer_id, error)
        try:
            return await self._keeping.keep(live, outcome)
        except Exception:
            log.exception("the end of a turn could not be kept", turn=live.turn.id)
            return told_failed(live, outcome.ended_at, error)

    async def _withdraw(self, live: LiveTurn, plan: Plan, problem: Problem) -> Turn:
        """Take a turn back of which nothing is to be kept; return it as it ended.

        That is one whose question alone is too long, or a response that failed without a word.

        Its followers hear so once it is gone. Should we die before, it is there as one that was
        interrupted, and its question is like any other without an answer.
        """
        ended = self._outcomes.withdrawn(live, problem)
        if not live.is_kept:
            return ended
        await self._keeping.withdraw(live, plan.head_id, plan.title)
        self._live.note(live.owner, Changed(ended.conversation_id, plan.conversation))
        return ended

    def _report(self, live: LiveTurn, span: TurnSpan | None) -> None:
        turn, now = live.turn, asyncio.get_running_loop().time()
        first = None if live.first is None else live.first - live.began
        if span is not None:
            span.end(turn, first)
        self._observed.metrics.turn_ended(turn, first, now - live.began)
        log.info(
            "turn ended",
            turn=turn.id,
            conversation=turn.conversation_id,
            owner=live.owner,
            wire=WIRE.get(),
            model=turn.model,
            status=turn.status.value,
            code=turn.error.code if turn.error else None,
            prompt_tokens=turn.usage.prompt_tokens if turn.usage else None,
            completion_tokens=turn.usage.completion_tokens if turn.usage else None,
            first_ms=None if first is None else round(1000 * first, 1),
            ms=round(1000 * (now - live.began), 1),
        )

    async def _answer(
        self, live: LiveTurn, answer: Healing
    ) -> tuple[Finish | None, Problem | None]:
        """Read the whole answer in a task of its own, which is all that `stop` cancels."""
        reader = live.read(self._read(live, answer.pieces()))
        await asyncio.wait([reader])
        if reader.cancelled():
            return None, None
        if (error := reader.exception()) is not None:
            problem = problem_of(error)
            # The text of an upstream's error may quote the prompt: its kind is all that is logged.
            log.warning(
                "turn failed", turn=live.turn.id, code=problem.code, error=type(error).__name__
            )
            return None, problem
        return reader.result(), None

    async def _read(self, live: LiveTurn, answer: AsyncIterator[Piece]) -> Finish:
        async with aclosing(answer) as pieces:  # type: ignore[type-var]
            async for piece in pieces:
                if isinstance(piece, Finish):
                    return piece
                if isinstance(piece, Part):
                    live.begin(_sound_part(piece))
                elif isinstance(piece, PromptProgress):
                    live.reads(piece.read, piece.total)
                else:
                    live.append(_sound(piece))
        raise UpstreamFailedError("The upstream's answer was cut off.")


def _sound_part(part: Part) -> Part:
    """Return a part whose head can be kept, as `_sound` does a piece."""
    for word in (part.id or "", part.name or ""):
        if "\0" in _sound(word):
            raise UpstreamFailedError("The upstream's answer cannot be read.")
    return part


def _sound(piece: str) -> str:
    """Return a piece that can be kept; half a surrogate pair cannot, on any wire."""
    if not piece.isascii():
        try:
            piece.encode()
        except UnicodeEncodeError as error:
            raise UpstreamFailedError("The upstream's answer cannot be read.") from error
    return piece
