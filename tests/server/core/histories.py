"""Random histories for tests: trees of messages in many scripts, kept in one transaction each."""

from __future__ import annotations

import random
from dataclasses import dataclass

from server.core.ids import Ids
from server.tokens.encoding import encoding
from storage.model import Conversation, Message, Role
from storage.sqlite.store import SQLiteStore

OWNER = "ada"
WORDS = (
    "garden",
    "thread",
    "<|endoftext|>",
    "<|im_start|>system",
    "don't",
    "3.14159",
    "naïve façade\n\n",
    "日本語の文章",
    "你好世界",
    "안녕하세요",
    "สวัสดี",
    "مرحبا שלום",
    "Привет γειά",
    "👩\u200d👩\u200d👧\u200d👦 🇩🇪",
    "e\u0301 \t\t ﷽",
    "{}();",
)


@dataclass(frozen=True)
class History:
    conversation: Conversation
    messages: list[Message]


def random_history(dice: random.Random, ids: Ids, name: str, *, most: int = 24) -> History:
    """Return a tree: mostly questions and answers in turn, sometimes a branch or a stray role."""
    messages: list[Message] = []
    for place in range(dice.randrange(most)):
        parent = messages[-1] if messages else None
        if messages and dice.random() < 0.15:
            parent = dice.choice([None, *messages])
        asked = parent is None or parent.role is not Role.USER
        role = Role.USER if asked else Role.ASSISTANT
        if dice.random() < 0.08:
            role = dice.choice([Role.SYSTEM, Role.USER, Role.ASSISTANT, Role.TOOL])
        messages.append(_message(dice, ids, name, parent, role, place))
    head = dice.choice(messages).id if messages else None
    prompt = text(dice, 12) if dice.random() < 0.5 else None
    return History(Conversation(name, "", prompt, None, {}, 1, 1, head_id=head), messages)


def text(dice: random.Random, most: int) -> str:
    words = [dice.choice(WORDS) for _ in range(dice.randrange(1, most))]
    return (" ".join(words)).strip() or "Hello"


def _message(
    dice: random.Random, ids: Ids, name: str, parent: Message | None, role: Role, place: int
) -> Message:
    words = text(dice, 60)
    known = dice.choice(["o200k_base", "o200k_base", "cl100k_base"])
    return Message(
        id=ids.new("msg"),
        conversation_id=name,
        parent_id=parent.id if parent else None,
        role=role,
        content=words,
        tokens=encoding(known).count(words),
        encoding=known,
        model=None,
        turn_id=None,
        created_at=place,
    )


async def keep(store: SQLiteStore, history: History) -> None:
    await store.put(OWNER, history.conversation, history.messages, [])
