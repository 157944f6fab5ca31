"""The part of the store's port that OpenAI's stateful API alone asks for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from storage.model import Content, Message


class ResponseStore(Protocol):
    """What a Store promises of responses, and of items in conversations; see there."""

    async def delete_response(self, owner: str, turn_id: str) -> str | None:
        """Delete a turn as a response of OpenAI's API; the turn and its messages stay.

        Return its conversation where that is unlisted and has no other response any more.
        """
        ...

    async def expired(self, before: int, *, limit: int) -> Sequence[tuple[str, str]]:
        """Return unlisted conversations that nothing was written to since, with their owners."""
        ...

    async def append(
        self, owner: str, conversation_id: str, said: Sequence[Message], *, title: str, now: int
    ) -> None:
        """Keep messages of no turn, each for the next to stand under; the last becomes the head.

        `title` is for a conversation that has neither one nor a message.
        """
        ...

    async def downwards(
        self, owner: str, conversation_id: str, leaf_id: str, *, below: int, limit: int
    ) -> Sequence[Message]:
        """Return messages of the branch that ends in a leaf from its root on, behind a depth."""
        ...

    async def rewrite(
        self, owner: str, conversation_id: str, message_id: str, content: Content, tokens: int
    ) -> None:
        """Put another content in the place of a message's, which nothing has any more then."""
        ...

    async def find_message(self, owner: str, message_id: str) -> Message:
        """Return a message, in whatever conversation it is."""
        ...
