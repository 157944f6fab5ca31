"""Plans turns: all that the beginning of one writes and sends, before anything is written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from server.core.checks import title_of
from server.core.errors import InvalidRequestError
from server.core.ids import Ids
from server.core.prompts import Composed, Prompts, Request, Settings
from server.core.questions import ROOT, Ask, Regenerate
from server.upstream.port import Prompt
from storage.model import Conversation, Message, Role, Status, Turn
from storage.port import Claim, NotFoundError, Store

#: The truncation that asks for summaries of what leaves the window.
SUMMARIZE = "summarize"


@dataclass(frozen=True, slots=True)
class Defaults:
    """What conversations that say nothing use, and how many askers may wait in one."""

    model: str
    system_prompt: str | None = None
    counting: Settings = field(default_factory=Settings)
    most_waiting: int = 1000


@dataclass(frozen=True, slots=True)
class Plan:
    """All that the beginning of a turn writes and sends."""

    turn: Turn
    prompt: Prompt
    answer_id: str
    #: None where the question is kept already
    question: Message | None = None
    #: for a conversation that is not there yet, or has no message yet
    conversation: Conversation | None = None
    title: str = ""
    claim: Claim | None = None


class Planner:
    """Reads what a turn needs to know of its conversation, and writes nothing."""

    def __init__(
        self,
        store: Store,
        prompts: Prompts,
        defaults: Defaults,
        ids: Ids,
        now: Callable[[], int],
    ) -> None:
        self._store = store
        self._prompts = prompts
        self._defaults = defaults
        self._now = now
        self.ids = ids

    async def plan(
        self, owner: str, conversation_id: str, question: Ask, claim: Claim | None
    ) -> Plan:
        """Plan the turn of a question. Raises ContextLengthError, NotFoundError for its parent."""
        there = await self._found(owner, conversation_id)
        request = self._request(owner, conversation_id, there, question)
        composed = await self._prompts.compose(request)
        now = self._now()
        turn_id = self.ids.new("turn")
        message = _question(self.ids.new("msg"), turn_id, request, composed, now)
        first = there is None or not there.message_count
        return Plan(
            turn=_turn(turn_id, message, request, composed, now),
            prompt=self._prompt(composed, request.model, question),
            answer_id=self.ids.new("msg"),
            question=message,
            conversation=_made(there, question, request, now) if first else None,
            title=title_of(question.content),
            claim=claim,
        )

    async def plan_again(self, owner: str, conversation_id: str, again: Regenerate) -> Plan:
        """Plan another answer to a question that is kept."""
        there = await self._store.conversation(owner, conversation_id)
        question = await self._question(owner, there, again.message_id)
        request = Request(
            owner,
            conversation_id,
            question.parent_id,
            question.content,
            again.model or there.model or self._defaults.model,
            system_prompt=there.system_prompt,
            max_tokens=again.max_tokens,
            summarise=there.truncation == SUMMARIZE,
        )
        composed = await self._prompts.compose(request)
        return Plan(
            turn=_turn(self.ids.new("turn"), question, request, composed, self._now()),
            prompt=self._prompt(composed, request.model, again),
            answer_id=self.ids.new("msg"),
        )

    async def request(self, owner: str, conversation_id: str, question: Ask) -> Request:
        """Return what a question's prompt would be composed for."""
        there = await self._store.conversation(owner, conversation_id)
        return self._request(owner, conversation_id, there, question)

    def _request(
        self, owner: str, conversation_id: str, there: Conversation | None, question: Ask
    ) -> Request:
        return Request(
            owner,
            conversation_id,
            _parent(there, question),
            question.content,
            question.model or (there and there.model) or self._defaults.model,
            system_prompt=self._system_prompt(there, question),
            max_tokens=question.max_tokens,
            summarise=there is not None and there.truncation == SUMMARIZE,
        )

    def _prompt(self, composed: Composed, model: str, how: Ask | Regenerate) -> Prompt:
        max_tokens = how.max_tokens or self._defaults.counting.max_tokens
        if max_tokens is None and not composed.scale.model.chat:
            max_tokens = composed.window.reserved  # without one, OpenAI completes 16 tokens
        return Prompt(
            model=model,
            messages=composed.messages,
            max_tokens=max_tokens,
            temperature=how.temperature,
            top_p=how.top_p,
            seed=how.seed,
            stop=how.stop,
        )

    async def _question(self, owner: str, there: Conversation, message_id: str | None) -> Message:
        """Return the question that a message answers, or that it is."""
        leaf = message_id or there.head_id
        if leaf is None:
            raise InvalidRequestError("There is nothing to answer in this conversation yet.")
        above = await self._store.branch(owner, there.id, leaf, limit=_MOST_STEPS)
        for message in above:
            if message.role is Role.USER:
                return message
        raise InvalidRequestError("There is no question above this message.", "message_id")

    async def _found(self, owner: str, conversation_id: str) -> Conversation | None:
        try:
            return await self._store.conversation(owner, conversation_id)
        except NotFoundError:
            return None

    def _system_prompt(self, there: Conversation | None, question: Ask) -> str | None:
        if there is None:
            return question.system_prompt or self._defaults.system_prompt
        if question.system_prompt in (None, there.system_prompt):
            return there.system_prompt
        if there.message_count:
            raise InvalidRequestError(
                "system_prompt can be given in the first ask of a conversation only; "
                "PATCH /conversations/{id} changes it later.",
                "system_prompt",
            )
        return question.system_prompt


#: An answer stands a few messages below its question at most (tool calls of imported histories).
_MOST_STEPS = 50


def _parent(there: Conversation | None, question: Ask) -> str | None:
    if question.parent_id == ROOT:
        return None
    if question.parent_id is None:
        return there.head_id if there else None
    if there is None:
        raise NotFoundError(f"There is no message {question.parent_id!r}.", "parent_id")
    return question.parent_id


def _made(there: Conversation | None, question: Ask, request: Request, now: int) -> Conversation:
    return Conversation(
        id=request.conversation_id,
        title="",
        system_prompt=request.system_prompt,
        model=(there and there.model) or question.model,
        metadata={},
        created_at=now,
        updated_at=now,
    )


def _question(
    message_id: str, turn_id: str, request: Request, composed: Composed, now: int
) -> Message:
    return Message(
        id=message_id,
        conversation_id=request.conversation_id,
        parent_id=request.parent_id,
        role=Role.USER,
        content=request.content,
        tokens=composed.question_tokens,
        encoding=composed.encoding,
        model=None,
        turn_id=turn_id,
        created_at=now,
    )


def _turn(turn_id: str, question: Message, request: Request, composed: Composed, now: int) -> Turn:
    return Turn(
        id=turn_id,
        conversation_id=request.conversation_id,
        status=Status.RUNNING,
        model=request.model,
        parent_id=question.parent_id,
        question_id=question.id,
        answer_id=None,
        answer="",
        context=composed.sent,
        created_at=now,
    )
