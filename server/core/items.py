"""What is put into conversations, read and erased there without a turn; in line with turns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from server.core import validation
from server.core.mine import Mine
from server.core.turns.begin import Asking
from server.core.turns.placement import Utterance
from server.core.turns.plan import Planner
from server.core.turns.preceding import Preceding
from server.core.validation import title_of
from server.live.news import Changed, Made
from storage.model import Conversation, Message, Role
from storage.parts import erased
from storage.port import Store


class Items:
    """Every call is its owner's: others' conversations are not found."""

    def __init__(self, store: Store, planner: Planner, asking: Asking, mine: Mine) -> None:
        self._store = store
        self._mine = mine
        self._planner = planner
        self._asking = asking
        self._preceding = Preceding(store, planner.composer, planner.ids)

    async def create(
        self, owner: str, metadata: Mapping[str, str], said: Sequence[Utterance]
    ) -> Conversation:
        """Keep a new conversation, without any system prompt, and what was said in it."""
        self._asking.refuse_if_draining()
        _check(said)
        now = self._planner.ids.now()
        id_ = self._planner.ids.new("conv")
        new = Conversation(id_, "", None, None, metadata, now, now)
        made = await self._mine.kept(owner, self._store.create(owner, new), Made(id_))
        if said:
            await self._add(owner, made, said)
        return made

    async def add(
        self, owner: str, conversation_id: str, said: Sequence[Utterance]
    ) -> Sequence[Message]:
        """Keep what was said under the head, when no turn runs any more; oldest first."""
        _check(said)
        added: Sequence[Message] = ()

        async def work() -> None:
            nonlocal added
            there = await self._store.conversation(owner, conversation_id)
            added = await self._add(owner, there, said)

        await self._asking.in_line((owner, conversation_id), work)
        return added

    async def upwards(
        self, owner: str, conversation_id: str, leaf_id: str | None, limit: int
    ) -> Sequence[Message]:
        """Return messages of a branch from its leaf on, newest first."""
        return await self._store.branch(owner, conversation_id, leaf_id, limit=limit)

    async def downwards(
        self, owner: str, conversation_id: str, leaf_id: str | None, below: int, limit: int
    ) -> Sequence[Message]:
        """Return messages of a branch from its root on, behind a depth."""
        if leaf_id is None:
            return ()
        return await self._store.downwards(
            owner, conversation_id, leaf_id, below=below, limit=limit
        )

    async def erase(self, owner: str, message: Message, place: int | None) -> None:
        """Erase what a message says, or the part of an answer at a place; its own place stays.

        A title that was made of it goes too.
        """
        content = erased(message.content, place)
        model = message.model or self._planner.defaults.model
        tokens = await self._planner.composer.count(model, content)
        there = await self._store.conversation(owner, message.conversation_id)
        await self._store.rewrite(owner, there.id, message.id, content, tokens)
        if there.title and there.title == title_of(message.content):
            now = self._planner.ids.now()
            untitled = self._store.update(owner, there.id, {"title": ""}, now)
            await self._mine.kept(owner, untitled, Changed(there.id))

    async def _add(
        self, owner: str, there: Conversation, said: Sequence[Utterance]
    ) -> Sequence[Message]:
        model = there.model or self._planner.defaults.model
        messages = await self._preceding.under(owner, there, said, model)
        title = next((title_of(one.content) for one in said if one.role is Role.USER), "")
        now = self._planner.ids.now()
        appended = self._store.append(owner, there.id, messages, title=title, now=now)
        await self._mine.kept(owner, appended, Changed(there.id))
        return messages


def _check(said: Sequence[Utterance]) -> None:
    for one in said:
        validation.spoken(one.content, "items")
