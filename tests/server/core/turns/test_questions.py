"""Tests of what a question may say and name, and that a refused one leaves no trace."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from server.app.core import core_of
from server.core.conversations import ROOT, Ask, Conversations, Regenerate
from server.core.errors import InvalidRequestError
from server.core.turns.plan import Defaults
from storage.port import NotFoundError
from storage.sqlite.store import SQLiteStore
from tests.server.core.following import (
    asked,
    branch,
    gathered,
)
from tests.storage.nouns import ADA
from tests.support.fakes import Parrot, Puppet


async def test_the_first_ask_may_give_a_system_prompt(
    conversations: Conversations, upstream: Puppet
) -> None:
    upstream.answer("Hi").answer("Hi")
    await asked(conversations, Ask("Hello", system_prompt="Be brief."))
    await asked(conversations, Ask("Again", system_prompt="Be brief."))
    assert [prompt.messages[0].content for prompt in upstream.prompts] == ["Be brief."] * 2
    with pytest.raises(InvalidRequestError) as refused:
        await conversations.ask(ADA, "c", Ask("Third", system_prompt="Be long."))
    assert refused.value.param == "system_prompt"
    assert (await conversations.get(ADA, "c")).message_count == 4


async def test_a_changed_system_prompt_is_sent_from_then_on(
    conversations: Conversations, upstream: Puppet
) -> None:
    upstream.answer("Hi").answer("Hi").answer("Hi")
    await conversations.create(ADA, id="c", system_prompt="One")
    await asked(conversations, Ask("Hello", system_prompt="Two"))
    await conversations.update(ADA, "c", {"system_prompt": "Three"})
    await asked(conversations, "Again")
    await conversations.update(ADA, "c", {"system_prompt": None})
    await asked(conversations, "Again")
    assert [str(p.messages[0].content) for p in upstream.prompts] == ["Two", "Three", "Hello"]


async def test_conversations_that_name_nothing_use_the_defaults(
    store: SQLiteStore, upstream: Puppet
) -> None:
    defaults = Defaults("gpt-4", system_prompt="Default.")
    async with core_of(store, upstream, defaults) as conversations:
        upstream.answer("Hi").answer("Hi").answer("Hi")
        await asked(conversations, "Hello", into="plain")
        await asked(conversations, Ask("Hello", model="gpt-4o", system_prompt="Own."), into="own")
        await asked(conversations, "Again", into="own")
    told = [(prompt.model, prompt.messages[0].content) for prompt in upstream.prompts]
    assert told == [("gpt-4", "Default."), ("gpt-4o", "Own."), ("gpt-4o", "Own.")]


async def test_how_to_answer_is_passed_on(conversations: Conversations, upstream: Puppet) -> None:
    upstream.answer("Hi")
    how: dict[str, Any] = {
        "max_tokens": 5,
        "temperature": 0.5,
        "top_p": 0.9,
        "seed": 7,
        "stop": ("\n",),
    }
    turn = await asked(conversations, Ask("Hello", model="gpt-4", **how))
    (prompt,) = upstream.prompts
    assert {name: getattr(prompt, name) for name in how} == how
    assert prompt.model == turn.model == "gpt-4"


async def test_a_parent_is_the_head_the_root_or_any_message(parroted: Conversations) -> None:
    first = await asked(parroted, "1")
    second = await asked(parroted, "2")
    assert second.parent_id == first.answer_id
    beside = await asked(parroted, Ask("3", parent_id=first.answer_id))
    assert [m.content for m in await branch(parroted)] == ["1", "1 ", "3", "3 "]
    fresh = await asked(parroted, Ask("4", parent_id=ROOT))
    assert fresh.parent_id is None
    assert [m.content for m in await branch(parroted)] == ["4", "4 "]
    under_a_question = await asked(parroted, Ask("5", parent_id=beside.question_id))
    assert under_a_question.parent_id == beside.question_id
    assert [m.content for m in await branch(parroted)] == ["1", "1 ", "3", "5", "3 5 "]


async def test_only_the_branch_asked_under_is_sent(parroted: Conversations, parrot: Parrot) -> None:
    first = await asked(parroted, "1")
    await asked(parroted, "2")
    await asked(parroted, Ask("3", parent_id=first.answer_id))
    assert [str(m.content) for m in parrot.prompts[-1].messages] == ["1", "1 ", "3"]


@pytest.mark.parametrize("parent", ["nowhere", "", "c", "elsewhere"])
async def test_an_unknown_parent_leaves_no_trace(parroted: Conversations, parent: str) -> None:
    elsewhere = await asked(parroted, "Hello", into="other")
    parent = str(elsewhere.answer_id) if parent == "elsewhere" else parent
    for into in ("c", "not-there"):
        await asked(parroted, "Hello") if into == "c" else None
        with pytest.raises(NotFoundError):
            await parroted.ask(ADA, into, Ask("Hello", parent_id=parent))
    assert (await parroted.get(ADA, "c")).message_count == 2
    with pytest.raises(NotFoundError):
        await parroted.get(ADA, "not-there")


@pytest.mark.parametrize(
    "bad",
    [
        Ask(""),
        Ask("\ud800"),
        Ask("a\x00"),
        Ask([]),
        Ask("Hello", temperature=3),
        Ask("Hello", model="\n"),
        Ask("Hello", system_prompt="\ud800"),
    ],
    ids=range(7),
)
async def test_a_refused_question_leaves_no_trace(conversations: Conversations, bad: Ask) -> None:
    with pytest.raises(InvalidRequestError):
        await conversations.ask(ADA, "c", bad)
    with pytest.raises(NotFoundError):
        await conversations.get(ADA, "c")
    assert conversations.running == 0


@pytest.mark.parametrize("bad", ["a b", "../x", "x" * 129, "é", "\ud800", ".x"])
async def test_a_bad_conversation_id_is_refused(conversations: Conversations, bad: str) -> None:
    with pytest.raises(InvalidRequestError):
        await conversations.ask(ADA, bad, Ask("Hello"))


Call = Callable[[Conversations, str], Awaitable[Any]]
NAMED_BY_CALLERS: dict[str, Call] = {
    "parent": lambda c, name: c.ask(ADA, "c", Ask("Hello", parent_id=name)),
    "parent with key": lambda c, name: c.ask(
        ADA, "c", Ask("Hello", parent_id=name, idempotency_key="k")
    ),
    "regenerate": lambda c, name: c.regenerate(ADA, "c", Regenerate(name)),
    "regenerate in": lambda c, name: c.regenerate(ADA, name, Regenerate()),
    "turn": lambda c, name: c.turn(ADA, name),
    "cancel": lambda c, name: c.cancel(ADA, name),
    "follow": lambda c, name: gathered(c.follow(ADA, name)),
    "watch after": lambda c, name: anext(c.watch(ADA, "c", after=(name, 0))),
    "head": lambda c, name: c.update(ADA, "c", {"head_id": name}),
    "leaf": lambda c, name: c.messages(ADA, "c", leaf=name),
    "before": lambda c, name: c.messages(ADA, "c", before=name),
    "after": lambda c, name: c.page(ADA, after=name),
}


@pytest.mark.parametrize("call", NAMED_BY_CALLERS)
@pytest.mark.parametrize("name", ["\ud800", "a\x00", "nowhere", "x" * 9_999, "'; DROP TABLE c"])
async def test_whatever_a_caller_names_is_refused_or_not_found(
    parroted: Conversations, call: str, name: str
) -> None:
    await asked(parroted, "Hello")
    with pytest.raises((InvalidRequestError, NotFoundError)):
        await NAMED_BY_CALLERS[call](parroted, name)
