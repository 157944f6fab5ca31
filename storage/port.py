"""The port to where history is kept: the promises every adapter gives, and its errors."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import EllipsisType
from typing import Any, Protocol

from storage.model import (
    Completion,
    CompletionQuery,
    Content,
    ContextUse,
    Conversation,
    Failure,
    Hit,
    Lesson,
    Message,
    Order,
    Page,
    Query,
    Status,
    Turn,
    UpstreamObject,
    Usage,
)
from storage.parts import Mark
from storage.responses_port import ResponseStore

#: So many lessons are kept, those that were learnt last: names of models are for callers to choose.
LESSONS_KEPT = 1000


class StoreError(Exception):
    """Something the store could not do; the text is fit for the caller to read."""

    param: str | None = None

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class NotFoundError(StoreError):
    """There is no such thing, or it belongs to somebody else."""


class AlreadyExistsError(StoreError):
    """That id is taken."""


class BusyError(StoreError):
    """A turn is running in that conversation."""


class ClaimedError(BusyError):
    """Another turn was begun with an idempotency key: that is the one to join."""


class NotNextError(BusyError):
    """Others wait in that conversation who come first, or the question was taken back."""


class MovedError(StoreError):
    """The head of a conversation is not the one that a turn was planned for: plan again."""


class IdempotencyMismatchError(StoreError):
    """That idempotency key was used for another request."""


class UnavailableError(StoreError):
    """The database is locked, full, read-only or gone; trying later may help."""


#: How long an idempotency key stands for its turn, in microseconds: a day.
CLAIM_LIFETIME = 24 * 3600 * 1_000_000
#: How many keys that have outlived theirs a new one takes away with it.
FORGOTTEN_AT_ONCE = 20


@dataclass(frozen=True, slots=True)
class Claim:
    """An idempotency key with a digest of the request that it stands for; it lasts a day."""

    key: str
    fingerprint: bytes
    now: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a turn ended. An answer message is kept where anything was said, or it completed."""

    status: Status
    text: str
    answer_id: str
    tokens: int
    encoding: str
    ended_at: int
    finish_reason: str | None = None
    usage: Usage | None = None
    error: Failure | None = None
    #: the whole answer, where it is more than its text
    parts: Sequence[Mapping[str, Any]] | None = None
    #: the upstream's prompt tokens less ours, where the upstream said
    drift: int | None = None
    #: what was sent at last, where that was not what the turn began with
    context: ContextUse | None = None

    @property
    def content(self) -> Content:
        """The whole answer."""
        return self.text if self.parts is None else self.parts

    @property
    def said(self) -> bool:
        """Whether there is anything of an answer."""
        return bool(self.content)


@dataclass(frozen=True, slots=True)
class Piece:
    """The row of a running answer from a position, and the marks in it; see `storage.parts`."""

    owner: str
    turn_id: str
    position: int
    text: str
    marks: tuple[Mark, ...] = ()


class Store(ResponseStore, Protocol):
    """History of many owners. Every method is one transaction, durable when it returns, but for
    `put`, `delete` and `checkpoint`, which say in which steps they let others in.

    Every method that takes an `owner` sees that owner's things only: others' are not found.
    Any method may raise UnavailableError; then nothing of it was written.
    """

    @property
    def waiting(self) -> int:
        """How many writes wait for their turn."""
        ...

    async def running(self) -> Sequence[tuple[str, Turn]]:
        """Return every turn kept as running, with its owner and its checkpointed answer."""
        ...

    async def orphans(self) -> Sequence[tuple[str, Turn]]:
        """Return those of them that nobody writes any more: who did has died."""
        ...

    async def create(self, owner: str, conversation: Conversation) -> Conversation:
        """Keep a new conversation. Raises AlreadyExistsError."""
        ...

    async def conversation(self, owner: str, conversation_id: str) -> Conversation: ...

    async def conversations(
        self,
        owner: str,
        *,
        limit: int,
        after: str | None = None,
        q: str | None = None,
        order: Order = Order.CREATED,
    ) -> Page[Conversation]:
        """Return one page behind where the conversation `after` stands now; none is unlisted.

        With `q` it is of titles with these words, those made last first, whatever the order.
        """
        ...

    async def update(
        self, owner: str, conversation_id: str, changes: Mapping[str, Any], now: int
    ) -> Conversation:
        """Change title, system_prompt, model, metadata, head_id, truncation or pinned."""
        ...

    async def delete(self, owner: str, conversation_id: str) -> None:
        """Delete a conversation and all that hangs on it. Raises BusyError while a turn runs.

        It is gone at once and for good; what hung on a large one is gone when this returns, or
        some time after where the caller is cancelled, the database goes away or the process dies.
        """
        ...

    async def message(self, owner: str, conversation_id: str, message_id: str) -> Message: ...

    async def branch(
        self,
        owner: str,
        conversation_id: str,
        leaf_id: str | None,
        *,
        limit: int,
        tokens: int | None = None,
    ) -> Sequence[Message]:
        """Walk from `leaf_id` towards the root, newest first: at most `limit` messages, none
        behind the first at which their tokens sum up past `tokens`. Its cost is what it returns.
        """
        ...

    async def siblings(
        self, owner: str, conversation_id: str, parent_ids: Sequence[str | None]
    ) -> Mapping[str | None, Sequence[str]]:
        """Return the ids of the children of each of these messages, oldest first; None is above the
        roots. A message that is not there has none.
        """
        ...

    async def claimed(self, owner: str, claim: Claim) -> str | None:
        """Return the id of the turn that this claim began. Raises IdempotencyMismatchError."""
        ...

    async def begin(
        self,
        owner: str,
        turn: Turn,
        question: Message | None,
        *,
        conversation: Conversation | None = None,
        title: str = "",
        claim: Claim | None = None,
        before: Sequence[Message] = (),
        head: str | EllipsisType | None = ...,
        waiting: str | None = None,
    ) -> Turn:
        """Keep a running turn, its question (None: it is kept already) and its claim.

        `before` is kept first, oldest first, each message for the next to stand under.
        `conversation` is made where it is not there yet, and gives its system prompt and model to
        one that has no message yet; `title` is for one that has none either. A question becomes
        the head. A claim that stands for an interrupted turn stands for this one from now on.
        `head`, where it is given, is the head that the turn was planned for (None: none).
        A free turn runs beside others, and moves the head of an unlisted conversation alone.
        `waiting` is the id of one that waited. Raises BusyError while a turn runs, NotNextError,
        ClaimedError (the claim is another turn's), MovedError (the head is another), NotFoundError.
        """
        ...

    async def checkpoint(self, pieces: Sequence[Piece]) -> None:
        """Keep further pieces of running answers; pieces of ended turns are passed over.

        Many are kept a few at a time, in their order; keeping one again changes nothing.
        """
        ...

    async def end(self, owner: str, turn_id: str, outcome: Outcome) -> Turn:
        """Keep how a turn ended; its answer, if one is kept, becomes the head (see `begin`)."""
        ...

    async def withdraw(
        self, owner: str, turn_id: str, *, head_id: str | None = None, title: str = ""
    ) -> None:
        """Take back a running turn, as if it had not been begun: its claim, its question, what was
        kept before that, and the conversation where the turn made it.

        A question that was there before stays. The head is `head_id` again, else the question's
        parent; `title` is taken from a conversation that is left empty.
        """
        ...

    async def turn(self, owner: str, turn_id: str) -> Turn: ...

    async def failed(self, owner: str, turn_ids: Collection[str]) -> Collection[str]:
        """Return those of these turns that failed; one that is not there did not."""
        ...

    async def next_turn(self, owner: str, conversation_id: str, after: str | None) -> Turn | None:
        """Return the turn begun next after the turn `after` (None: the first) in a conversation.

        One that was withdrawn still has its place, by its id.
        """
        ...

    async def last_turn(self, owner: str, conversation_id: str) -> Turn | None:
        """Return the turn that was begun last in a conversation."""
        ...

    async def search(
        self, owner: str, query: Query, *, limit: int, after: str | None = None
    ) -> Page[Hit]:
        """Return a page of what was found, best first, behind the hit on message `after`.

        What is unlisted is found where the query names its conversation.
        Raises NotFoundError where `after` is not, or no longer, among what is found.
        """
        ...

    async def summarise(self, owner: str, summary: Message) -> Message:
        """Keep a summary of all that stands above it; it moves no head and counts as no message."""
        ...

    async def summaries(self, owner: str, conversation_id: str, *, limit: int) -> Sequence[Message]:
        """Return the summaries of a conversation, those of the most messages first."""
        ...

    async def every_message(
        self, owner: str, conversation_id: str, *, after: str | None, limit: int
    ) -> Sequence[Message]:
        """Return messages of all branches behind `after`, a parent always before its children."""
        ...

    async def every_turn(
        self, owner: str, conversation_id: str, *, after: str | None, limit: int
    ) -> Sequence[Turn]:
        """Return turns behind the turn `after`, in the order in which they were begun."""
        ...

    async def put(
        self,
        owner: str,
        conversation: Conversation,
        messages: Sequence[Message],
        turns: Sequence[Turn],
    ) -> bool:
        """Keep what is not there yet of a conversation; return whether anything was kept.

        Messages come parent first. A new conversation is seen whole or not at all. One that is
        there keeps its title, system prompt and pin, and its head where it has one; what is much is
        added in steps that are each seen, and sound. Raises AlreadyExistsError for an id that
        stands twice, or in another conversation, and NotFoundError for a parent that does not
        stand before it, for a head, or where the conversation is deleted meanwhile.
        """
        ...

    async def keep_completion(self, owner: str, completion: Completion) -> None:
        """Keep a new completion."""
        ...

    async def completion(self, owner: str, completion_id: str) -> Completion: ...

    async def completions(
        self, owner: str, wanted: CompletionQuery, *, limit: int, after: str | None = None
    ) -> Page[Completion]:
        """Return a page of what is wanted, behind the completion `after`."""
        ...

    async def tag_completion(
        self, owner: str, completion_id: str, metadata: Mapping[str, str]
    ) -> Completion:
        """Put metadata in the place of what there was."""
        ...

    async def delete_completion(self, owner: str, completion_id: str) -> None: ...

    async def remember_objects(
        self, owner: str, objects: Sequence[UpstreamObject], now: int, under: str | None = None
    ) -> None:
        """Keep whose things at upstreams are; what is somebody's already stays theirs.

        They are forgotten with the owner's object `under`, where there is one.
        """
        ...

    async def own_objects(self, owner: str, ids: Collection[str]) -> Sequence[UpstreamObject]:
        """Return those of these ids that are the owner's, the first kept first."""
        ...

    async def has_objects(self, owner: str, kind: str) -> bool:
        """Say whether an owner has anything of a kind."""
        ...

    async def forget_object(self, owner: str, upstream: str, object_id: str) -> None:
        """Forget an object, and what was kept under it; one that is not there is no error."""
        ...

    async def object_owners(self) -> Sequence[str]:
        """Return everybody who has an object at an upstream; costs as many steps as there are."""
        ...

    async def spend(self, owner: str, tokens: int, now: int) -> None:
        """Add to the tokens that an owner has used on the day of `now`, in UTC."""
        ...

    async def spent(self, owner: str, since: int) -> int:
        """Return the tokens used since the beginning of the day of `since`.

        They are those of `spend` and of every turn on the day when it ended, and stay used where
        the turn is deleted. A turn without usage took what was sent and what was said; one that
        failed without a word took nothing.
        """
        ...

    async def lessons(self) -> Sequence[Lesson]:
        """Return what was learnt of models, the newest last."""
        ...

    async def learn(self, lesson: Lesson) -> None:
        """Keep a lesson in the place of an older one on the same model."""
        ...

    async def ping(self) -> None:
        """Do nothing, durably: raises UnavailableError where a write would not be kept."""
        ...

    async def close(self) -> None: ...
