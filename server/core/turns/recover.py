"""Ends, at the start, the turns that a crash left running."""

from __future__ import annotations

from server.core.ids import Ids
from server.core.prompt.compose import Composer
from storage.model import Status
from storage.port import Outcome, Store


async def recover(store: Store, composer: Composer, ids: Ids, now: int) -> None:
    """End every turn that is kept as running, with the text that was checkpointed.

    Dying amid that leaves the rest for the next start.
    """
    for owner, turn in await store.running():
        outcome = Outcome(
            status=Status.INTERRUPTED,
            text=turn.answer,
            answer_id=ids.new("msg"),
            tokens=await composer.count(turn.model, turn.answer),
            encoding=composer.encoding_of(turn.model).name,
            ended_at=now,
        )
        await store.end(owner, turn.id, outcome)
