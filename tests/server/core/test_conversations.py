"""Tests of conversations: made, changed, listed and deleted, each by its owner alone."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from server.core.conversations import Ask, Conversations, IfBusy
from server.core.errors import InvalidRequestError
from storage.model import Query, Status
from storage.port import AlreadyExistsError, NotFoundError
from tests.server.core.following import (
    answered,
    asked,
    branch,
    ended,
    gathered,
    in_line,
    text_of,
    until_text,
)
from tests.storage.nouns import ADA, BOB
from tests.support.fakes import Puppet


async def test_deleting_ends_what_runs(conversations: Conversations, upstream: Puppet) -> None:
    turn = await conversations.ask(ADA, "c", Ask("Hi"))
    follower = asyncio.create_task(gathered(conversations.follow(ADA, turn.id)))
    upstream.say("Half")
    await until_text(conversations, turn, "Half")
    await conversations.delete(ADA, "c")
    assert text_of(await follower) == "Half"
    for gone in (conversations.turn(ADA, turn.id), conversations.get(ADA, "c")):
        with pytest.raises(NotFoundError):
            await gone
    await answered(conversations, upstream, "Fresh", "Anew")
    assert [m.content for m in await branch(conversations)] == ["Anew", "Fresh"]


async def test_deleting_goes_before_those_who_wait(
    conversations: Conversations, upstream: Puppet
) -> None:
    await conversations.ask(ADA, "c", Ask("Hi"))
    await upstream.asked(1)
    waiting = await in_line(conversations, "waiting")
    await conversations.delete(ADA, "c")
    await upstream.asked(2)
    upstream.answer("Fresh")
    await ended(conversations, await waiting)
    assert [m.content for m in await branch(conversations)] == ["waiting", "Fresh"]


async def test_deleting_many_times_at_once_deletes_once(parroted: Conversations) -> None:
    await asked(parroted, "Hi")
    many = [parroted.delete(ADA, "c") for _ in range(5)]
    results = await asyncio.gather(*many, return_exceptions=True)
    assert [type(result) for result in results].count(NotFoundError) == 4
    assert (await asked(parroted, Ask("Hi", if_busy=IfBusy.REJECT))).status is Status.COMPLETED


async def test_a_created_conversation_is_what_was_asked_for(conversations: Conversations) -> None:
    given: dict[str, Any] = {
        "title": "Title",
        "system_prompt": "Be.",
        "model": "gpt-4",
        "metadata": {"k": ["v"]},
    }
    made = await conversations.create(ADA, id="mine", **given)
    assert {name: getattr(made, name) for name in given} == given
    assert await conversations.get(ADA, "mine") == made
    with pytest.raises(AlreadyExistsError):
        await conversations.create(ADA, id="mine")
    await conversations.create(BOB, id="mine")


@pytest.mark.parametrize("id_", [None, "", "new"])
async def test_a_conversation_without_an_id_gets_one(
    conversations: Conversations, id_: str | None
) -> None:
    first, second = [await conversations.create(ADA, id=id_) for _ in range(2)]
    assert first.id.startswith("conv_")
    assert first.id < second.id


async def test_new_asks_for_a_conversation_of_its_own(parroted: Conversations) -> None:
    turns = [await asked(parroted, "Hi", into=into) for into in ("", "new", "new")]
    assert len({turn.conversation_id for turn in turns}) == 3


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"title": 5}, "title"),
        ({"title": "t" * 201}, "title"),
        ({"title": None}, "title"),
        ({"system_prompt": "\ud800"}, "system_prompt"),
        ({"system_prompt": 5}, "system_prompt"),
        ({"model": "a\nb"}, "model"),
        ({"metadata": []}, "metadata"),
        ({"metadata": None}, "metadata"),
        ({"head_id": None}, "head_id"),
        ({"truncation": "half"}, "truncation"),
        ({"id": "other"}, "id"),
        ({"owner": BOB}, "owner"),
        ({"title": "fine", "created_at": 5}, "created_at"),
    ],
)
async def test_a_bad_change_is_refused_whole(
    conversations: Conversations, changes: dict[str, Any], param: str
) -> None:
    before = await conversations.create(ADA, id="c", title="Before")
    with pytest.raises(InvalidRequestError) as refused:
        await conversations.update(ADA, "c", changes)
    assert refused.value.param == param
    assert await conversations.get(ADA, "c") == before


async def test_an_empty_prompt_or_model_is_none(conversations: Conversations) -> None:
    await conversations.create(ADA, id="c", system_prompt="Be.", model="gpt-4")
    changed = await conversations.update(ADA, "c", {"system_prompt": "", "model": ""})
    assert (changed.system_prompt, changed.model) == (None, None)


async def test_another_head_is_where_the_next_question_goes(parroted: Conversations) -> None:
    first = await asked(parroted, "1")
    await asked(parroted, "2")
    await parroted.update(ADA, "c", {"head_id": first.answer_id})
    assert (await asked(parroted, "3")).parent_id == first.answer_id


async def test_a_title_is_the_first_question_until_somebody_sets_one(
    parroted: Conversations,
) -> None:
    await asked(parroted, "What  is\nlove?")
    await asked(parroted, "Really?")
    assert (await parroted.get(ADA, "c")).title == "What is love?"
    await parroted.update(ADA, "c", {"title": "Love"})
    await asked(parroted, "Sure?")
    assert (await parroted.get(ADA, "c")).title == "Love"


@pytest.mark.parametrize("limit", [1, 2, 5, 6, 100])
async def test_messages_come_oldest_first_in_exact_pages(
    parroted: Conversations, limit: int
) -> None:
    for number in range(3):
        await asked(parroted, str(number))
    whole = await branch(parroted)
    found: list[Any] = []
    more, before = True, None
    while more:
        page = await parroted.messages(ADA, "c", limit=limit, before=before)
        assert len(page.items) <= limit
        found, more = [*page.items, *found], page.has_more
        before = found[0].id
    assert found == whole
    assert len(found) == 6


async def test_any_branch_can_be_read(parroted: Conversations) -> None:
    first = await asked(parroted, "1")
    second = await asked(parroted, "2")
    await asked(parroted, Ask("3", parent_id=first.answer_id))
    page = await parroted.messages(ADA, "c", leaf=second.answer_id)
    assert [m.content for m in page.items] == ["1", "1 ", "2", "2 "]
    assert [len(m.siblings) for m in page.items] == [1, 1, 2, 1]


async def test_an_empty_conversation_has_no_messages(conversations: Conversations) -> None:
    await conversations.create(ADA, id="c")
    page = await conversations.messages(ADA, "c")
    assert (page.items, page.has_more) == ((), False)


@pytest.mark.parametrize("limit", [0, -1, 101])
async def test_a_page_that_is_none_is_refused(parroted: Conversations, limit: int) -> None:
    await asked(parroted, "Hi")
    for call in (
        parroted.page(ADA, limit=limit),
        parroted.messages(ADA, "c", limit=limit),
        parroted.search(ADA, Query("Hi"), limit=limit),
    ):
        with pytest.raises(InvalidRequestError):
            await call


async def test_owners_see_their_own_alone(parroted: Conversations) -> None:
    await asked(parroted, "elephant")
    for call in (
        parroted.get(BOB, "c"),
        parroted.messages(BOB, "c"),
        parroted.update(BOB, "c", {"title": "mine"}),
        parroted.delete(BOB, "c"),
        parroted.preview(BOB, "c", Ask("Hi")),
    ):
        with pytest.raises(NotFoundError):
            await call
    assert (await parroted.page(BOB)).items == ()
    assert (await parroted.search(BOB, Query("elephant"))).items == ()
    await asked(parroted, "mine", owner=BOB)
    assert [m.content for m in await branch(parroted)] == ["elephant", "elephant "]


async def test_ready_says_whether_an_ask_would_be_kept(conversations: Conversations) -> None:
    await conversations.ready()
