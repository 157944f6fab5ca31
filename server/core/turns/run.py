"""The turns that are being written now: reads their upstream, checkpoints and records them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace

import structlog

from server.core.errors import Code, Problem, problem_of
from server.core.observability.metrics import WIRE, Metrics
from server.core.observability.request import REQUEST, RequestSpan
from server.core.observability.traces import NoTraces, Traces, TurnSpan
from server.core.prompt.compose import Composer
from server.core.turns.heal import Healing
from server.core.turns.plan import Plan
from server.core.turns.record import PATIENCE, Keeping, failure, failure_of, told_failed
from server.live.turn import LiveTurn
from server.upstream.port import Finish, Upstream, UpstreamFailedError
from storage.model import Failure, Status, Turn, Usage
from storage.port import Outcome, Store, StoreError, UnavailableError

log = structlog.get_logger("trialogue.turns")

#: Seconds between checkpoints: with the commit behind it, well within the second promised.
CHECKPOINT_SECONDS = 0.4
#: The encoding in which the text of a turn is counted that broke while it was counted, maybe.
_BYTES = "utf-8"
#: So many turns that were taken back are remembered, for whoever still follows them.
WITHDRAWN = 256


@dataclass(frozen=True, slots=True)
class Reading:
    """An answer that is asked for, what was planned for it, and the request within which it is."""

    answer: Healing
    plan: Plan
    within: RequestSpan | None


class Running:
    """Owns a task for every running turn, and the one that checkpoints them all."""

    def __init__(
        self,
        store: Store,
        upstream: Upstream,
        composer: Composer,
        metrics: Metrics,
        now: Callable[[], int],
        checkpoint_seconds: float = CHECKPOINT_SECONDS,
        patience: float = PATIENCE,
        traces: Traces | None = None,
    ) -> None:
        """`patience` is how many seconds followers wait for an end that cannot be kept."""
        self._checkpoint_seconds = checkpoint_seconds
        self._store = store
        self._upstream = upstream
        self._composer = composer
        self._learning = composer.learning
        self._metrics = metrics
        self._traces = traces or NoTraces()
        self._now = now
        self._live: dict[tuple[str, str], LiveTurn] = {}
        self._of_conversation: dict[tuple[str, str], LiveTurn] = {}
        self._tasks: dict[LiveTurn, asyncio.Task[None]] = {}
        self._checkpoints: asyncio.Task[None] | None = None
        self._keeping = Keeping(store, patience)
        self._withdrawn: dict[tuple[str, str], LiveTurn] = {}

    def __len__(self) -> int:
        return len(self._live)

    @property
    def followers(self) -> int:
        return sum(live.followers for live in self._live.values())

    def find(self, owner: str, turn_id: str) -> LiveTurn | None:
        """Return a turn that runs, or whose end is not there to be read."""
        key = owner, turn_id
        return self._live.get(key) or self._keeping.find(*key) or self._withdrawn.get(key)

    def in_conversation(self, owner: str, conversation_id: str) -> LiveTurn | None:
        return self._of_conversation.get((owner, conversation_id))

    def admit(self, live: LiveTurn) -> None:
        """Let a turn be found; done before it is stored, since whoever sees it there looks here."""
        self._live[live.owner, live.turn.id] = live
        self._of_conversation[live.owner, live.turn.conversation_id] = live

    def forget(self, live: LiveTurn) -> None:
        del self._live[live.owner, live.turn.id]
        del self._of_conversation[live.owner, live.turn.conversation_id]

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
        answer = Healing(writer or self._upstream, sending, self._learning)
        reading = Reading(answer, plan, request.span if request else None)
        self._tasks[live] = asyncio.create_task(self._run(live, reading, done), name=live.turn.id)
        if self._checkpoints is None:
            self._checkpoints = asyncio.create_task(self._checkpoint_for_ever(), name="checkpoints")

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
        if self._checkpoints is not None:
            self._checkpoints.cancel()
            await asyncio.wait([self._checkpoints])

    async def _run(self, live: LiveTurn, reading: Reading, done: Callable[[], None]) -> None:
        """Read an answer and keep its end; whatever breaks, there is one, and the place is free."""
        span: TurnSpan | None = None
        try:
            try:
                span = self._traces.turn(live.turn, reading.answer.sending.prompt, reading.within)
                turn = await self._ended(live, reading)
            except Exception as error:
                log.exception("turn broke", turn=live.turn.id)
                turn = await self._broken(live, reading.plan.answer_id, failure(error))
            live.end(turn)
            self._report(live, span)
            await self._learn(reading.answer)
            self._report(live, span)
        except Exception:
            log.exception(
                "the end of a turn was not counted, or its lessons not kept", turn=live.turn.id
            )
        finally:
            self.forget(live)
            self._tasks.pop(live, None)
            done()

    async def _ended(self, live: LiveTurn, reading: Reading) -> Turn:
        """Read an answer and keep its end; return the turn as its followers are to hear of it."""
        finish, problem = await self._answer(live, reading.answer)
        live.turn = replace(live.turn, context=reading.answer.sending.sent)
        if problem is not None and problem.code is Code.CONTEXT_LENGTH_EXCEEDED:
            return await self._withdraw(live, reading.plan, problem)
        outcome = await self._outcome(live, reading, finish, problem)
        return await self._keeping.keep(live, outcome)

    async def _broken(self, live: LiveTurn, answer_id: str, error: Failure) -> Turn:
        """Keep an end that tells nothing but the text, and that the turn failed."""
        text = live.text()
        outcome = Outcome(
            status=Status.FAILED,
            text=text,
            answer_id=answer_id,
            tokens=len(text.encode()),  # no more are in it; weighed anew where it is read
            encoding=_BYTES,
            ended_at=self._now(),
            error=error,
        )
        try:
            return await self._keeping.keep(live, outcome)
        except Exception:
            log.exception("the end of a turn could not be kept", turn=live.turn.id)
            return told_failed(live, outcome.ended_at, error)

    async def _withdraw(self, live: LiveTurn, plan: Plan, problem: Problem) -> Turn:
        """Take a turn back whose question alone is too long; return it as it ended.

        Its followers hear so once it is gone. Should we die before, it is there as one that was
        interrupted, and its question is like any other without an answer.
        """
        ended = told_failed(live, self._now(), failure_of(problem))
        await self._keeping.withdraw(live, plan.head_id, plan.title)
        self._withdrawn[live.owner, live.turn.id] = live
        if len(self._withdrawn) > WITHDRAWN:
            del self._withdrawn[next(iter(self._withdrawn))]
        return ended

    async def _learn(self, answer: Healing) -> None:
        """Keep what was learnt, behind the end of the turn; what is lost is learnt again."""
        for lesson in answer.lessons:
            try:
                await self._store.learn(lesson)
            except StoreError as error:
                log.warning("a lesson was not kept", error=type(error).__name__)

    def _report(self, live: LiveTurn, span: TurnSpan | None) -> None:
        turn, now = live.turn, asyncio.get_running_loop().time()
        first = None if live.first is None else live.first - live.began
        if span is not None:
            span.end(turn, first)
        self._metrics.turn_ended(turn, first, now - live.began)
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

    async def _read(self, live: LiveTurn, answer: AsyncIterator[str | Finish]) -> Finish:
        async with aclosing(answer) as pieces:  # type: ignore[type-var]
            async for piece in pieces:
                if isinstance(piece, Finish):
                    return piece
                live.append(_sound(piece))
        raise UpstreamFailedError("The upstream's answer was cut off.")

    async def _outcome(
        self,
        live: LiveTurn,
        reading: Reading,
        finish: Finish | None,
        problem: Problem | None,
    ) -> Outcome:
        answer, plan, text = reading.answer, reading.plan, live.text()
        tokens = await self._composer.count(live.turn.model, text)
        status, error = live.stopped_as or Status.INTERRUPTED, None
        if finish is not None:
            status = Status.COMPLETED
        elif problem is not None and live.stopped_as is None:
            status = Status.FAILED
            error = failure_of(problem)
        counted = Usage(live.turn.context.prompt_tokens, tokens)
        told = finish.usage if finish else None
        if finish is not None:
            answer.hear(finish)
        return Outcome(
            status=status,
            text=text,
            answer_id=plan.answer_id,
            tokens=tokens,
            encoding=self._composer.encoding_of(live.turn.model).name,
            ended_at=self._now(),
            finish_reason=finish.reason if finish else None,
            usage=told or counted,
            error=error,
            content=finish.content if finish else None,
            drift=told.prompt_tokens - counted.prompt_tokens if told else None,
            context=None if answer.sending is plan.sending else answer.sending.sent,
        )

    async def _checkpoint_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self._checkpoint_seconds)
            found = [(live, live.unkept()) for live in self._live.values()]
            pieces = [(live, piece) for live, piece in found if piece is not None]
            if not pieces:
                continue
            try:
                await self._store.checkpoint([piece for _, piece in pieces])
            except UnavailableError as error:
                self._keeping.note(error)
                continue
            except Exception:
                log.exception("answers could not be checkpointed")  # the next time may do
                continue
            self._keeping.note(None)
            for live, piece in pieces:
                live.kept(piece)


def _sound(piece: str) -> str:
    """Return a piece that can be kept; half a surrogate pair cannot, on any wire."""
    if not piece.isascii():
        try:
            piece.encode()
        except UnicodeEncodeError as error:
            raise UpstreamFailedError("The upstream's answer cannot be read.") from error
    return piece
