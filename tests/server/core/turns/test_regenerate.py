"""Tests of other answers to the same question."""

from __future__ import annotations

import asyncio

import pytest

from server.core.conversations import Ask, Conversations, IfBusy, Regenerate
from server.core.errors import InvalidRequestError
from storage.port import BusyError, NotFoundError
from tests.server.core.following import (
    asked,
    branch,
    ended,
)
from tests.storage.nouns import ADA, BOB
from tests.support.fakes import Parrot, Puppet


async def test_another_answer_is_a_sibling(parroted: Conversations, parrot: Parrot) -> None:
    first = await asked(parroted, "1")
    last = await asked(parroted, "2")
    again = await ended(parroted, await parroted.regenerate(ADA, "c", Regenerate()))
    assert (again.question_id, again.parent_id) == (last.question_id, first.answer_id)
    assert parrot.prompts[-1].messages == parrot.prompts[-2].messages
    kept = await branch(parroted)
    assert kept[-1].id == again.answer_id
    assert kept[-1].siblings == (last.answer_id, again.answer_id)


@pytest.mark.parametrize("by", ["question", "answer"])
async def test_an_earlier_question_is_answered_again_without_what_came_later(
    parroted: Conversations, parrot: Parrot, by: str
) -> None:
    first = await asked(parroted, "1")
    await asked(parroted, "2")
    named = first.question_id if by == "question" else first.answer_id
    how = Regenerate(named, model="gpt-4", max_tokens=9, temperature=1.5)
    again = await ended(parroted, await parroted.regenerate(ADA, "c", how))
    assert (again.question_id, again.model) == (first.question_id, "gpt-4")
    prompt = parrot.prompts[-1]
    assert [str(m.content) for m in prompt.messages] == ["1"]
    assert (prompt.max_tokens, prompt.temperature) == (9, 1.5)
    assert (await parroted.get(ADA, "c")).head_id == again.answer_id


async def test_a_question_whose_answer_never_came_is_answered_again(
    conversations: Conversations, upstream: Puppet
) -> None:
    turn = await conversations.ask(ADA, "c", Ask("Hello"))
    await conversations.cancel(ADA, turn.id)
    before = len(upstream.prompts)
    again = await conversations.regenerate(ADA, "c", Regenerate())
    await upstream.asked(before + 1)
    upstream.answer("Hi")
    assert (await ended(conversations, again)).question_id == turn.question_id


async def test_another_answer_waits_its_turn_or_is_refused(
    conversations: Conversations, upstream: Puppet
) -> None:
    turn = await conversations.ask(ADA, "c", Ask("Hello"))
    with pytest.raises(BusyError):
        await conversations.regenerate(ADA, "c", Regenerate(if_busy=IfBusy.REJECT))
    again = asyncio.create_task(conversations.regenerate(ADA, "c", Regenerate()))
    upstream.answer("Hi").answer("Hi again")
    await ended(conversations, turn)
    assert (await ended(conversations, await again)).question_id == turn.question_id


async def test_nothing_can_be_answered_again_where_nothing_was_asked(
    conversations: Conversations,
) -> None:
    with pytest.raises(NotFoundError):
        await conversations.regenerate(ADA, "c", Regenerate())
    await conversations.create(ADA, id="c")
    with pytest.raises(InvalidRequestError):
        await conversations.regenerate(ADA, "c", Regenerate())
    with pytest.raises(NotFoundError):
        await conversations.regenerate(ADA, "c", Regenerate("nowhere"))
    with pytest.raises(NotFoundError):
        await conversations.regenerate(BOB, "c", Regenerate())
