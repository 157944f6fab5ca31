"""Plans turns: all that the beginning of one writes and sends, before anything is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from server.config.limits import TurnLimits, UpstreamLimits
from server.config.quantities import Budget
from server.core.errors import InvalidRequestError
from server.core.ids import Ids, answer_id
from server.core.prompt.characters import Character, Characters, StyleRequest
from server.core.prompt.compose import Composer, CountingSettings, PromptRequest, Refused
from server.core.prompt.composed import Composed
from server.core.turns.heal import Sending, sending
from server.core.turns.nouns import as_response, asked, begun
from server.core.turns.placement import Placement, Utterance, place
from server.core.turns.preceding import MOST_STEPS, Preceding
from server.core.turns.questions import ROOT, Ask, Regenerate, Wishes
from server.core.turns.server_tools import approved, equipped, sent
from server.core.turns.tooled import Tools
from server.core.turns.tools import attached
from server.core.validation import title_of
from server.live.port import Place
from server.mcp.port import NoTools, Toolbox
from server.templates import template
from server.upstream.port import Prompt
from storage.model import Content, Conversation, Message, Role, Turn
from storage.port import Claim, NotFoundError, Store

#: The truncation that asks for summaries of what leaves the window.
SUMMARIZE = "summarize"


@dataclass(frozen=True, slots=True)
class Defaults:
    """What conversations that say nothing use, and how much there may be of them."""

    model: str
    system_prompt: str | None = None
    counting: CountingSettings = field(default_factory=CountingSettings)
    characters: Characters = field(default_factory=Characters)
    limits: TurnLimits = field(default_factory=TurnLimits)
    upstreams: UpstreamLimits = field(default_factory=UpstreamLimits)
    budget: Budget | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """All that the beginning of a turn writes and sends."""

    turn: Turn
    sending: Sending
    answer_id: str
    #: None where the question is kept already
    question: Message | None = None
    #: what is kept with the question and before it: what a character says first, say
    before: tuple[Message, ...] = ()
    #: for a conversation that is not there yet, or has no message yet
    conversation: Conversation | None = None
    title: str = ""
    claim: Claim | None = None
    #: of the conversation before
    head_id: str | None = None
    #: it is kept though it fails without a word; a caller of OpenAI's API takes that for nothing
    lasting: bool = True
    #: its conversation is in the list
    listed: bool = True
    #: what is offered that we run ourselves; None where nothing is
    tools: Tools | None = None


class Planner:
    """Reads what a turn needs to know of its conversation, and writes nothing."""

    def __init__(
        self,
        store: Store,
        composer: Composer,
        defaults: Defaults,
        ids: Ids,
        toolbox: Toolbox | None = None,
    ) -> None:
        self._store = store
        self._toolbox = toolbox or NoTools()
        self.composer = composer
        self.defaults = defaults
        self.characters = defaults.characters
        self.ids = ids
        self._preceding = Preceding(store, composer, ids)

    async def plan(
        self, owner: str, conversation_id: str, question: Ask, claim: Claim | None
    ) -> Plan:
        """Plan the turn of a question. Raises ContextLengthError, NotFoundError for its parent."""
        there = await self._found(owner, conversation_id)
        place = await self._place(owner, there, question)
        if there is not None and place is not None and place.question is not None:
            self._check_character(there, question)
            return await self._plan_kept(owner, there, place.question, question, claim)
        request = await self._request(owner, conversation_id, there, question)
        if place is not None:
            request = await self._preceding.joined(request, place)
        if question.tool_results:
            request = await self._preceding.answered(request, question)
        if (wanted := question.response) is not None:
            request = await self._preceding.responding(request, wanted)
        composed = await self.composer.compose(request)
        now = self.ids.now()
        turn_id = self.ids.new("turn")
        message = asked(self.ids.new("msg"), turn_id, request, composed, now)
        first = there is None or not there.message_count
        made = self._made(there, question, request, now) if first else None
        turn = begun(turn_id, message, request, composed, now, question.wire)
        said_by = turn_id if wanted else None
        return Plan(
            turn=as_response(turn, wanted),
            sending=self._sending(composed, request, question),
            answer_id=answer_id(turn_id),
            question=message,
            before=tuple(replace(one, created_at=now, turn_id=said_by) for one in request.before),
            conversation=made,
            title=title_of(_first_words(question)),
            claim=claim,
            head_id=there.head_id if there else None,
            lasting=wanted.background if wanted else not question.said,
            listed=not any(one.unlisted for one in (there, made) if one is not None),
            tools=self._tools(request, approved(question)),
        )

    async def plan_beside(self, owner: str, conversation_id: str, question: Ask) -> Plan:
        """Plan a turn of which nothing is kept: it runs beside all, where nothing is there too."""
        planned = await self.plan(owner, conversation_id, question, None)
        return replace(planned, turn=replace(planned.turn, free=True))

    async def plan_again(self, owner: str, conversation_id: str, again: Regenerate) -> Plan:
        """Plan another answer to a question that is kept."""
        there = await self._store.conversation(owner, conversation_id)
        self._check_character(there, again)
        question = await self._question(owner, there, again.message_id)
        offered = await self._offered(owner, question)
        return await self._plan_kept(owner, there, question, again, options=offered)

    async def plan_anew(self, owner: str, left: Turn, again: Ask, claim: Claim) -> Plan:
        """Plan the answer of a turn that was interrupted, for an asker who comes back for it."""
        there = await self._store.conversation(owner, left.conversation_id)
        question = await self._store.message(owner, there.id, left.question_id)
        return await self._plan_kept(owner, there, question, again, claim)

    async def _offered(self, owner: str, question: Message) -> Mapping[str, Any]:
        """Return the tools and the like that were offered when a question was asked."""
        if question.turn_id is None:
            return {}
        try:
            return (await self._store.turn(owner, question.turn_id)).options
        except NotFoundError:  # an imported one
            return {}

    async def _plan_kept(
        self,
        owner: str,
        there: Conversation,
        question: Message,
        again: Wishes,
        claim: Claim | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Plan:
        offered = (again.options if isinstance(again, Ask) else options) or {}
        character = self.characters.character(again)
        model = again.model or there.model or character.model or self.defaults.model
        request = PromptRequest(
            owner,
            there.id,
            question.parent_id,
            question.content,
            model,
            system_prompt=self._instructions(there, again),
            max_tokens=again.max_tokens,
            summarise=there.truncation == SUMMARIZE,
            template=await self.characters.template(again, model),
            role=question.role,
            attached=(isinstance(again, Ask) and again.attached) or attached(offered),
            options=offered,
            as_it_came=isinstance(again, Ask) and bool(again.said),
        )
        request = equipped(request, self._toolbox)
        composed = await self.composer.compose(request)
        wire = again.wire if isinstance(again, Ask) else None
        turn = begun(self.ids.new("turn"), question, request, composed, self.ids.now(), wire)
        return Plan(
            turn=as_response(turn, again.response if isinstance(again, Ask) else None),
            sending=self._sending(composed, request, again),
            answer_id=answer_id(turn.id),
            claim=claim,
            head_id=there.head_id,
            listed=not there.unlisted,
            tools=self._tools(request),
        )

    def _tools(
        self, request: PromptRequest, approved: frozenset[str] = frozenset()
    ) -> Tools | None:
        if not (request.tools or approved):
            return None
        count = partial(self.composer.count, request.model)
        return Tools(request.tools, approved, self._toolbox, count)

    async def request(self, owner: str, conversation_id: str, question: Ask) -> PromptRequest:
        """Return what a question's prompt would be composed for."""
        there = await self._store.conversation(owner, conversation_id)
        request = await self._request(owner, conversation_id, there, question)
        if question.tool_results:
            request = await self._preceding.answered(request, question)
        return request

    async def check(self, expected: StyleRequest) -> None:
        """Refuse characters and templates that there are not, before anything is waited for."""
        await self.characters.check(expected)

    async def _request(
        self, owner: str, conversation_id: str, there: Conversation | None, question: Ask
    ) -> PromptRequest:
        character = self.characters.character(question)
        model = question.model or (there and there.model) or character.model or self.defaults.model
        parent = _parent(there, question)
        before: tuple[Message, ...] = ()
        if character.greeting and (there is None or not there.message_count):
            said = Utterance(Role.ASSISTANT, character.greeting)
            before = (await self._preceding.unkept(conversation_id, None, 1, said, model),)
            parent = before[0].id
        request = PromptRequest(
            owner,
            conversation_id,
            parent,
            question.content,
            model,
            system_prompt=self._system_prompt(there, question, character),
            max_tokens=question.max_tokens,
            summarise=there is not None and there.truncation == SUMMARIZE,
            template=await self.characters.template(question, model),
            before=before,
            role=question.role,
            attached=question.attached or attached(question.options),
            options=question.options,
            as_it_came=bool(question.said),
            whole=question.response is not None and question.response.whole,
            item=question.response.said[-1].item if question.response else None,
        )
        return equipped(request, self._toolbox)

    async def _place(
        self, owner: str, there: Conversation | None, question: Ask
    ) -> Placement | None:
        """Return where a caller stands that keeps a history of its own; None for all others."""
        if not question.said:
            return None
        if question.parent_id is not None:
            parent = None if question.parent_id == ROOT else question.parent_id
            return Placement(parent, question.said[:-1])
        if there is None:
            return Placement(None, question.said[:-1])
        return await place(self._store, owner, there.id, there.head_id, question.said)

    def _check_character(self, there: Conversation, how: Wishes) -> None:
        """Refuse a character that would change the system prompt of a conversation."""
        if self.characters.character(how).system_prompt not in (None, there.system_prompt):
            raise _too_late("character")

    def _instructions(self, there: Conversation, how: Wishes) -> str | None:
        """Return the system prompt: the conversation's, or a joining caller's own for this turn."""
        if isinstance(how, Ask) and how.response is not None:
            return how.response.system_prompt(there.system_prompt)
        own = how.system_prompt if isinstance(how, Ask) and how.said else None
        return own or there.system_prompt

    def _sending(self, composed: Composed, request: PromptRequest, how: Wishes) -> Sending:
        """Return a prompt as it is sent, and made again where it is too long."""

        async def shorter(refused: Refused) -> Sending:
            again = await self.composer.compose(replace(request, refused=refused))
            return self._sending(again, request, how)

        prompt = self._prompt(composed, request, how)
        return sending(prompt, self.composer.named(request.model), composed, shorter)

    def _prompt(self, composed: Composed, request: PromptRequest, how: Wishes) -> Prompt:
        max_tokens = how.max_tokens or self.defaults.counting.max_tokens
        written, stop = composed.scale.template, how.stop
        if written is not None:
            if request.options:
                raise _unwritten(next(iter(request.options)))
            max_tokens = max_tokens or composed.window.reserved  # else OpenAI completes 16 tokens
            stop = tuple(template.stops(stop, written))
        return Prompt(
            model=request.model,
            messages=composed.messages,
            max_tokens=max_tokens,
            temperature=how.temperature,
            top_p=how.top_p,
            seed=how.seed,
            stop=stop,
            text=composed.text,
            options=sent(request.options, request.tools),
            extra=how.extra,
            as_it_came=composed.as_it_came,
        )

    async def _question(self, owner: str, there: Conversation, message_id: str | None) -> Message:
        """Return the question that a message answers, or that it is."""
        leaf = message_id or there.head_id
        if leaf is None:
            raise InvalidRequestError("There is nothing to answer in this conversation yet.")
        above = await self._store.branch(owner, there.id, leaf, limit=MOST_STEPS)
        for message in above:
            if message.role in (Role.USER, Role.TOOL):
                return message
        raise InvalidRequestError("There is no question above this message.", "message_id")

    async def _found(self, owner: str, conversation_id: str) -> Conversation | None:
        try:
            return await self._store.conversation(owner, conversation_id)
        except NotFoundError:
            return None

    def _system_prompt(
        self, there: Conversation | None, question: Ask, character: Character
    ) -> str | None:
        if (response := question.response) is not None:
            return response.system_prompt(there.system_prompt if there else None)
        given = question.system_prompt
        wanted = character.system_prompt if given is None else given
        if there is None:
            return wanted or character.system_prompt or self.defaults.system_prompt
        if wanted in (None, there.system_prompt):
            return there.system_prompt
        if question.said:
            return self._instructions(there, question)
        if there.message_count:
            raise _too_late("character" if given is None else "system_prompt")
        return wanted

    def _made(
        self, there: Conversation | None, question: Ask, request: PromptRequest, now: int
    ) -> Conversation:
        """Return the conversation that a first question makes, or finishes making."""
        character = self.characters.character(question)
        own = request.system_prompt
        if question.response is not None:
            own = there.system_prompt if there else None
        return Conversation(
            id=request.conversation_id,
            title="",
            system_prompt=own,
            model=(there and there.model) or question.model or character.model,
            metadata={},
            created_at=now,
            updated_at=now,
            unlisted=question.response is not None and question.response.unlisted,
        )


def beside(owner: str, conversation_id: str, ids: Ids) -> Place:
    """Return the place of a turn that takes none: one of its own, which nobody else asks for."""
    return owner, f"{conversation_id} {ids.new('beside')}"


def _too_late(param: str) -> InvalidRequestError:
    what = "it" if param == "system_prompt" else "the system prompt"
    return InvalidRequestError(
        f"{param} can be given in the first ask of a conversation only; "
        f"PATCH /conversations/{{id}} changes {what} later.",
        param,
    )


def _unwritten(param: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"{param} is for models that take messages; this prompt is written as one text.", param
    )


def _parent(there: Conversation | None, question: Ask) -> str | None:
    if question.parent_id == ROOT:
        return None
    if question.parent_id is None:
        return there.head_id if there else None
    if there is None:
        raise NotFoundError(f"There is no message {question.parent_id!r}.", "parent_id")
    return question.parent_id


def _first_words(question: Ask) -> Content:
    """Return what a conversation that begins with a question is named after."""
    said = question.response.said if question.response else question.said
    words = (one.content for one in said if one.role is Role.USER)
    return next(words, question.content)
