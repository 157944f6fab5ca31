"""Chat completions with `X-Conversation-Id`: a stateless client in a conversation that is kept."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import openai
import pytest

from server.core.access.auth import EVERYONE
from server.core.conversations import Ask
from server.live.turn import Delta, Ended
from server.upstream.local.eliza.eliza import Eliza
from server.upstream.local.embeddings.embedder import Embedder
from server.upstream.local.service import ElizaApi
from server.upstream.pool import PoolMember
from storage.model import Role, Status
from tests.server.transports.openai.chat.joined_talk import IN, asked, assistant, kept, sent, user
from tests.server.transports.openai.openai_client import (
    MESSAGES,
    TOOLS,
    Pair,
    connected,
    error_of,
    events_of,
    serving,
)
from tests.support.upstream_script import MODEL, cut, event, fail, say, stall


async def test_openais_client_has_a_memory(pair: Pair) -> None:
    served, upstream = pair
    for answer in ("Hello, Ann.", "Ann."):
        upstream.script(say(answer))
    first = await served.openai.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "I am Ann"}], extra_headers=IN
    )
    assert first.choices[0].message.content == "Hello, Ann."
    assert first.usage is not None
    second = await served.openai.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "Who am I?"}], extra_headers=IN
    )
    assert second.choices[0].message.content == "Ann."
    assert sent(upstream) == [user("I am Ann"), assistant("Hello, Ann."), user("Who am I?")]
    assert await kept(served) == [
        ("user", "I am Ann"),
        ("assistant", "Hello, Ann."),
        ("user", "Who am I?"),
        ("assistant", "Ann."),
    ]


@pytest.mark.parametrize("usage", [True, False])
async def test_a_stream_is_one_as_any_other(pair: Pair, usage: bool) -> None:
    options = {"stream_options": {"include_usage": True}} if usage else {}
    response = await asked(pair, "Hi", user("Hello"), stream=True, **options)
    *chunks, done = events_of(response.content)
    assert done == "[DONE]"
    assert (chunks[-1]["choices"] == []) is usage
    text = "".join(
        choice["delta"].get("content", "") for chunk in chunks for choice in chunk["choices"]
    )
    assert text == "Hi"
    # Its end was told when it was kept.
    turn = await pair[0].conversations.turn(EVERYONE, response.headers["x-turn-id"])
    assert (turn.status, turn.answer) == (Status.COMPLETED, "Hi")
    assert turn.usage is not None
    assert turn.usage.total_tokens == 18


async def test_one_who_sends_all_again_is_kept_once(pair: Pair) -> None:
    served, upstream = pair
    await asked(pair, "One.", user("1"))
    await asked(pair, "Two.", user("1"), assistant("One."), user("2"))
    await asked(pair, "Three.", user("2"), assistant("Two."), user("3"))  # trimmed by the client
    texts = [content for _, content in await kept(served)]
    assert texts == ["1", "One.", "2", "Two.", "3", "Three."]
    assert len(sent(upstream)) == 5


async def test_a_history_that_we_do_not_have_is_kept(pair: Pair) -> None:
    served, upstream = pair
    said = [user("1"), assistant("One."), user("2"), assistant("Two.")]
    await asked(pair, "Three.", *said, user("3"))
    assert sent(upstream) == [*said, user("3")]
    assert [content for _, content in await kept(served)] == [
        "1",
        "One.",
        "2",
        "Two.",
        "3",
        "Three.",
    ]
    conversation = await served.conversations.get(EVERYONE, "demo")
    assert (conversation.title, conversation.message_count) == ("1", 6)


async def test_an_edited_message_is_a_branch(pair: Pair) -> None:
    served, _ = pair
    await asked(pair, "One.", user("1"))
    await asked(pair, "Two.", user("1"), assistant("One."), user("2"))
    await asked(pair, "Other.", user("1"), assistant("One."), user("2, edited"))
    assert [content for _, content in await kept(served)] == ["1", "One.", "2, edited", "Other."]
    page = await served.conversations.messages(EVERYONE, "demo")
    assert len(page.items[2].siblings) == 2


async def test_the_same_again_is_another_answer(pair: Pair) -> None:
    served, upstream = pair
    await asked(pair, "One.", user("1"))
    await asked(pair, "Two.", user("1"), assistant("One."), user("2"))
    await asked(pair, "Two again.", user("1"), assistant("One."), user("2"))
    page = await served.conversations.messages(EVERYONE, "demo")
    assert [message.content for message in page.items] == ["1", "One.", "2", "Two again."]
    assert len(page.items[-1].siblings) == 2
    assert sent(upstream) == [user("1"), assistant("One."), user("2")]


async def test_a_question_that_failed_is_not_kept_twice(pair: Pair) -> None:
    served, upstream = pair
    upstream.script(fail(503))
    body = {"model": MODEL, "messages": [user("1")]}
    response = await served.client.post("/v1/chat/completions", json=body, headers=IN)
    assert response.status_code == 503
    await asked(pair, "One.", user("1"))
    assert [content for _, content in await kept(served)] == ["1", "One."]


async def test_other_wires_go_on_with_it_and_it_with_theirs(pair: Pair) -> None:
    served, upstream = pair
    first = await served.conversations.ask(EVERYONE, "demo", Ask("From elsewhere"))
    await served.conversations.cancel(EVERYONE, first.id)
    await asked(pair, "Yes.", user("Do you remember?"))
    assert sent(upstream)[0] == user("From elsewhere")


async def test_whoever_follows_hears_it_live_and_may_cancel_it(pair: Pair) -> None:
    served, upstream = pair
    await served.conversations.create(EVERYONE, id="demo")
    upstream.script(stall("Once ", "upon "))
    watching = served.conversations.watch(EVERYONE, "demo")
    body = {"model": MODEL, "messages": [user("A tale")], "stream": True}
    request = asyncio.create_task(served.client.post("/v1/chat/completions", json=body, headers=IN))
    heard = ""
    async for event_ in watching:
        if isinstance(event_, Delta):
            heard += event_.text
        if heard == "Once upon ":
            break
    await watching.aclose()
    turn = await served.conversations.cancel(EVERYONE, event_.turn_id)
    assert (turn.status, turn.answer) == (Status.CANCELLED, "Once upon ")
    error = events_of((await request).content)[-1]
    assert "cancelled" in error["error"]["message"]
    assert upstream.requests[-1].gone.is_set()


async def test_the_turn_outlives_a_client_that_leaves(pair: Pair) -> None:
    served, upstream = pair
    go_on = asyncio.Event()
    upstream.script(say("Half ", go_on, "and whole"))
    body = {"model": MODEL, "messages": [user("x")], "stream": True}
    async with connected(served.port) as wire:
        await wire.post("/v1/chat/completions", body, headers=IN)
        head = (await wire.head()).decode().lower()
        turn_id = head.partition("x-turn-id: ")[2].split("\r\n")[0]
    go_on.set()
    async for event_ in served.conversations.follow(EVERYONE, turn_id):
        if isinstance(event_, Ended):
            assert (event_.turn.status, event_.turn.answer) == (
                Status.COMPLETED,
                "Half and whole",
            )


async def test_calls_of_tools_and_their_results_are_kept_and_sent(pair: Pair) -> None:
    served, upstream = pair
    call = {"id": "c1", "type": "function", "function": {"name": "sum", "arguments": "{}"}}
    delta = {"index": 0, "delta": {"tool_calls": [{"index": 0, **call}]}, "finish_reason": None}
    upstream.script(say(event({"choices": [delta]}), finish="tool_calls"))
    body = {"model": MODEL, "messages": [user("1 + 1?")], "tools": TOOLS}
    response = await served.client.post("/v1/chat/completions", json=body, headers=IN)
    message = response.json()["choices"][0]["message"]
    assert message["tool_calls"] == [call]
    assert response.json()["choices"][0]["finish_reason"] == "tool_calls"
    assert upstream.requests[0].body["tools"] == TOOLS
    result = {"role": "tool", "tool_call_id": "c1", "content": "2"}
    await asked(pair, "Two.", user("1 + 1?"), message, result, tools=TOOLS)
    called = {"role": "assistant", "content": None, "tool_calls": [call]}
    assert sent(upstream) == [user("1 + 1?"), message, result]
    # A later question by any wire, that sends nothing of it, has it before it all the same.
    await asked(pair, "Yes.", user("Sure?"))
    assert sent(upstream) == [
        user("1 + 1?"),
        called,
        result,
        assistant("Two."),
        user("Sure?"),
    ]
    page = await served.conversations.messages(EVERYONE, "demo")
    assert [message.role for message in page.items[:3]] == [Role.USER, Role.ASSISTANT, Role.TOOL]


async def test_the_clients_system_message_is_the_conversations_and_later_its_turns(
    pair: Pair,
) -> None:
    served, upstream = pair
    await asked(pair, "One.", {"role": "system", "content": "Be brief."}, user("1"))
    assert (await served.conversations.get(EVERYONE, "demo")).system_prompt == "Be brief."
    await asked(pair, "Two.", user("2"))
    assert sent(upstream)[0] == {"role": "system", "content": "Be brief."}
    await asked(pair, "Three.", {"role": "developer", "content": "Be verbose."}, user("3"))
    assert sent(upstream)[0] == {"role": "developer", "content": "Be verbose."}
    assert (await served.conversations.get(EVERYONE, "demo")).system_prompt == "Be brief."
    assert [content for _, content in await kept(served)][-2:] == ["3", "Three."]


async def test_what_was_asked_beyond_messages_goes_along(pair: Pair) -> None:
    _, upstream = pair
    extra = {"temperature": 0.5, "top_k": 7, "response_format": {"type": "json_object"}}
    await asked(pair, "{}", user("JSON"), **extra)
    assert {name: upstream.requests[0].body[name] for name in extra} == extra


async def test_history_is_trimmed_to_the_window(pair: Pair) -> None:
    served, upstream = pair
    words = "word " * 30_000
    for number in range(5):
        await asked(pair, "Yes.", user(f"{number} {words}"))
    turn = sent(upstream)
    assert turn[-1]["content"].startswith("4 ")
    assert 1 < len(turn) < 9
    assert (await served.conversations.get(EVERYONE, "demo")).message_count == 10


async def test_it_can_be_stored_besides(pair: Pair) -> None:
    served, _ = pair
    response = await asked(pair, "Hi", user("Hello"), store=True, metadata={"a": "1"})
    found = await served.openai.chat.completions.retrieve(response.json()["id"])
    assert found.metadata == {"a": "1"}


async def test_many_at_once_stand_in_line(pair: Pair) -> None:
    served, _ = pair
    await asyncio.gather(*(asked(pair, "Yes.", user(str(number))) for number in range(5)))
    conversation = await served.conversations.get(EVERYONE, "demo")
    assert conversation.message_count == 10
    assert len(await kept(served)) == 10


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"n": 2}, "n"),
        ({"messages": [assistant("x")]}, "messages"),
        ({"messages": [{"role": "system", "content": "x"}]}, "messages"),
        ({"mode": "instruct"}, "mode"),
        ({"prompt_template": "%1"}, "prompt_template"),
        ({"messages": [user("a\x00b")]}, "messages"),
        ({"character": "nobody"}, "character"),
    ],
)
async def test_what_cannot_be_kept_is_refused_and_leaves_no_trace(
    pair: Pair, given: dict[str, Any], param: str
) -> None:
    served, upstream = pair
    body = {"model": MODEL, "messages": [user("x")], **given}
    response = await served.client.post("/v1/chat/completions", json=body, headers=IN)
    assert response.status_code == 400, response.text
    assert response.json()["error"]["param"] == param
    assert upstream.requests == []
    assert (await served.conversations.page(EVERYONE)).items == ()


async def test_a_bad_id_is_refused(pair: Pair) -> None:
    served, _ = pair
    body = {"model": MODEL, "messages": [user("x")]}
    for bad in ("../x", "a" * 129, "-", ".."):
        headers = {"x-conversation-id": bad}
        response = await served.client.post("/v1/chat/completions", json=body, headers=headers)
        error_of(response, 400)


async def test_a_new_one_is_made_for_new(pair: Pair) -> None:
    served, upstream = pair
    upstream.script(say("Hi"))
    body = {"model": MODEL, "messages": [user("x")]}
    headers = {"x-conversation-id": "new"}
    response = await served.client.post("/v1/chat/completions", json=body, headers=headers)
    id_ = response.headers["x-conversation-id"]
    assert id_.startswith("conv_")
    assert (await served.conversations.get(EVERYONE, id_)).message_count == 2


@pytest.mark.parametrize("stream", [True, False])
async def test_a_refusal_of_the_upstream_is_passed_on_and_leaves_the_head(
    pair: Pair, stream: bool
) -> None:
    served, upstream = pair
    await asked(pair, "Hi", user("Hello"))
    before = await kept(served)
    upstream.script(fail(401, "Incorrect API key", code="invalid_api_key"))
    with pytest.raises(openai.AuthenticationError) as refused:
        await served.openai.chat.completions.create(  # type: ignore[call-overload]
            model=MODEL, messages=MESSAGES, extra_headers=IN, stream=stream
        )
    assert refused.value.code == "invalid_api_key"
    assert await kept(served) == before == [("user", "Hello"), ("assistant", "Hi")]


async def test_a_stream_that_breaks_keeps_what_was_said(pair: Pair) -> None:
    served, upstream = pair
    upstream.script(cut("Half"))
    body = {"model": MODEL, "messages": [user("x")], "stream": True}
    response = await served.client.post("/v1/chat/completions", json=body, headers=IN)
    assert "error" in events_of(response.content)[-1]
    assert await kept(served) == [("user", "x"), ("assistant", "Half")]


async def test_eliza_remembers_too(tmp_path: Path) -> None:
    embedder = Embedder()
    member = PoolMember("eliza", Eliza(), ElizaApi(embeddings=embedder), local=True)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(embedder.close)
        served = await stack.enter_async_context(serving(tmp_path, [member]))
        for text in ("Hello", "My mother is kind"):
            body = {"model": "eliza", "messages": [user(text)]}
            response = await served.client.post("/v1/chat/completions", json=body, headers=IN)
            assert response.status_code == 200, response.text
        assert len(await kept(served)) == 4
