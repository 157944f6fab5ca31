"""Prompts written as one text: counted as they are sent, as much of the history as fits."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.app.core import core_of
from server.core.conversations import Ask, Mode
from server.core.errors import ContextLengthError, InvalidRequestError
from server.core.prompt.characters import Characters
from server.core.prompt.compose import CountingSettings
from server.core.prompt.fit import SLACK
from server.core.turns.plan import Defaults
from server.templates.parse import read
from server.templates.presets import SHAPES
from server.templates.template import PLAIN, Template
from server.tokens.encoding import encoding
from server.tokens.models import model
from storage.model import Message, PromptMessage, Role
from storage.sqlite.store import SQLiteStore
from tests.server.core.counting_store import CountingStore
from tests.server.core.following import asked
from tests.storage.nouns import ADA, conversation, message
from tests.support.fakes import Parrot

LOOP = "{% for m in messages %}{{ m.role }}> {{ m.content }}\n{% endfor %}assistant>"
TEMPLATES = {**SHAPES, "loop": read(LOOP), "wrapped": read("### Human: %1\n### Assistant:")}
TEXT_MODEL = "gpt-3.5-turbo-instruct"


def line(length: int, content: str = "Hello there") -> list[Message]:
    roles = (Role.USER, Role.ASSISTANT)
    tokens = encoding("cl100k_base").count(content)
    return [
        message(
            f"m{n}",
            f"m{n - 1}" if n else None,
            roles[n % 2],
            content,
            tokens,
            encoding="cl100k_base",
        )
        for n in range(length)
    ]


def shaped(window: int, template: Template | None = None) -> Defaults:
    characters = Characters(templates={"it": template} if template else None)
    counting = CountingSettings(window=window, max_tokens=20)
    return Defaults(TEXT_MODEL, counting=counting, characters=characters)


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("window", [150, 200, 431])
async def test_as_many_turns_as_fit_by_the_count_of_the_text(
    store: SQLiteStore, name: str, window: int
) -> None:
    history, template = line(120), TEMPLATES[name]
    await store.put(ADA, conversation(head_id="m119"), history, [])
    parrot = Parrot(("ok",))
    async with core_of(store, parrot, shaped(window, template)) as core:
        done = await asked(core, Ask("And now?", instruction_template="it"))
    (prompt,) = parrot.prompts
    count = encoding("cl100k_base").count
    assert prompt.text == template.render(prompt.messages)
    assert done.context.prompt_tokens == count(prompt.text) <= window - 20
    kept = len(prompt.messages) - 1
    assert 0 < kept < 120
    assert kept % 2 == 0
    older = [PromptMessage(one.role, one.content) for one in history[118 - kept : 120 - kept]]
    assert count(template.render([*older, *prompt.messages])) > int(SLACK * (window - 20))
    assert done.context.messages_trimmed == 120 - kept


async def test_what_fits_as_a_text_is_not_trimmed(store: SQLiteStore) -> None:
    """In a chat's shape the same messages would take more than there is."""
    history = line(40, "Hi")
    messages = [PromptMessage(one.role, one.content) for one in history]
    question = PromptMessage(Role.USER, "So")
    tokens = encoding("cl100k_base").count(PLAIN.render([*messages, question]))
    await store.put(ADA, conversation(head_id="m39"), history, [])
    parrot = Parrot(("ok",))
    async with core_of(store, parrot, shaped(tokens + 20)) as core:
        done = await asked(core, "So")
    assert done.context.prompt_tokens == tokens == done.context.budget
    assert (done.context.messages_included, done.context.messages_trimmed) == (41, 0)


@pytest.mark.parametrize(
    "template",
    [PLAIN, SHAPES["chatml"], read(LOOP), read("{{ messages[-1].content }}"), read("Q: %1")],
)
async def test_reading_stops_with_what_fits(tmp_path: Path, template: Template) -> None:
    opened = CountingStore(tmp_path / "long.db")
    async with opened:
        await opened.put(ADA, conversation(head_id="m4999"), line(5_000), [])
        async with core_of(opened, Parrot(), shaped(300, template)) as core:
            turn = await core.ask(ADA, "c", Ask("Hi", instruction_template="it"))
        assert opened.read <= 1_000
        assert turn.context.messages_included + turn.context.messages_trimmed == 5_001


async def test_a_chat_model_is_sent_text_where_that_is_asked_for(
    store: SQLiteStore, parrot: Parrot
) -> None:
    async with core_of(store, parrot, Defaults("gpt-4o")) as core:
        await asked(core, Ask("One", mode=Mode.INSTRUCT, stop=("END",)))
        await asked(core, Ask("Two", instruction_template="ChatML"))
        await asked(core, Ask("Three", instruction_template="chatml", mode=Mode.CHAT))
        await asked(core, Ask("Four", prompt_template="Q: %1\nA:", model=TEXT_MODEL))
        await asked(core, Ask("Five"))
    one, two, three, four, five = parrot.prompts
    assert (one.text, one.stop) == ("User: One\nAssistant:", ("END", "\nUser:"))
    assert one.max_tokens == model("gpt-4o").output
    assert two.text == SHAPES["chatml"].render(two.messages)
    assert two.stop == SHAPES["chatml"].stops
    assert (three.text, three.stop, three.max_tokens) == (None, (), None)
    assert four.text is not None
    assert four.text.endswith("Q: Four\nA:")
    assert four.stop == ()
    assert five.text is None
    assert [one.content for one in five.messages[::2]] == ["One", "Two", "Three", "Four", "Five"]


async def test_a_configured_default_is_taken_where_none_is_named(
    store: SQLiteStore, parrot: Parrot
) -> None:
    characters = Characters(templates={"default": read("Ask %1 Answer")})
    async with core_of(store, parrot, Defaults(TEXT_MODEL, characters=characters)) as core:
        await asked(core, "why")
    assert parrot.prompts[0].text == "Ask why Answer"


async def test_who_takes_text_only_is_for_the_upstreams_to_say(
    store: SQLiteStore, parrot: Parrot
) -> None:
    characters = Characters(completes_only=lambda name: name == "base")
    async with core_of(store, parrot, Defaults("gpt-4o", characters=characters)) as core:
        await asked(core, Ask("why", model="base"))
    assert parrot.prompts[0].text == "User: why\nAssistant:"


async def test_a_summary_stands_in_the_text_for_what_does_not_fit(
    store: SQLiteStore, parrot: Parrot
) -> None:
    await store.put(ADA, conversation(head_id="m59", truncation="summarize"), line(60), [])
    summary = message("s", "m49", Role.SYSTEM, "They greeted.", 5, stands_for=50)
    await store.summarise(ADA, summary)
    async with core_of(store, parrot, shaped(200)) as core:
        done = await asked(core, "And?")
    (prompt,) = parrot.prompts[:1]
    assert prompt.messages[0].role is Role.SYSTEM
    assert "They greeted." in str(prompt.text)
    assert done.context.prompt_tokens == encoding("cl100k_base").count(str(prompt.text)) <= 180


async def test_a_preview_adds_up(store: SQLiteStore, parrot: Parrot) -> None:
    await store.put(ADA, conversation(head_id="m59"), line(60), [])
    question = Ask("And now?", instruction_template="alpaca")
    async with core_of(store, parrot, shaped(200)) as core:
        shown = await core.preview(ADA, "c", question)
        assert parrot.prompts == []
        done = await asked(core, question)
    assert shown.composed.prompt_tokens == done.context.prompt_tokens
    kept = [one for one in shown.lines if one.kept]
    assert len(kept) == done.context.messages_included
    assert {one.overhead for one in kept} == {0}


async def test_a_question_that_does_not_fit_alone_is_refused(
    store: SQLiteStore, parrot: Parrot
) -> None:
    async with core_of(store, parrot, shaped(45)) as core:
        await asked(core, "Hello")
        with pytest.raises(ContextLengthError):
            await core.ask(ADA, "c", Ask("Hello", instruction_template="alpaca"))
        assert (await core.get(ADA, "c")).message_count == 2


async def test_a_template_that_fails_is_a_wrong_request_and_leaves_nothing(
    store: SQLiteStore, parrot: Parrot
) -> None:
    failing = "{{ prompt }}{% if messages|length > 2 %}{{ raise_exception('No.') }}{% endif %}"
    async with core_of(store, parrot, Defaults("gpt-4o")) as core:
        await asked(core, Ask("One", prompt_template=failing))
        with pytest.raises(InvalidRequestError, match=r"No\.") as refused:
            await core.ask(ADA, "c", Ask("Two", prompt_template=failing))
        assert refused.value.param == "prompt_template"
        assert (await core.get(ADA, "c")).message_count == 2
        await asked(core, "Three")
