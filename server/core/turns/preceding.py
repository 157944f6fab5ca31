"""What stands before a question and is kept with it: a caller's own history, results of calls."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from server.core.errors import InvalidRequestError
from server.core.ids import Ids
from server.core.prompt.compose import Composer, PromptRequest
from server.core.prompt.pairs import spoken
from server.core.turns.placement import Placement, Utterance
from server.core.turns.questions import Ask, Responding
from server.core.turns.tools import check_answers, open_calls
from server.openai_protocol.messages import answered_call, called, calls_in
from storage.model import Conversation, Message, Role
from storage.port import Store

#: An answer stands a few messages below its question at most (tool calls of imported histories).
MOST_STEPS = 50


class Preceding:
    """Puts messages before a question that are not kept yet."""

    def __init__(self, store: Store, composer: Composer, ids: Ids) -> None:
        self._store = store
        self._composer = composer
        self._ids = ids

    async def joined(self, request: PromptRequest, place: Placement) -> PromptRequest:
        """Return a request under its place, what is new before the question told too."""
        if request.before:  # a greeting, where all begins
            return await self._under(request, place.new)
        return await self._under(replace(request, parent_id=place.parent_id), place.new)

    async def answered(self, request: PromptRequest, question: Ask) -> PromptRequest:
        """Return a request under the results that come with it, the last of them the question
        where there is no other. Raises InvalidRequestError for open calls that they leave open.
        """
        check_answers(question.tool_results, open_calls(await self._above(request)))
        said = [Utterance(Role.TOOL, one.kept) for one in question.tool_results]
        if question.is_result:
            last = said.pop()
            request = replace(request, role=last.role, content=last.content)
        return await self._under(request, said)

    async def responding(self, request: PromptRequest, wanted: Responding) -> PromptRequest:
        """Return a request under all that a response's input says before its question.

        Raises InvalidRequestError for the result of a call that nobody made.
        """
        called = {*_calls(wanted.said)}
        if any(_answered(one) not in called for one in wanted.said if one.role is Role.TOOL):
            called |= {*_calls(await self._above(request))}
        for one in wanted.said:
            if one.role is Role.TOOL and (name := _answered(one)) not in called:
                raise InvalidRequestError(
                    f"No tool call found for function call output with call_id {name}.", "input"
                )
        return await self._under(request, wanted.said[:-1])

    async def _above(self, request: PromptRequest) -> Sequence[Message]:
        """Return what stands right above a request in its conversation, newest first."""
        if request.parent_id is None or request.before:
            return ()
        return await self._store.branch(
            request.owner, request.conversation_id, request.parent_id, limit=MOST_STEPS
        )

    async def _under(self, request: PromptRequest, said: Sequence[Utterance]) -> PromptRequest:
        """Return a request under messages that are kept with it, its parent above them."""
        before = list(request.before)
        parent, depth = request.parent_id, len(before)
        if not before and parent is not None:
            above = await self._store.message(request.owner, request.conversation_id, parent)
            depth = above.depth
        for one in said:
            depth += 1
            before.append(
                await self.unkept(request.conversation_id, parent, depth, one, request.model)
            )
            parent = before[-1].id
        return replace(request, parent_id=parent, before=tuple(before))

    async def under(
        self, owner: str, there: Conversation, said: Sequence[Utterance], model: str
    ) -> Sequence[Message]:
        """Return messages that are to be kept under the head of a conversation."""
        request = PromptRequest(owner, there.id, there.head_id, "", model)
        return (await self._under(request, said)).before

    async def unkept(
        self, conversation_id: str, parent_id: str | None, depth: int, said: Utterance, model: str
    ) -> Message:
        """Return a message that will be kept with the question that follows it."""
        return Message(
            id=self._ids.new("msg"),
            conversation_id=conversation_id,
            parent_id=parent_id,
            role=said.role,
            content=said.content,
            tokens=await self._composer.count(model, spoken(said.content)),
            encoding=self._composer.encoding_of(model).name,
            model=None,
            turn_id=None,
            created_at=self._ids.now(),
            depth=depth,
            item=said.item,
        )


def _calls(said: Iterable[Message | Utterance]) -> Iterator[str]:
    for one in said:
        if one.role is Role.ASSISTANT:
            yield from map(called, calls_in(one.content))


def _answered(one: Utterance) -> str:
    return answered_call(one.content)
