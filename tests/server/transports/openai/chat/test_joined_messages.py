"""Which messages an upstream is sent where a client joins a conversation: as they came, as kept."""

from __future__ import annotations

import json
from typing import Any

import pytest

from server.core.access.auth import EVERYONE
from tests.server.transports.openai.chat.joined_talk import IN, asked, assistant, kept, sent, user
from tests.server.transports.openai.openai_client import TOOLS, Pair
from tests.support.upstream_script import MODEL, event, say

SYSTEM = {"role": "system", "content": "Be brief."}
LATE = {"role": "system", "content": "Rhyme."}


def calling(arguments: str, **more: Any) -> dict[str, Any]:
    function = {"name": "sum", "arguments": arguments}
    return {**more, "id": "c1", "type": "function", "function": function}


def delta(**said: Any) -> bytes:
    return event({"choices": [{"index": 0, "delta": said, "finish_reason": None}]})


class TestInstructions:
    async def test_what_is_told_behind_the_question_stays_there(self, pair: Pair) -> None:
        served, upstream = pair
        await asked(pair, "Hi", SYSTEM, user("Hello"), LATE)
        assert sent(upstream) == [SYSTEM, user("Hello"), LATE]
        assert await kept(served) == [("user", "Hello"), ("assistant", "Hi")]
        assert (await served.conversations.get(EVERYONE, "demo")).system_prompt == "Be brief."

    async def test_it_holds_for_its_request_alone(self, pair: Pair) -> None:
        served, upstream = pair
        await asked(pair, "Hi", user("Hello"), LATE)
        assert sent(upstream) == [user("Hello"), LATE]
        assert (await served.conversations.get(EVERYONE, "demo")).system_prompt is None
        await asked(pair, "Bye", user("Good bye"))
        assert sent(upstream) == [user("Hello"), assistant("Hi"), user("Good bye")]

    async def test_what_is_told_in_the_middle_stays_there(self, pair: Pair) -> None:
        _, upstream = pair
        said = [SYSTEM, user("1"), assistant("One."), {**LATE, "role": "developer"}, user("2")]
        await asked(pair, "One.", user("1"))
        await asked(pair, "Two.", *said)
        assert sent(upstream) == said

    async def test_several_of_them_go_as_they_came(self, pair: Pair) -> None:
        served, upstream = pair
        said = [{**SYSTEM, "name": "rules"}, {"role": "developer", "content": "Be kind."}]
        await asked(pair, "One.", *said, user("1"))
        assert sent(upstream) == [*said, user("1")]
        conversation = await served.conversations.get(EVERYONE, "demo")
        assert conversation.system_prompt == "Be brief.\n\nBe kind."

    async def test_it_counts_as_the_rest_does(self, pair: Pair) -> None:
        served, _ = pair
        long = {"role": "system", "content": "word " * 200_000}
        body = {"model": MODEL, "messages": [user("1"), long]}
        response = await served.client.post("/v1/chat/completions", json=body, headers=IN)
        assert response.status_code == 400
        assert response.json()["error"]["code"] == "context_length_exceeded"


class TestAsItCame:
    async def test_every_field_of_what_is_sent_again(self, pair: Pair) -> None:
        _, upstream = pair
        said = [
            {**user("1"), "name": "ann", "x_mine": [1]},
            {**assistant("One."), "reasoning_content": "Hm.", "name": "bot"},
            {**user("2"), "name": "ann"},
            {"role": "assistant", "content": None, "audio": {"id": "audio_1"}},
            {**user("3"), "name": "ann"},
        ]
        await asked(pair, "Three.", *said)
        assert sent(upstream) == said
        await asked(pair, "Again.", *said)
        assert sent(upstream) == said

    async def test_before_it_goes_what_is_kept(self, pair: Pair) -> None:
        _, upstream = pair
        await asked(pair, "One.", {**user("1"), "name": "ann"})
        await asked(pair, "Two.", {**user("2"), "name": "ann"})
        await asked(pair, "Three.", {**user("2"), "x": 1}, assistant("Two."), user("3"))
        assert sent(upstream) == [
            user("1"),
            assistant("One."),
            {**user("2"), "x": 1},
            assistant("Two."),
            user("3"),
        ]

    async def test_what_leaves_the_window_is_not_sent(self, pair: Pair) -> None:
        _, upstream = pair
        words = "word " * 60_000
        said = [SYSTEM, user(f"1 {words}"), assistant("One."), LATE, user(f"2 {words}")]
        await asked(pair, "Two.", *said)
        assert sent(upstream) == [SYSTEM, LATE, said[-1]]


class TestCallsOfTools:
    @pytest.mark.parametrize(
        "call",
        [
            calling('{"city": "Paris", "n": 1}'),
            calling('{"n":1,"city":"Paris"}'),
            calling('{"city":"Paris","n":1}', index=0),
        ],
    )
    async def test_one_that_is_written_otherwise_is_known(
        self, pair: Pair, call: dict[str, Any]
    ) -> None:
        served, upstream = pair
        made = calling('{"city":"Paris","n":1}')
        answer = say(delta(tool_calls=[{"index": 0, **made}]), finish="tool_calls")
        await asked(pair, answer, user("Where?"), tools=TOOLS)
        message = {"role": "assistant", "content": "", "tool_calls": [call]}
        result = {"role": "tool", "tool_call_id": "c1", "content": "There."}
        await asked(pair, "There.", user("Where?"), message, result, tools=TOOLS)
        assert len(await kept(served)) == 4
        assert sent(upstream) == [user("Where?"), message, result]

    async def test_another_call_is_another_branch(self, pair: Pair) -> None:
        served, _ = pair
        answer = say(delta(tool_calls=[{"index": 0, **calling('{"n": 1}')}]), finish="tool_calls")
        await asked(pair, answer, user("Where?"), tools=TOOLS)
        other = {"role": "assistant", "content": None, "tool_calls": [calling('{"n": 1.0}')]}
        result = {"role": "tool", "tool_call_id": "c1", "content": "There."}
        await asked(pair, "There.", user("Where?"), other, result, tools=TOOLS)
        page = await served.conversations.messages(EVERYONE, "demo")
        assert len(page.items[1].siblings) == 2

    async def test_a_function_of_old_stays_one(self, pair: Pair) -> None:
        served, upstream = pair
        function = {"name": "f", "arguments": "{}"}
        answer = say(delta(function_call=function), finish="function_call")
        await asked(pair, answer, user("1"), functions=[{"name": "f"}])
        called = {"role": "assistant", "content": None, "function_call": function}
        result = {"role": "function", "name": "f", "content": "42"}
        await asked(pair, "It is 42.", user("1"), called, result)
        assert sent(upstream) == [user("1"), called, result]
        await asked(pair, "Yes.", user("Sure?"))
        assert sent(upstream) == [
            user("1"),
            called,
            result,
            assistant("It is 42."),
            user("Sure?"),
        ]
        assert len(await kept(served)) == 6


class TestRefusals:
    async def test_it_is_kept_and_sent_as_one(self, pair: Pair) -> None:
        _, upstream = pair
        await asked(pair, say(delta(content=None, refusal="I cannot.")), user("1"))
        await asked(pair, "Two.", user("2"))
        refusal = {"role": "assistant", "content": None, "refusal": "I cannot."}
        assert sent(upstream) == [user("1"), refusal, user("2")]

    @pytest.mark.parametrize(
        "again",
        [
            {"content": None, "refusal": "I cannot."},
            {"content": "", "refusal": "I cannot."},
            {"content": [{"type": "refusal", "refusal": "I cannot."}]},
        ],
    )
    async def test_it_is_known_however_it_is_sent_again(
        self, pair: Pair, again: dict[str, Any]
    ) -> None:
        served, upstream = pair
        await asked(pair, say(delta(refusal="I "), delta(refusal="cannot.")), user("1"))
        message = {"role": "assistant", **again}
        await asked(pair, "Two.", user("1"), message, user("2"))
        assert sent(upstream) == [user("1"), message, user("2")]
        assert len(await kept(served)) == 4
        assert json.dumps((await kept(served))[1][1]).count("I cannot.") == 1
