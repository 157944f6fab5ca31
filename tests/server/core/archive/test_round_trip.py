"""What is exported and imported again is what it was."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from server.core import validation
from storage.model import (
    ContextUse,
    Conversation,
    Failure,
    Message,
    Role,
    Status,
    Turn,
    Usage,
)
from storage.sqlite.store import SQLiteStore
from tests.server.core.archive.files import OWNERS, everything, exported, imported

LETTERS = st.characters(codec="utf-8", exclude_characters="\x00")
TEXTS = st.text(LETTERS, max_size=12)
TIMES = st.integers(0, 253_402_300_799_999_999)
NUMBERS = st.integers(0, (1 << 63) - 1)
IDS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:~-]{0,20}", fullmatch=True).filter(
    lambda id_: id_ != "new"
)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda of: st.lists(of, max_size=3) | st.dictionaries(TEXTS, of, max_size=3),
    max_leaves=6,
)
PART = (
    st.builds(lambda text: {"type": "text", "text": text}, TEXTS)
    | st.builds(lambda url: {"type": "image_url", "image_url": {"url": url}}, TEXTS)
    | st.dictionaries(TEXTS, JSON, max_size=3).map(lambda part: {**part, "type": "of_tomorrow"})
)
LOOK = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]
OFFERED = [{}, {"reasoning_effort": "low"}, {"tools": LOOK, "tool_choice": "required"}]
ENDED = [status for status in Status if status is not Status.RUNNING]


@st.composite
def messages(draw: st.DrawFn, id_: str) -> list[Message]:
    ids = draw(st.lists(IDS, unique=True, max_size=8))
    return [
        Message(
            id=one,
            conversation_id=id_,
            parent_id=draw(st.sampled_from([None, *ids[:place]])),
            role=draw(st.sampled_from(Role)),
            content=draw(TEXTS | st.lists(PART, max_size=3)),
            tokens=draw(NUMBERS),
            encoding=draw(st.sampled_from(["o200k_base", "gpt2"])),
            model=draw(st.none() | TEXTS),
            turn_id=draw(st.none() | IDS),
            created_at=draw(TIMES),
            stands_for=draw(st.none() | NUMBERS),
        )
        for place, one in enumerate(ids)
    ]


def _sent(draw: Any) -> ContextUse:
    window, budget, tokens, included, trimmed = (draw(NUMBERS) for _ in range(5))
    counted = draw(st.sampled_from((None, "exact", "upstream", "learnt", "guessed")))
    known = draw(st.sampled_from((None, True, False)))
    return ContextUse(window, budget, tokens, included, trimmed, counted, known)


@st.composite
def turns(draw: st.DrawFn, id_: str, of: list[Message]) -> list[Turn]:
    return [
        Turn(
            id=one,
            conversation_id=id_,
            status=draw(st.sampled_from(ENDED)),
            model=draw(TEXTS),
            parent_id=None,
            question_id=draw(st.sampled_from(of)).id,
            answer_id=draw(st.none() | st.sampled_from(of).map(lambda message: message.id)),
            answer="",
            context=_sent(draw),
            created_at=draw(TIMES),
            finish_reason=draw(st.none() | TEXTS),
            usage=draw(st.none() | st.builds(Usage, NUMBERS, NUMBERS)),
            error=draw(st.none() | st.builds(Failure, TEXTS, TEXTS, st.none() | NUMBERS)),
            ended_at=draw(st.none() | TIMES),
            drift=draw(st.none() | st.integers(1 - (1 << 63), (1 << 63) - 1)),
            options=draw(st.sampled_from(OFFERED)),
        )
        for one in draw(st.lists(IDS, unique=True, max_size=3 if of else 0))
    ]


@st.composite
def conversations(draw: st.DrawFn) -> tuple[Conversation, list[Message], list[Turn]]:
    id_ = draw(IDS)
    said = draw(messages(id_))
    there = Conversation(
        id=id_,
        title=draw(st.text(LETTERS, max_size=validation.LONGEST_TITLE)),
        system_prompt=draw(st.none() | TEXTS),
        model=draw(st.none() | TEXTS),
        metadata=draw(st.dictionaries(TEXTS, JSON, max_size=3)),
        created_at=draw(TIMES),
        updated_at=draw(TIMES),
        head_id=draw(st.sampled_from([message.id for message in said])) if said else None,
        truncation=draw(st.sampled_from(["trim", "summarize"])),
    )
    return there, said, draw(turns(id_, said))


WHOLE = st.lists(conversations(), max_size=3, unique_by=lambda one: one[0].id)


def apart(whole: list[Any]) -> list[Any]:
    """Leave out what shares an id with something before it: ids are unique for an owner."""
    taken: set[str] = set()
    kept = []
    for there, said, begun in whole:
        ids = {one.id for one in (*said, *begun)}
        if not ids & taken:
            kept.append((there, said, begun))
            taken |= ids
    return kept


@settings(
    deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(WHOLE)
async def test_everything_comes_back_as_it_was(store: SQLiteStore, whole: list[Any]) -> None:
    here, there = next(OWNERS), next(OWNERS)
    kept = apart(whole)
    for conversation, said, begun in kept:
        await store.put(here, conversation, said, begun)
    file = await exported(store, owner=here)
    report = await imported(store, file, owner=there)
    assert (report.imported, report.failed, report.dropped) == (len(kept), [], {})
    for conversation, _, _ in kept:
        one = await store.conversation(here, conversation.id)
        assert await store.conversation(there, conversation.id) == one
        assert await everything(store, there, one.id) == await everything(store, here, one.id)
    assert await exported(store, owner=there) == file
    again = await imported(store, file, owner=there)
    assert (again.imported, again.unchanged) == (0, len(kept))
    assert await exported(store, owner=there) == file


async def test_a_conversation_of_many_pages(store: SQLiteStore) -> None:
    ids = [f"m{number}" for number in range(1_201)]
    said = [
        Message(id_, "c", above, Role.USER, id_, 1, "gpt2", None, None, place)
        for place, (above, id_) in enumerate(zip([None, *ids], ids, strict=False))
    ]
    there = Conversation("c", "Many", None, None, {}, 0, 0, head_id=ids[-1])
    sent = ContextUse(1, 1, 1, 1, 0)
    begun = [
        Turn(f"t{n}", "c", Status.COMPLETED, "m", None, ids[n], None, "", sent, n)
        for n in range(1_001)
    ]
    await store.put("anna", there, said, begun)
    file = await exported(store)
    assert (await imported(store, file, owner="bob")).imported == 1
    assert await everything(store, "bob", "c") == await everything(store, "anna", "c")
    lines = await exported(store, "jsonl")
    assert lines.count(b'"role"') == 1_201
    headings = [line for line in (await exported(store, "markdown")).split() if line[:1] == b"m"]
    assert headings == [id_.encode() for id_ in ids]


async def test_what_is_running_is_exported_as_it_stands(store: SQLiteStore) -> None:
    question = Message("q", "c", None, Role.USER, "Why?", 1, "gpt2", None, "t", 3)
    there = Conversation("c", "", None, None, {}, 1, 2)
    turn = Turn("t", "c", Status.RUNNING, "m", None, "q", None, "", ContextUse(1, 1, 1, 1, 0), 3)
    await store.begin("anna", turn, question, conversation=there, title="Why?")
    file = await exported(store, conversation_id="c")
    report = await imported(store, file, owner="bob")
    assert (report.imported, report.failures) == (1, 0)
    (kept,) = (await everything(store, "bob", "c"))[1]
    assert kept == replace(turn, status=Status.INTERRUPTED, ended_at=3)
