"""What callers ask for: a question, or another answer to one; checked the same on every wire."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any

from server.core import validation
from server.core.ids import Ids
from server.core.observability.metrics import WIRE
from server.core.prompt.characters import Mode
from server.core.turns.placement import Utterance
from server.core.turns.tools import ToolResult, checked_results
from server.live.waiting import LONGEST_PROMPT, Waiting
from storage.model import Content, Role, text_of
from storage.port import Claim

__all__ = ["ROOT", "Ask", "IfBusy", "Mode", "OnDisconnect", "Regenerate"]

#: The wire of ChatGPT EasyBackend's clients, which share a port with others.
EASYBACKEND = "easybackend"
#: Fields that claims of older releases did not have: they stay the same where these are empty.
_LATER = ("options", "tool_results", "wire", "response")
#: In place of a parent's id: no parent, a new first message.
ROOT = "root"


class IfBusy(StrEnum):
    """What an ask does while another turn of its conversation runs."""

    WAIT = "wait"
    REJECT = "reject"
    INTERRUPT = "interrupt"


class OnDisconnect(StrEnum):
    """What becomes of a turn when its asker's connection is lost."""

    CONTINUE = "continue"
    CANCEL = "cancel"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """How an answer is to be written; what is None is left to the conversation and the upstream."""

    model: str | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    mode: Mode | None = None
    character: str | None = None
    instruction_template: str | None = None
    prompt_template: str | None = None
    #: what upstreams understand beside, as `parameters.beside` returns it
    extra: Mapping[str, Any] = field(default_factory=dict)
    if_busy: IfBusy = IfBusy.WAIT


@dataclass(frozen=True, slots=True)
class Regenerate(Wishes):
    """A wish for another answer; `message_id` is an answer or its question, None the head."""

    message_id: str | None = None


@dataclass(frozen=True, slots=True)
class Responding:
    """What a response of OpenAI's API asks: all of its input, the question last, and how.

    One that names no conversation is a branch under the response that it goes on from (`free`), or
    begins a conversation that is in no list.
    """

    said: tuple[Utterance, ...]
    #: kept with the turn
    record: Mapping[str, Any] = field(default_factory=dict)
    #: the system prompt of this turn alone; None: the conversation's, of one that is named
    instructions: str | None = None
    named: bool = False
    free: bool = False
    #: a history that does not fit is refused, and no turn of it left out
    whole: bool = True
    #: nobody waits for it to begin: it is kept, whatever becomes of it
    background: bool = False

    @property
    def unlisted(self) -> bool:
        return not (self.named or self.free)

    def system_prompt(self, of_conversation: str | None) -> str | None:
        return self.instructions or (of_conversation if self.named else None)


@dataclass(frozen=True, slots=True)
class Ask(Wishes):
    """A question, and how it is to be answered.

    `parent_id` is the message to ask under: None the head, ROOT none.
    """

    content: Content
    parent_id: str | None = None
    system_prompt: str | None = None
    idempotency_key: str | None = None
    #: for a caller that keeps a history of its own: all that it says was said, the question last
    said: tuple[Utterance, ...] = ()
    #: what is sent beside the messages and takes tokens as they do, where `options` do not tell
    attached: str = ""
    #: tools and the like, as `tools.checked_options` returns them
    options: Mapping[str, Any] = field(default_factory=dict)
    #: of all calls that are open where it is asked, before the question or in its place
    tool_results: tuple[ToolResult, ...] = ()
    #: by which wire, where that is not the request's
    wire: str | None = None
    #: a digest of all that the caller sent, where that is more than this: its key is for that too
    digest: str = ""
    #: where it is asked as a response of OpenAI's API
    response: Responding | None = None

    @property
    def role(self) -> Role:
        said = self.response.said if self.response else self.said
        return said[-1].role if said else Role.USER

    @property
    def is_result(self) -> bool:
        """Whether results stand in the place of a question."""
        return bool(self.tool_results) and not self.content


def check_ask(question: Ask) -> Ask:
    """Return a question as it is kept, or refuse it."""
    _check_sampling(question)
    validation.known(question.parent_id, "parent_id")
    if question.system_prompt is not None:
        validation.text(question.system_prompt, "system_prompt")
    if question.idempotency_key is not None:
        validation.short_text(question.idempotency_key, "idempotency-key", validation.LONGEST_KEY)
    if question.response is not None:
        for one in question.response.said:
            validation.spoken(one.content, "input")
        return question
    if question.said:
        for one in question.said:
            validation.spoken(one.content)
        return question
    checked_results(question.tool_results)
    if question.is_result:
        return question
    return replace(question, content=validation.content(question.content))


def check_regenerate(again: Regenerate) -> Regenerate:
    """Return a wish for another answer, or refuse it."""
    _check_sampling(again)
    validation.known(again.message_id, "message_id")
    return again


def claim_of(conversation_id: str, question: Ask, now: int) -> Claim | None:
    """Return the claim that a question's idempotency key makes on all that it asks."""
    if not question.idempotency_key:
        return None
    told = {k: v for k, v in asdict(question).items() if v or k not in _LATER}
    asked = json.dumps([conversation_id, told], sort_keys=True, ensure_ascii=False)
    return Claim(question.idempotency_key, hashlib.sha256(asked.encode()).digest(), now)


def waiting_of(question: Wishes, ids: Ids) -> Waiting:
    """Return a question as it is told while it waits; of another answer there are no words."""
    prompt, wire = "", WIRE.get()
    if isinstance(question, Ask):
        prompt, wire = text_of(question.content), question.wire or wire
    return Waiting(ids.new("wait"), prompt[:LONGEST_PROMPT], wire, ids.now())


def _check_sampling(of: Wishes) -> None:
    if of.model is not None:
        validation.name(of.model, "model")
    validation.number(of.max_tokens, "max_tokens", 1, 1 << 31, whole=True)
    validation.number(of.temperature, "temperature", 0, 2)
    validation.number(of.top_p, "top_p", 0, 1)
    validation.number(
        of.seed, "seed", -validation.LARGEST_INTEGER, validation.LARGEST_INTEGER - 1, whole=True
    )
    validation.stops(of.stop)
