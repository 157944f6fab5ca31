"""Tests of a question whose calls wait for results: it is sent whole or not at all."""

from __future__ import annotations

from dataclasses import replace

import pytest

from server.app.core import core_of
from server.core.conversations import Ask
from server.core.errors import InvalidRequestError
from server.core.prompt.characters import Mode
from server.core.prompt.compose import CountingSettings
from server.core.prompt.pairs import paired
from server.core.turns.plan import Defaults
from server.core.turns.tools import ToolResult
from server.tokens import counting
from server.tokens.encoding import encoding
from server.upstream.port import Prompt, UpstreamOverflowError
from storage.model import Message, PromptMessage, Role, Status
from storage.parts import Kind, Part
from storage.sqlite.store import SQLiteStore
from tests.server.core.following import asked, ended
from tests.storage.nouns import ADA, conversation, message
from tests.support.fakes import MODEL, Parrot, Puppet
from tests.support.prompt_cost import prompt_cost

THOUGHT = Part(Kind.REASONING)
OPTIONS = {"tools": [{"type": "function", "function": {"name": "look"}}]}


def counted(window: int) -> Defaults:
    return Defaults(MODEL, counting=CountingSettings(window=window, max_tokens=50))


def calling(puppet: Puppet, name: str) -> Puppet:
    return puppet.say(Part(Kind.TOOL_CALL, name, "look"), "{}").finish("tool_calls")


def result(of: str, said: str) -> Ask:
    return Ask("", tool_results=(ToolResult(of, said),), options=OPTIONS)


def roles(prompt: Prompt) -> list[str]:
    return [one.role.value for one in prompt.messages]


async def test_no_summary_stands_for_it(store: SQLiteStore) -> None:
    puppet = Puppet()
    for _ in range(4):
        puppet.answer("old " * 60)
    calling(puppet, "a").answer("A summary.").answer("A summary.")
    async with core_of(store, puppet, counted(1200)) as conversations:
        await conversations.create(ADA, id="c")
        await conversations.update(ADA, "c", {"truncation": "summarize"})
        for _ in range(4):
            await asked(conversations, "what " * 60)
        open_ = await asked(conversations, Ask("word " * 700, options=OPTIONS))
        await conversations._asking._compaction.idle()
        found = await store.summaries(ADA, "c", limit=10)
        assert open_.answer_id not in {one.parent_id for one in found}
        # One that an earlier release wrote, which did.
        last = await store.message(ADA, "c", str(open_.answer_id))
        await store.summarise(ADA, _summary(last))
        done = await asked(conversations, result("a", "r " * 100))
    assert done.status is Status.COMPLETED
    assert roles(puppet.prompts[-1])[-3:] == ["user", "assistant", "tool"]


def _summary(last: Message) -> Message:
    return replace(
        last,
        id="summary",
        parent_id=last.id,
        role=Role.SYSTEM,
        content="All of it.",
        turn_id=None,
        stands_for=last.depth,
    )


async def test_no_part_of_it_is_sent_to_who_refused_it(store: SQLiteStore) -> None:
    puppet = Puppet()
    calling(calling(puppet.answer("old " * 300), "a"), "b")
    for _ in range(3):
        puppet.fail(UpstreamOverflowError("too long", 400, None, None, None, 2000))
    async with core_of(store, puppet, counted(8000)) as conversations:
        await asked(conversations, "older " * 300)
        await asked(conversations, Ask("hi " * 100, options=OPTIONS))
        await asked(conversations, result("a", "big " * 3000))
        turn = await conversations.ask(ADA, "c", result("b", "r " * 1000))
        async for _ in conversations.follow(ADA, turn.id):
            pass
    whole = ["user", "assistant", "tool", "assistant", "tool"]
    assert [roles(prompt) for prompt in puppet.prompts[3:]] == [
        ["user", "assistant", *whole],
        whole,
    ]


async def test_what_was_thought_on_the_way_counts(store: SQLiteStore) -> None:
    puppet = Puppet()
    calling(puppet.say(THOUGHT, "word " * 300), "a").answer("Fine.")
    async with core_of(store, puppet, counted(1000)) as conversations:
        await asked(conversations, Ask("hi", options=OPTIONS))
        done = await asked(conversations, result("a", "r"))
    spent = prompt_cost(
        counting.shape(MODEL), encoding("o200k_base"), puppet.prompts[-1].messages
    ) + encoding("o200k_base").count('{"tools":[{"type":"function","function":{"name":"look"}}]}')
    assert done.context.prompt_tokens == spent > 300


async def test_what_was_counted_once_is_not_counted_again(store: SQLiteStore) -> None:
    line = [
        message("m1", None, Role.USER, "one", 1),
        replace(message("m2", "m1", Role.ASSISTANT, "word " * 100, 2), tokens=7),
    ]
    line = [replace(one, encoding="o200k_base") for one in line]
    await store.put(ADA, conversation(head_id="m2"), line, [])
    async with core_of(store, Parrot(), counted(1000)) as conversations:
        turn = await conversations.ask(ADA, "c", Ask("two"))
        assert (await ended(conversations, turn)).context.prompt_tokens < 50


def test_two_calls_of_one_id_have_their_own_results() -> None:
    call = {"type": "function", "id": "x", "function": {"name": "look", "arguments": "{}"}}
    calls = PromptMessage(Role.ASSISTANT, [call, dict(call)])
    results = [
        PromptMessage(Role.TOOL, [{"type": "text", "text": said, "tool_call_id": "x"}])
        for said in ("one", "two", "three")
    ]
    assert paired([calls, *results]) == [calls, *results[:2]]


def test_many_calls_that_were_cut_off_cost_no_more_each() -> None:
    """With what each costs growing with their number, this would take minutes."""
    function = {"name": "look", "arguments": "{"}
    calls = [{"type": "function", "id": f"c{n}", "function": function} for n in range(50_000)]
    text = {"type": "text", "text": "Looking."}
    assert paired([PromptMessage(Role.ASSISTANT, [text, *calls])]) == [
        PromptMessage(Role.ASSISTANT, "Looking.")
    ]


@pytest.mark.parametrize("prompt", ["", "And now?"])
async def test_a_preview_shows_its_results(store: SQLiteStore, prompt: str) -> None:
    puppet = calling(Puppet(), "a").answer("Fine.")
    answer = replace(result("a", "r " * 50), content=prompt)
    async with core_of(store, puppet, counted(1000)) as conversations:
        await asked(conversations, Ask("hi", options=OPTIONS))
        with pytest.raises(InvalidRequestError, match="each of these calls"):
            await conversations.preview(ADA, "c", result("b", "r"))
        shown = await conversations.preview(ADA, "c", answer)
        done = await asked(conversations, answer)
    assert [line.role for line in shown.lines] == [
        *(Role.USER, Role.ASSISTANT, Role.TOOL),
        *([Role.USER] if prompt else []),
    ]
    assert [line.tokens > 0 for line in shown.lines] == [True] * len(shown.lines)
    assert shown.composed.prompt_tokens == done.context.prompt_tokens
    assert shown.composed.messages == puppet.prompts[-1].messages


async def test_a_preview_lists_results_that_leave(store: SQLiteStore) -> None:
    answer = replace(result("a", "r " * 50), content="And now?", max_tokens=950)
    async with core_of(store, calling(Puppet(), "a"), counted(1000)) as conversations:
        await asked(conversations, Ask("hi", options=OPTIONS))
        shown = await conversations.preview(ADA, "c", answer)
    assert [(line.role, line.kept) for line in shown.lines] == [
        *((Role.USER, False), (Role.ASSISTANT, False), (Role.TOOL, False), (Role.USER, True))
    ]
    assert len(shown.lines) == shown.composed.sent.messages_trimmed + 1


async def test_a_template_is_told_what_was_called(store: SQLiteStore) -> None:
    puppet = calling(Puppet(), "a").answer("Fine.")
    answer = Ask("And?", tool_results=result("a", "18 C").tool_results, mode=Mode.INSTRUCT)
    async with core_of(store, puppet, counted(1000)) as conversations:
        await asked(conversations, Ask("hi", options=OPTIONS))
        await asked(conversations, answer)
    assert puppet.prompts[-1].text == (
        "User: hi\nAssistant: [Called look({})]\n\n[Result: 18 C]\nUser: And?\nAssistant:"
    )
