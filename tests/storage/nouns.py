"""Nouns for tests of a store: an exchange named "1" is turn_1, its question q_1, its answer a_1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from storage.model import Content, ContextUse, Conversation, Message, Role, Status, Turn
from storage.port import Claim, Outcome, Store

ADA, BOB = "ada", "bob"
#: The place of her conversation of that id.
HERE = ADA, "c"
CONTEXT = ContextUse(
    window=100, budget=80, prompt_tokens=7, messages_included=1, messages_trimmed=0
)
DAY = 24 * 3600 * 1_000_000


def conversation(id: str = "c", at: int = 1, **fields: Any) -> Conversation:  # noqa: A002
    blank: dict[str, Any] = {"title": "", "system_prompt": None, "model": None, "metadata": {}}
    return Conversation(id=id, created_at=at, updated_at=at, **{**blank, **fields})


def message(
    id: str,  # noqa: A002
    parent: str | None = None,
    role: Role = Role.USER,
    content: Content = "Hello",
    tokens: int = 1,
    **fields: Any,
) -> Message:
    usual: dict[str, Any] = {
        "conversation_id": "c",
        "encoding": "o200k_base",
        "model": None,
        "turn_id": None,
        "created_at": 1,
    }
    given = {"id": id, "parent_id": parent, "role": role, "content": content, "tokens": tokens}
    return Message(**{**usual, **given, **fields})


def turn(name: str, conversation_id: str = "c", question: str | None = None) -> Turn:
    return Turn(
        id=f"turn_{name}",
        conversation_id=conversation_id,
        status=Status.RUNNING,
        model="gpt-4o",
        parent_id=None,
        question_id=question or f"q_{name}",
        answer_id=None,
        answer="",
        context=CONTEXT,
        created_at=5,
    )


def outcome(
    name: str, text: str = "Hi", status: Status = Status.COMPLETED, **fields: Any
) -> Outcome:
    usual: dict[str, Any] = {"tokens": 2, "encoding": "o200k_base", "ended_at": 9}
    return Outcome(status=status, text=text, answer_id=f"a_{name}", **{**usual, **fields})


def claim(key: str = "key", fingerprint: bytes = b"same", now: int = DAY) -> Claim:
    return Claim(key, fingerprint, now)


async def begin(
    store: Store,
    name: str = "1",
    *,
    owner: str = ADA,
    into: str = "c",
    parent: str | None = None,
    content: Content = "Hello",
    title: str = "",
    claim: Claim | None = None,
) -> Turn:
    """Begin a turn with a question of its own; make its conversation where there is none."""
    question = message(
        f"q_{name}", parent, content=content, conversation_id=into, turn_id=f"turn_{name}"
    )
    new = conversation(into)
    return await store.begin(
        owner, turn(name, into), question, conversation=new, title=title, claim=claim
    )


async def exchange(
    store: Store,
    name: str = "1",
    *,
    owner: str = ADA,
    into: str = "c",
    parent: str | None = None,
    content: Content = "Hello",
) -> Turn:
    """Begin a turn and end it."""
    await begin(store, name, owner=owner, into=into, parent=parent, content=content)
    return await store.end(owner, f"turn_{name}", outcome(name))


async def chain(store: Store, names: Sequence[str], *, owner: str = ADA, into: str = "c") -> None:
    """Keep one exchange under the other."""
    parent = None
    for name in names:
        await exchange(store, name, owner=owner, into=into, parent=parent)
        parent = f"a_{name}"


def line(count: int, into: str = "c", content: Content = "elephant") -> list[Message]:
    """Return messages of which each stands under the one before; into "c" they are c0, c1..."""
    return [
        message(
            f"{into}{n}", f"{into}{n - 1}" if n else None, content=content, conversation_id=into
        )
        for n in range(count)
    ]


def whole(name: str, count: int) -> tuple[Conversation, list[Message]]:
    """Return a conversation of one line, whose last message is its head."""
    said = line(count, f"{name}_")
    said = [replace(one, conversation_id=name) for one in said]
    return conversation(name, head_id=said[-1].id), said
