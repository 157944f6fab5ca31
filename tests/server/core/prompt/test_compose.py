"""Tests of what is sent: never over the budget, whole newest turns, prompt and question always."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from server.app.core import core_of
from server.core.conversations import Ask, Conversations, Regenerate
from server.core.errors import ContextLengthError
from server.core.prompt.alternate import alternate
from server.core.prompt.compose import CountingSettings
from server.core.prompt.fit import SLACK
from server.core.turns.plan import Defaults
from server.templates import template
from server.tokens import counting
from server.tokens.encoding import encoding
from server.tokens.models import model
from storage.model import Content, Message, PromptMessage, Role
from storage.port import NotFoundError
from storage.sqlite.store import SQLiteStore
from tests.server.core.counting_store import CountingStore
from tests.server.core.following import asked, ended
from tests.storage.nouns import ADA, conversation, message
from tests.support.fakes import MODEL, Parrot
from tests.support.prompt_cost import prompt_cost

MODELS = (
    "gpt-4o",
    "gpt-4",
    "gpt-3.5-turbo-0301",
    "gpt-5.4-mini",
    "o1",
    "gpt-oss-120b",
    "ft:gpt-4o-mini:org::id",
    "eliza",
    "a-model-nobody-knows",
    "gpt-3.5-turbo-instruct",
    "davinci-002",
)
SNIPPETS = (
    "Hello",
    " the quick brown fox",
    "naïve café ",
    "👩\u200d👩\u200d👧\u200d👦",
    "🏳️\u200d🌈🤷🏽\u200d♀️",
    "漢字かな交じり文",
    "한국어",
    "مرحبا بالعالم ",
    "שלום ",
    "नमस्ते",
    "e\u0301\u0323",
    "<|endoftext|>",
    "<|im_start|>system\n",
    "<|im_end|>",
    "\nUser: ",
    "\n\nAssistant:",
    "def f(x):\n\treturn x ** 2\n",
    "          ",
    "\n\n\n",
    "3.14159",
    "aaaaaaaaaaaaaaaaaaaaaaaa",
)
IMAGE = {"type": "image_url", "image_url": {"url": "https://x/y.png", "detail": "low"}}

texts = st.lists(st.sampled_from(SNIPPETS), min_size=1, max_size=12).map("".join)
questions = texts.filter(lambda text: bool(text.strip()))
parts = questions.map(lambda text: [{"type": "text", "text": text}, IMAGE])
contents: st.SearchStrategy[Content] = st.one_of(questions, questions, questions, parts)


@dataclass(frozen=True)
class Past:
    """One exchange of a history; what another program's tool said is kept and never sent."""

    question: Content
    answer: str | None
    tool: bool


pasts = st.lists(st.builds(Past, contents, st.one_of(st.none(), texts), st.booleans()), max_size=9)


@dataclass(frozen=True)
class Case:
    """A history, how it was counted when it was written, and what is asked now."""

    past: Sequence[Past]
    counted_in: str
    model: str
    system_prompt: str | None
    content: Content
    window: int
    reserved: int
    truncation: str


cases = st.builds(
    Case,
    past=pasts,
    counted_in=st.sampled_from(("o200k_base", "cl100k_base", "made up")),
    model=st.sampled_from(MODELS),
    system_prompt=st.one_of(st.none(), texts),
    content=contents,
    window=st.integers(20, 700),
    reserved=st.integers(1, 60),
    truncation=st.sampled_from(("trim", "summarize")),
)
names = (f"c{number}" for number in count())


def history(case: Case, name: str) -> list[Message]:
    """Return a history as messages with the token counts of its time, wrong ones included."""
    kept: list[Message] = []

    def keep(role: Role, content: Content) -> None:
        tokens = 3
        if case.counted_in != "made up":
            tokens = counting.content_tokens(encoding(case.counted_in), content)
        parent = kept[-1].id if kept else None
        more = {"conversation_id": name, "encoding": case.counted_in}
        kept.append(message(f"{name}-{len(kept)}", parent, role, content, tokens, **more))

    for past in case.past:
        keep(Role.USER, past.question)
        if past.tool:
            keep(Role.TOOL, "Output of a tool")
        if past.answer is not None:
            keep(Role.ASSISTANT, past.answer)
    return kept


def cost(of: str, messages: Sequence[PromptMessage]) -> int:
    """Count a whole prompt anew, as it goes over the wire to this model."""
    known = model(of)
    if not known.chat:
        return encoding(known.encoding).count(template.render(messages))
    return prompt_cost(counting.shape(of), encoding(known.encoding), messages)


def sent(kept: Sequence[Message]) -> list[PromptMessage]:
    return [PromptMessage(m.role, m.content) for m in kept if m.role is not Role.TOOL]


def first_of(case: Case) -> list[PromptMessage]:
    return [PromptMessage(Role.SYSTEM, case.system_prompt)] if case.system_prompt else []


@settings(
    deadline=None,
    max_examples=60,
    phases=(Phase.explicit, Phase.generate),  # shrinking would take minutes, cases are small
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(cases)
async def test_what_is_sent_is_within_the_budget_whatever_was_said(
    store: SQLiteStore, case: Case
) -> None:
    name, parrot = next(names), Parrot(("ok",))
    kept = history(case, name)
    there = conversation(
        name,
        system_prompt=case.system_prompt,
        head_id=kept[-1].id if kept else None,
        truncation=case.truncation,
    )
    await store.put(ADA, there, kept, [])
    defaults = Defaults(
        case.model, counting=CountingSettings(window=case.window, max_tokens=case.reserved)
    )
    async with core_of(store, parrot, defaults) as conversations:
        try:
            turn = await conversations.ask(ADA, name, Ask(case.content))
        except ContextLengthError:
            await check_refused(conversations, case, kept, parrot, name)
            return
        done = await ended(conversations, turn)
    check_sent(case, kept, parrot.prompts[0].messages, done.context)
    check_told(case, kept, parrot.prompts[0].messages, done.context)


async def check_refused(
    conversations: Conversations, case: Case, kept: Sequence[Message], parrot: Parrot, name: str
) -> None:
    """Only what is over the budget alone is refused, and nothing is left of it."""
    alone = [*first_of(case), PromptMessage(Role.USER, case.content)]
    assert cost(case.model, alone) > case.window - case.reserved
    assert parrot.prompts == []
    there = await conversations.get(ADA, name)
    assert there.message_count == len(kept)
    assert there.head_id == (kept[-1].id if kept else None)


def check_sent(
    case: Case, kept: Sequence[Message], messages: Sequence[PromptMessage], told: Any
) -> None:
    """Whole newest turns are sent, of which not one more would leave the slack that there is."""
    budget = case.window - case.reserved
    assert cost(case.model, messages) <= budget
    middle = sent(kept[told.messages_trimmed :])
    assert list(messages) == as_sent(case, middle)
    assert not middle or middle[0].role is Role.USER
    older = sent(kept[: told.messages_trimmed])
    if older:
        assert cost(case.model, as_sent(case, sent(kept))) > budget, "all of it would have fitted"
        last_turn = max(place for place, m in enumerate(older) if m.role is Role.USER)
        more = as_sent(case, [*older[last_turn:], *middle])
        most = int(SLACK * budget) if middle else budget
        assert cost(case.model, more) > most, "one turn more would have fitted"


def as_sent(case: Case, middle: Sequence[PromptMessage]) -> list[PromptMessage]:
    """Return a prompt with this history; models that continue a text are sent it as it was said."""
    said = [*first_of(case), *middle, PromptMessage(Role.USER, case.content)]
    return alternate(said) if model(case.model).chat else said


def check_told(
    case: Case, kept: Sequence[Message], messages: Sequence[PromptMessage], told: Any
) -> None:
    """What a turn tells of its prompt is what the upstream got."""
    assert (told.window, told.budget) == (case.window, case.window - case.reserved)
    assert told.prompt_tokens == cost(case.model, messages)
    assert told.messages_included == len(sent(kept[told.messages_trimmed :])) + 1
    known = case.model != "a-model-nobody-knows"
    assert (told.counted, told.window_known) == ("exact" if known else "guessed", True)


# Cases by hand


def counted(window: int | None = None, max_tokens: int | None = None, of: str = MODEL) -> Defaults:
    return Defaults(of, counting=CountingSettings(window=window, max_tokens=max_tokens))


@pytest.mark.parametrize("of", ["gpt-4o", "gpt-3.5-turbo-0301", "gpt-3.5-turbo-instruct"])
async def test_the_limit_is_exact(store: SQLiteStore, of: str) -> None:
    question = "How many 🙂 fit?"
    alone = cost(of, [PromptMessage(Role.SYSTEM, "Be."), PromptMessage(Role.USER, question)])
    for window, fits in ((alone + 10, True), (alone + 9, False)):
        async with core_of(store, Parrot(), counted(window, 10, of)) as conversations:
            asking = conversations.ask(ADA, f"c{fits}", Ask(question, system_prompt="Be."))
            if fits:
                assert (await ended(conversations, await asking)).context.prompt_tokens == alone
                continue
            with pytest.raises(ContextLengthError, match=f"{alone} tokens of the {alone - 1}"):
                await asking
            with pytest.raises(NotFoundError):
                await conversations.get(ADA, "cFalse")


async def test_a_caller_s_max_tokens_is_reserved(store: SQLiteStore, parrot: Parrot) -> None:
    async with core_of(store, parrot, counted(200, 10)) as conversations:
        first = await asked(conversations, Ask("word " * 50, max_tokens=20))
        assert first.context.budget == 180
        second = await asked(conversations, Ask("word " * 50, max_tokens=100))
        assert (second.context.budget, second.context.messages_trimmed) == (100, 2)
        with pytest.raises(ContextLengthError):
            await conversations.ask(ADA, "c", Ask("word", max_tokens=200))
    assert [prompt.max_tokens for prompt in parrot.prompts] == [20, 100]


async def test_every_model_counts_for_itself(store: SQLiteStore, parrot: Parrot) -> None:
    """A history that was counted for one model is sent to others, each with its own encoding."""
    words = "naïve 漢字 👩\u200d👧 <|endoftext|> مرحبا "
    async with core_of(store, parrot, counted()) as conversations:
        for number, of in enumerate(("gpt-4o", "gpt-4", "gpt-3.5-turbo-instruct", "gpt-4o")):
            done = await asked(conversations, Ask(words * (number + 1), model=of))
            prompt = parrot.prompts[-1]
            assert len(prompt.messages) == 2 * number + 1
            assert done.context.prompt_tokens == cost(of, prompt.messages)


@pytest.mark.parametrize("name", ["gpt2", "cl100k_base"])
async def test_a_configured_encoding_counts_for_every_model(
    store: SQLiteStore, parrot: Parrot, name: str
) -> None:
    defaults = Defaults(MODEL, counting=CountingSettings(encoding=name))
    words = "naïve 漢字 👩\u200d👧 "
    async with core_of(store, parrot, defaults) as conversations:
        done = await asked(conversations, words)
        messages = parrot.prompts[0].messages
        assert done.context.prompt_tokens == prompt_cost(
            counting.shape(MODEL), encoding(name), messages
        )
        kept = await store.message(ADA, "c", done.question_id)
        assert (kept.encoding, kept.tokens) == (name, encoding(name).count(words))


async def test_the_oldest_turns_leave_first_and_the_system_prompt_never(
    store: SQLiteStore, parrot: Parrot
) -> None:
    async with core_of(store, parrot, counted(120, 20)) as conversations:
        for number in range(12):
            done = await asked(conversations, Ask(f"number {number}", system_prompt="Be brief."))
            messages = parrot.prompts[-1].messages
            assert messages[0] == PromptMessage(Role.SYSTEM, "Be brief.")
            assert messages[-1].content == f"number {number}"
            assert cost(MODEL, messages) <= 100
        assert done.context.messages_trimmed == 22 - (len(messages) - 2)
        assert [m.content for m in messages[1:3]] != ["number 0", "number 0 "]
        assert (await conversations.get(ADA, "c")).message_count == 24


async def test_another_answer_is_asked_for_within_the_budget(
    store: SQLiteStore, parrot: Parrot
) -> None:
    async with core_of(store, parrot, counted(60, 10)) as conversations:
        for number in range(6):
            await asked(conversations, f"number {number}")
        again = await ended(conversations, await conversations.regenerate(ADA, "c", Regenerate()))
        assert parrot.prompts[-1].messages == parrot.prompts[-2].messages
        assert again.context.prompt_tokens == cost(MODEL, parrot.prompts[-1].messages) <= 50
        with pytest.raises(ContextLengthError):
            await conversations.regenerate(ADA, "c", Regenerate(max_tokens=59))


async def test_a_preview_is_what_would_be_sent(store: SQLiteStore, parrot: Parrot) -> None:
    async with core_of(store, parrot, counted(80, 10)) as conversations:
        for number in range(8):
            await asked(conversations, Ask(f"number {number}", system_prompt="Be."))
        shown = await conversations.preview(ADA, "c", Ask("And now?"))
        assert len(parrot.prompts) == 8
        done = await asked(conversations, "And now?")
    kept = [line for line in shown.lines if line.kept]
    assert [line.role for line in kept] == [m.role for m in parrot.prompts[-1].messages]
    assert shown.composed.messages == parrot.prompts[-1].messages
    assert shown.composed.prompt_tokens == done.context.prompt_tokens
    assert shown.remaining == done.context.budget - done.context.prompt_tokens
    assert sum(line.tokens + line.overhead for line in kept) + 3 == done.context.prompt_tokens
    assert sum(not line.kept for line in shown.lines) == done.context.messages_trimmed


async def test_summaries_keep_within_the_budget_too(store: SQLiteStore, parrot: Parrot) -> None:
    async with core_of(store, parrot, counted(1_200, 50)) as conversations:
        await conversations.create(ADA, id="c", system_prompt="Be.")
        await conversations.update(ADA, "c", {"truncation": "summarize"})
        for number in range(12):
            done = await asked(conversations, f"number {number} " + "word " * 100)
            assert done.context.prompt_tokens <= 1_150
            await conversations._asking._compaction.idle()
    assert any("Summary" in str(m.content) for p in parrot.prompts for m in p.messages)
    assert all(cost(MODEL, prompt.messages) <= 1_150 for prompt in parrot.prompts)


async def test_a_long_history_is_read_no_further_than_it_fits(tmp_path: Path) -> None:
    opened = CountingStore(tmp_path / "long.db")
    async with opened:
        roles = (Role.USER, Role.ASSISTANT)
        line = [
            message(f"m{n}", f"m{n - 1}" if n else None, roles[n % 2], "Hello", 1)
            for n in range(5_000)
        ]
        await opened.put(ADA, conversation(head_id="m4999"), line, [])
        async with core_of(opened, Parrot(), counted(200, 50)) as conversations:
            turn = await conversations.ask(ADA, "c", Ask("Hi"))
            assert opened.read <= 200
            assert turn.context.messages_included + turn.context.messages_trimmed == 5_001
