"""What happened at one node as the others are told of it: a word and an id; they read the rest."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, fields, replace
from typing import Any

from server.live.background import Background
from server.live.news import Began, Changed, Deleted, Made, Note, Over
from storage.model import ContextUse, Conversation, Failure, Status, Turn
from storage.port import NotFoundError, Store, UnavailableError

BEGAN, OVER, MADE, CHANGED, DELETED = "began", "over", "made", "changed", "deleted"
#: Bytes of what is told of what is gone; a notification has no room for more.
MOST_TOLD = 6_000


class Notes:
    """Writes notes down, and makes notes again of what others wrote."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._background = Background()

    def told(self, what: Note) -> Sequence[Any] | None:
        """Return what others are told of a note; None where it is this node's own."""
        match what:
            case Began(turn):
                return BEGAN, turn.id
            case Over(turn):
                return OVER, turn.id, *_of_one_gone(turn)
            case Made(conversation_id):
                return MADE, conversation_id
            case Changed(conversation_id, Conversation() as made):
                return CHANGED, conversation_id, _written(made)
            case Changed(conversation_id):
                return CHANGED, conversation_id
            case Deleted(conversation):
                return DELETED, _written(conversation)
        return None

    def heard(
        self,
        word: str,
        name: str,
        owner: str,
        note: Callable[[Note], None],
        gone: str | None = None,
    ) -> None:
        """Have a note made of what another node wrote; `gone` is what is read nowhere else."""
        match word:
            case "began" | "over":
                self._background.begin(self._turn(word, name, owner, note, gone))
            case "made":
                note(Made(name))
            case "changed":
                note(Changed(name, _conversation_of(gone) if gone else None))
            case "deleted":
                note(Deleted(_conversation_of(name)))

    async def _turn(
        self,
        word: str,
        name: str,
        owner: str,
        note: Callable[[Note], None],
        gone: str | None,
    ) -> None:
        with suppress(UnavailableError):
            try:
                turn = await self._store.turn(owner, name)
            except NotFoundError:
                if gone is None:
                    return
                turn = _turn_of(gone)
            note(Began(turn) if word == BEGAN else Over(turn))


def _written(gone: Conversation) -> str:
    """Return a conversation as others can read it; of a long one, what a list shows."""
    written = json.dumps(asdict(gone))
    if not _fits(written):
        written = json.dumps(asdict(replace(gone, system_prompt=None, metadata={})))
    return written


def _of_one_gone(turn: Turn) -> Sequence[str]:
    """Return what is told of a turn that failed without a word: it may be taken back, and gone."""
    if turn.status is not Status.FAILED or turn.content:
        return ()
    written = json.dumps(asdict(replace(turn, options={}, record=None, usage=None)))
    return (written,) if _fits(written) else ()


def _fits(written: str) -> bool:
    # It is a string within a string: its quotes are written twice.
    return len(json.dumps(written)) <= MOST_TOLD


def _conversation_of(written: str) -> Conversation:
    return Conversation(**_known(Conversation, json.loads(written)))


def _turn_of(written: str) -> Turn:
    told = _known(Turn, json.loads(written))
    return Turn(
        **told
        | {
            "status": Status(told["status"]),
            "context": ContextUse(**_known(ContextUse, told["context"])),
            "error": told["error"] and Failure(**_known(Failure, told["error"])),
        }
    )


def _known(kind: type, told: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is known here of what a node of a later release may tell more of."""
    names = {one.name for one in fields(kind)}
    return {name: value for name, value in told.items() if name in names}
