"""How turns end: what is kept of a turn that was read, that broke, or that a crash left running."""

from __future__ import annotations

from server.core.errors import Problem
from server.core.ids import Ids, answer_id
from server.core.prompt.compose import Composer
from server.core.prompt.learning import Learning
from server.core.prompt.pairs import spoken
from server.core.turns.heal import Healing
from server.core.turns.plan import Plan
from server.core.turns.record import failure_of, told_failed
from server.live.turn import LiveTurn
from server.upstream.port import Finish
from storage.model import Failure, Status, Turn, Usage
from storage.port import Outcome

#: The encoding in which the text of a turn is counted that broke while it was counted, maybe.
_BYTES = "utf-8"


class Outcomes:
    """Counts the text of what ended, in the encoding of its model."""

    def __init__(self, composer: Composer, ids: Ids) -> None:
        self._composer = composer
        self._ids = ids

    @property
    def learning(self) -> Learning:
        """What is learnt of models by how they end."""
        return self._composer.learning

    async def of(
        self,
        live: LiveTurn,
        answer: Healing,
        plan: Plan,
        finish: Finish | None,
        problem: Problem | None,
    ) -> Outcome:
        """Return the end of a turn that was read: to its finish, to a problem, or stopped."""
        said = live.snapshot()
        tokens = await self._composer.count(live.turn.model, spoken(said.content))
        status, error = live.stopped_as or Status.INTERRUPTED, None
        if finish is not None:
            status = Status.COMPLETED
            answer.hear(finish)
        elif problem is not None and live.stopped_as is None:
            status = Status.FAILED
            error = failure_of(problem)
        counted = Usage(live.turn.context.prompt_tokens, tokens)
        told = finish.usage if finish else None
        read = answer.read(finish) if finish else None
        return Outcome(
            status=status,
            text=said.answer,
            parts=said.parts,
            answer_id=plan.answer_id,
            tokens=tokens,
            encoding=self._composer.encoding_of(live.turn.model).name,
            ended_at=self._ids.now(),
            finish_reason=finish.reason if finish else None,
            usage=told or counted,
            error=error,
            drift=read.prompt_tokens - counted.prompt_tokens if read else None,
            context=None if answer.sending is plan.sending else answer.sending.sent,
        )

    def withdrawn(self, live: LiveTurn, problem: Problem) -> Turn:
        """Return a turn of which nothing is kept, as its followers are told of it."""
        return told_failed(live, self._ids.now(), failure_of(problem))

    def broken(self, live: LiveTurn, answer_id: str, error: Failure) -> Outcome:
        """Return an end that tells nothing but the text, and that the turn failed."""
        said = live.snapshot()
        return Outcome(
            status=Status.FAILED,
            text=said.answer,
            parts=said.parts,
            answer_id=answer_id,
            tokens=len(said.answer.encode()),  # no more are in it; weighed anew where it is read
            encoding=_BYTES,
            ended_at=self._ids.now(),
            error=error,
        )

    async def left(self, turn: Turn) -> Outcome:
        """Return the end of a turn that a crash left running, with what was checkpointed."""
        return Outcome(
            status=Status.INTERRUPTED,
            text=turn.answer,
            parts=turn.parts,
            answer_id=answer_id(turn.id),
            tokens=await self._composer.count(turn.model, spoken(turn.content)),
            encoding=self._composer.encoding_of(turn.model).name,
            ended_at=self._ids.now(),
        )
