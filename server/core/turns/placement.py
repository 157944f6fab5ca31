"""Where a caller that keeps a history of its own stands in the conversation that we keep."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from server.core.prompt.pairs import spoken
from storage.model import Content, Message, Role, Status, answer_of
from storage.port import NotFoundError, Store

#: How many messages of ours are looked at beyond as many as the caller sent.
BEYOND = 20
_NOTHING = {"type": "text", "text": ""}


@dataclass(frozen=True, slots=True)
class Utterance:
    """A message as its speaker said it."""

    role: Role
    content: Content
    #: what it says beside that; see storage.model.Message
    item: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Placement:
    """Where to go on: under `parent`, when `new` of what was said before is kept there too.

    Where the question stands there as well, unanswered or to be answered anew, `question` is it.
    """

    parent_id: str | None
    new: Sequence[Utterance] = ()
    question: Message | None = None


async def place(
    store: Store, owner: str, conversation_id: str, head_id: str | None, said: Sequence[Utterance]
) -> Placement:
    """Find what is new in all that a caller sends, whose last message is the question.

    A caller that sends answers along sends its history again: what of it stands in the branch of
    the head is found there, from wherever it begins, and the rest is new, a branch of its own
    where an older message was edited. One that sends none sends only what is new, unless it
    repeats a question that has no answer yet, or one that broke off.
    """
    if head_id is None:
        return Placement(None, said[:-1])
    branch = await store.branch(owner, conversation_id, head_id, limit=len(said) + BEYOND)
    ours = [message for message in reversed(branch) if message.stands_for is None]
    resent = any(one.role is Role.ASSISTANT for one in said)
    if not resent and ours and await _broke_off(store, owner, ours[-1]):
        ours.pop()
    end, known = _longest(ours, said) if resent else _at_the_end(ours, said)
    if known == len(said):
        question = ours[end - 1]
        return Placement(question.parent_id, question=question)
    parent = ours[end - 1].id if known else head_id
    return Placement(parent, said[known:-1])


async def _broke_off(store: Store, owner: str, last: Message) -> bool:
    """Say whether a message is an answer that did not come to its end: who asks anew means that."""
    if last.role is not Role.ASSISTANT or last.turn_id is None:
        return False
    try:
        turn = await store.turn(owner, last.turn_id)
    except NotFoundError:  # an imported one
        return False
    return turn.status in (Status.FAILED, Status.INTERRUPTED)


def _longest(ours: Sequence[Message], said: Sequence[Utterance]) -> tuple[int, int]:
    """Return where in `ours` the longest beginning of `said` ends, the latest, and its length.

    Knuth, Morris and Pratt's search: its cost is the sum of both, whatever stands in them.
    """
    wanted = [_key(one) for one in said]
    falls, known = [0], 0
    for key in wanted[1:]:
        while known and wanted[known] != key:
            known = falls[known - 1]
        known += wanted[known] == key
        falls.append(known)
    best, known = (0, 0), 0
    for end, mine in enumerate(map(_key, ours), 1):
        while known and (known == len(wanted) or wanted[known] != mine):
            known = falls[known - 1]
        known += wanted[known] == mine
        if known and known >= best[1]:
            best = end, known
    return best


def _at_the_end(ours: Sequence[Message], said: Sequence[Utterance]) -> tuple[int, int]:
    last = ours[len(ours) - len(said) :] if len(said) <= len(ours) else ()
    same = bool(last) and list(map(_key, last)) == list(map(_key, said))
    return (len(ours), len(said)) if same else (0, 0)


def same(one: Message | Utterance, other: Message | Utterance) -> bool:
    """Say whether two messages say the same, however they were written down."""
    return _key(one) == _key(other)


def _key(one: Message | Utterance) -> tuple[Role, str | list[Mapping[str, Any]]]:
    return one.role, _plain(one.content)


def _plain(content: Content) -> str | list[Mapping[str, Any]]:
    """Return a content such that what says the same is equal: detail and white space are not."""
    match spoken(content):
        case str() as text:
            return text.strip()
        case [{"type": "text", "text": str(text), **more}] if not more:
            return text.strip()
        case parts:
            said = [_part(part) for part in parts if part != _NOTHING]
            # A client tells calls in a field of their own, wherever they stood.
            return _joined(sorted(said, key=lambda part: "call" in part))


def _joined(parts: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return parts with neighbours of text as one: of an answer a client tells one text."""
    joined: list[Mapping[str, Any]] = []
    for is_text, run in groupby(parts, key=lambda part: part.keys() == _NOTHING.keys()):
        texts = list(run)
        joined += [{"type": "text", "text": answer_of(texts).strip()}] if is_text else texts
    return joined


def _part(part: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a part such that what says the same is equal; of a call, what is called with what."""
    match part:
        case {"type": "function", "function": {"name": name, **more}}:
            return {"call": part.get("id"), "name": name, "with": _json(more.get("arguments"))}
        case {"type": "custom", "custom": {"name": name, **more}}:
            return {"call": part.get("id"), "name": name, "with": more.get("input")}
        case _:
            return {name: value for name, value in part.items() if value is not None}


def _json(arguments: object) -> object:
    """Return JSON as everybody would write it; clients read arguments and write them anew."""
    if not isinstance(arguments, str):
        return arguments
    try:
        return json.dumps(json.loads(arguments), sort_keys=True)
    except (ValueError, RecursionError):
        return arguments
