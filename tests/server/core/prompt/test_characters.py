"""Characters: they are told something, greet first, and stay who they are."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from server.app.core import core_of
from server.core.conversations import Ask, Conversations, Defaults, IfBusy, Mode, Regenerate
from server.core.errors import InvalidRequestError
from server.core.prompt.alternate import GREETED
from server.core.prompt.characters import Character, Characters
from server.core.prompt.compose import CountingSettings
from storage.model import Role, Status
from storage.port import NotFoundError
from storage.sqlite.store import SQLiteStore
from tests.server.core.following import asked, branch, ended
from tests.storage.nouns import ADA
from tests.support.fakes import Parrot, Puppet

CAST = {
    "Pirate": Character("You are a pirate.", "Arr, who goes there?", "gpt-4"),
    "mute": Character("Say little."),
    "polite": Character(greeting="Good day."),
}


@pytest.fixture
async def core(store: SQLiteStore, parrot: Parrot) -> AsyncIterator[Conversations]:
    defaults = Defaults("gpt-4o", "Be kind.", characters=Characters(CAST))
    async with core_of(store, parrot, defaults) as opened:
        yield opened


async def test_a_character_greets_in_a_new_conversation(
    core: Conversations, parrot: Parrot
) -> None:
    done = await asked(core, Ask("It is me", character="pirate"))
    there = await core.get(ADA, "c")
    assert (there.system_prompt, there.model, done.model) == ("You are a pirate.", "gpt-4", "gpt-4")
    assert (there.title, there.message_count) == ("It is me", 3)
    said = [(one.role, one.content, one.parent_id) for one in await branch(core)]
    greeting = (await branch(core))[0]
    assert said[:2] == [
        (Role.ASSISTANT, "Arr, who goes there?", None),
        (Role.USER, "It is me", greeting.id),
    ]
    assert greeting.tokens > 0
    assert done.parent_id == greeting.id
    sent = [(one.role, one.content) for one in parrot.prompts[0].messages]
    first = f"You are a pirate.\n\n{GREETED}Arr, who goes there?"
    assert sent == [(Role.SYSTEM, first), (Role.USER, "It is me")]
    assert done.context.messages_included == 2


async def test_it_greets_once_and_may_be_named_again(core: Conversations, parrot: Parrot) -> None:
    for words in ("One", "Two"):
        await asked(core, Ask(words, character="Pirate"))
    again = await ended(core, await core.regenerate(ADA, "c", Regenerate(character="pirate")))
    assert [one.content for one in await branch(core)][0::2] == [
        "Arr, who goes there?",
        "One ",
        "Two ",
    ]
    assert again.model == "gpt-4"
    assert (await core.get(ADA, "c")).message_count == 6


async def test_an_empty_conversation_takes_it_too(core: Conversations) -> None:
    await core.create(ADA, id="c", system_prompt="Old", model="gpt-4o-mini")
    shown = await core.preview(ADA, "c", Ask("Hi", character="pirate"))
    assert [(one.id, one.role, one.kept) for one in shown.lines] == [
        (None, Role.SYSTEM, True),
        (None, Role.ASSISTANT, True),
        (None, Role.USER, True),
    ]
    done = await asked(core, Ask("Hi", character="pirate"))
    there = await core.get(ADA, "c")
    assert (there.system_prompt, there.message_count) == ("You are a pirate.", 3)
    assert done.model == there.model == "gpt-4o-mini"


async def test_the_caller_s_own_words_count_before_the_character_s(core: Conversations) -> None:
    question = Ask("Hi", character="pirate", system_prompt="Mine.", model="gpt-4o")
    assert (await asked(core, question)).model == "gpt-4o"
    assert (await core.get(ADA, "c")).system_prompt == "Mine."
    assert (await branch(core))[0].content == "Arr, who goes there?"
    await asked(core, question)
    assert (await core.get(ADA, "c")).message_count == 5


async def test_one_without_a_system_prompt_changes_none(core: Conversations) -> None:
    await asked(core, Ask("Hi", character="polite"))
    assert (await core.get(ADA, "c")).system_prompt == "Be kind."
    await asked(core, Ask("Hi", character="polite"), into="d")
    await asked(core, Ask("Hi"), into="e")
    await asked(core, Ask("Hi", character="polite"), into="e")
    assert (await core.get(ADA, "e")).message_count == 4


async def test_another_one_is_refused_where_something_was_said(core: Conversations) -> None:
    await asked(core, Ask("Hi", character="pirate"))
    for wish in (
        core.ask(ADA, "c", Ask("Hi", character="mute")),
        core.regenerate(ADA, "c", Regenerate(character="mute")),
        core.preview(ADA, "c", Ask("Hi", character="mute")),
    ):
        with pytest.raises(InvalidRequestError, match="first ask") as refused:
            await wish
        assert refused.value.param == "character"
    assert (await core.get(ADA, "c")).message_count == 3


async def test_a_greeting_that_does_not_fit_is_kept_and_not_sent(
    store: SQLiteStore, parrot: Parrot
) -> None:
    cast = {"long": Character("Be.", "word " * 60)}
    counting = CountingSettings(window=50, max_tokens=10)
    defaults = Defaults("gpt-4o", None, counting, characters=Characters(cast))
    async with core_of(store, parrot, defaults) as core:
        await core.create(ADA, id="c")
        shown = await core.preview(ADA, "c", Ask("Hi", character="long"))
        assert [one.kept for one in shown.lines] == [True, False, True]
        done = await asked(core, Ask("Hi", character="long"))
        assert (done.context.messages_included, done.context.messages_trimmed) == (1, 1)
        assert [one.role for one in parrot.prompts[0].messages] == [Role.SYSTEM, Role.USER]
        assert (await core.get(ADA, "c")).message_count == 3


@pytest.mark.parametrize(
    ("wish", "param", "told"),
    [
        ({"character": "nobody"}, "character", "only Pirate, mute, polite"),
        ({"character": ""}, "character", "must be a name"),
        ({"instruction_template": "nope"}, "instruction_template", "alpaca, chatml, llama"),
        ({"instruction_template": "{{ x"}, "instruction_template", "unexpected"),
        ({"prompt_template": "nope"}, "prompt_template", "%1"),
        ({"prompt_template": "{{ prompt.__class__ }}"}, "prompt_template", "not allowed"),
        ({"prompt_template": "%1" * 9_000}, "prompt_template", "at most"),
        ({"prompt_template": "%1\x00"}, "prompt_template", "NUL"),
        ({"prompt_template": "%1", "instruction_template": "alpaca"}, "prompt_template", "exclude"),
    ],
)
async def test_what_there_is_not_is_refused_by_its_field(
    core: Conversations, wish: dict[str, str], param: str, told: str
) -> None:
    await asked(core, "Hello", into="there")
    for refusing in (
        core.ask(ADA, "c", Ask("Hi", **wish)),  # type: ignore[arg-type]
        core.regenerate(ADA, "there", Regenerate(**wish)),  # type: ignore[arg-type]
    ):
        with pytest.raises(InvalidRequestError, match=told) as refused:
            await refusing
        assert refused.value.param == param
    with pytest.raises(NotFoundError):
        await core.get(ADA, "c")


async def test_where_there_are_none_that_is_said(store: SQLiteStore, parrot: Parrot) -> None:
    async with core_of(store, parrot, Defaults("gpt-4o")) as core:
        with pytest.raises(InvalidRequestError, match="there is none at all"):
            await core.ask(ADA, "c", Ask("Hi", character="x"))


async def test_a_wrong_wish_interrupts_nobody(store: SQLiteStore, upstream: Puppet) -> None:
    async with core_of(store, upstream, Defaults("gpt-4o")) as core:
        turn = await core.ask(ADA, "c", Ask("Hi"))
        with pytest.raises(InvalidRequestError):
            await core.ask(ADA, "c", Ask("Hi", character="x", if_busy=IfBusy.INTERRUPT))
        upstream.answer("There.")
        assert (await ended(core, turn)).status is Status.COMPLETED


async def test_a_character_speaks_in_a_template_too(core: Conversations, parrot: Parrot) -> None:
    await asked(core, Ask("Hi", character="pirate", mode=Mode.INSTRUCT))
    assert parrot.prompts[0].text == (
        "You are a pirate.\n\nAssistant: Arr, who goes there?\nUser: Hi\nAssistant:"
    )
