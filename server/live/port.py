"""The port of who is live: turns that are written now, the queue of each place, and who listens."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from server.live.news import Note
from server.live.turn import LiveTurn
from server.live.waiting import Line, Waiting
from storage.model import Turn

#: Whose it is, and the conversation: where one turn runs at a time.
Place = tuple[str, str]


class LiveTurns(Protocol):
    """Every promise here is one to callers in one event loop; what is not `async` does not wait.

    Whoever looks for a turn looks here first and then in the store: it is here before it is there
    as running, and there as ended before it is gone from here.
    """

    # Who is live

    def admit(self, owner: str, turn: Turn) -> LiveTurn:
        """Make a turn live, to be found at once; done before it is stored."""
        ...

    def forget(self, live: LiveTurn) -> None:
        """Let a turn be live no more, whose end is kept or which was never begun."""
        ...

    def linger(self, live: LiveTurn) -> None:
        """Let a turn be found by its id until it is `released`: its end is told and not kept."""
        ...

    def release(self, live: LiveTurn) -> None:
        """Let a turn that lingers be found no more; one that does not stays as it is."""
        ...

    def find(self, owner: str, turn_id: str) -> LiveTurn | None:
        """Return a turn that is live or lingers; another owner's is not found."""
        ...

    async def elsewhere(self, owner: str, turn: Turn) -> LiveTurn | None:
        """Return a turn that is kept as running and was not found, as it is followed from here.

        None where no other process can be writing it.
        """
        ...

    def in_conversation(self, owner: str, conversation_id: str) -> LiveTurn | None:
        """Return the turn that is live in a conversation and has its place: no free one."""
        ...

    async def running_elsewhere(self, owner: str) -> Sequence[str]:
        """Return the ids of an owner's turns that run in other processes, as far as they are told
        to who watches all that is the owner's.
        """
        ...

    async def elsewhere_in(self, place: Place) -> Sequence[str]:
        """Return the ids of a conversation's turns that run in other processes, free ones too."""
        ...

    def running(self) -> Collection[LiveTurn]:
        """Return the turns that are live; those that linger are not among them."""
        ...

    @property
    def followers(self) -> int:
        """How many follow turns that are live."""
        ...

    # The queue of each place

    async def take(self, place: Place, *, first: bool = False, asks: Waiting | None = None) -> None:
        """Wait for a place and have it until it is given back; `asks` is told of who waits.

        Places go on in order of arrival, to those who are `first` before all others; a newcomer
        never overtakes one that was called. Who is cancelled while waiting has left the queue, and
        one that was called in that moment has handed the place on. Raises BusyError when too many
        wait there, and what they are refused with.
        """
        ...

    def give_back(self, place: Place) -> None:
        """Call the next in the queue; where nobody waits, the place is free."""
        ...

    async def take_again(
        self, place: Place, *, first: bool = False, asks: Waiting | None = None
    ) -> None:
        """Leave a place to somebody else, who gives it back, and `take` it anew.

        Who had it is the next of his kind, since he was called already.
        """
        ...

    def waited_as(self, place: Place) -> str | None:
        """Return as what question others know whoever has a place; None where he waited for
        nobody, or there are no others.
        """
        ...

    def taken(self, place: Place) -> bool:
        """Say whether somebody has a place, or was called to it."""
        ...

    def taken_by(self, owner: str | None = None) -> int:
        """Return how many places an owner has taken; None for all owners."""
        ...

    @property
    def waiting(self) -> int:
        """How many wait, in all queues."""
        ...

    def line(self, place: Place) -> Line:
        """Return the questions that wait for a place.

        It is the same object for as long as they are the same. Where they change, those are woken
        who listen to the place, and who reads the turn that is live there.
        """
        ...

    async def withdraw(self, place: Place, waiting_id: str) -> bool:
        """Send away a question that waits; False where none does of that id, or it was called."""
        ...

    def refuse_all(self, error: Exception) -> None:
        """Send away everyone who waits; who has a place keeps it."""
        ...

    # Who listens

    def listen(self, place: Place) -> asyncio.Future[None]:
        """Return a future that is done at the next notice; `leave` it when it is not awaited.

        Listen first, then look, then wait: so nothing is missed between looking and waiting.
        """
        ...

    def leave(self, place: Place, heard: asyncio.Future[None]) -> None:
        """Listen no more; to leave twice, or after a notice, does nothing."""
        ...

    def listening(self, place: Place) -> int:
        """Return how many listen there."""
        ...

    def notify(self, place: Place) -> None:
        """Wake all who listen there: a turn began, or the conversation is deleted."""
        ...

    def notify_all(self) -> None:
        """Wake everybody who listens: the server ends."""
        ...

    # What happened

    def note(self, owner: str, what: Note) -> None:
        """Tell all that `hear` what happened to something of an owner's; it is kept already."""
        ...

    def hear(
        self,
        heard: Callable[[str, Note], None],
        watched: Callable[[str], bool] | None = None,
        missed: Callable[[], None] | None = None,
    ) -> None:
        """Have this called with every note, and whose it is; it may not wait.

        `watched` says whose notes matter: of what happens in other processes all else is left out.
        `missed` is called when notes of those may have been lost.
        """
        ...
