"""Characters and templates under /v1: what the upstream gets of them, and what the client."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from server.core.prompt.characters import Character, Characters
from server.templates.parse import read
from server.upstream.local.eliza.eliza import Eliza
from server.upstream.local.embeddings.embedder import Embedder
from server.upstream.local.service import ElizaApi
from server.upstream.pool import PoolMember
from tests.server.transports.openai.openai_client import (
    CHAT,
    MESSAGES,
    Pair,
    Served,
    error_of,
    events_of,
    passing,
    serving,
)
from tests.support.upstream_script import MODEL, complain, cut, document, fail, say

SHAPING = Characters(
    {
        "pirate": Character("You are a pirate.", "Arr!", MODEL),
        "mute": Character("Say little."),
    },
    {"mine": read("{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>")},
)
SYSTEM = {"role": "system", "content": "You are a pirate."}
GREETING = {"role": "assistant", "content": "Arr!"}


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    async with passing(tmp_path, characters=SHAPING) as found:
        yield found


async def sent(pair: Pair, path: str, body: dict[str, Any]) -> Any:
    """Ask, and return what the upstream was sent for it."""
    served, upstream = pair
    answer = await served.client.post(f"/v1/{path}", json=body)
    assert answer.status_code == 200, answer.text
    return await upstream.request(len(upstream.requests) - 1)


# Characters


async def test_a_character_is_put_first_and_greets(pair: Pair) -> None:
    request = await sent(pair, "chat/completions", {**CHAT, "character": "Pirate", "top_k": 3})
    assert request.path == "/v1/chat/completions"
    assert request.body == {"model": MODEL, "messages": [SYSTEM, GREETING, *MESSAGES], "top_k": 3}


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        (
            [{"role": "system", "content": "Mine."}, *MESSAGES],
            [{"role": "system", "content": "Mine."}, GREETING, *MESSAGES],
        ),
        (
            [{"role": "developer", "content": "Mine."}, *MESSAGES, GREETING, *MESSAGES],
            [{"role": "developer", "content": "Mine."}, *MESSAGES, GREETING, *MESSAGES],
        ),
        ([*MESSAGES, GREETING, *MESSAGES], [SYSTEM, *MESSAGES, GREETING, *MESSAGES]),
    ],
)
async def test_what_the_caller_has_said_already_is_not_said_again(
    pair: Pair, messages: list[Any], expected: list[Any]
) -> None:
    body = {"model": MODEL, "messages": messages, "character": "pirate", "mode": "chat"}
    request = await sent(pair, "chat/completions", body)
    assert request.body == {"model": MODEL, "messages": expected}


async def test_a_character_may_bring_its_model(pair: Pair) -> None:
    body = {"messages": MESSAGES, "character": "pirate"}
    assert (await sent(pair, "chat/completions", body)).body["model"] == MODEL
    body = {"prompt": "Hello", "character": "pirate"}
    assert (await sent(pair, "completions", body)).body["model"] == MODEL


async def test_fields_that_are_null_do_not_go_upstream_either(pair: Pair) -> None:
    nothing = dict.fromkeys(("mode", "character", "instruction_template", "prompt_template"))
    assert (await sent(pair, "chat/completions", {**CHAT, **nothing})).body == CHAT
    text = {"model": MODEL, "prompt": "Hello"}
    assert (await sent(pair, "completions", {**text, **nothing})).body == text


async def test_without_them_what_was_sent_is_what_the_upstream_gets(pair: Pair) -> None:
    served, upstream = pair
    for path, body in (("chat/completions", CHAT), ("completions", {"model": "m", "prompt": "x"})):
        raw = json.dumps(body, indent=3).encode()
        await served.client.post(f"/v1/{path}", content=raw)
        assert upstream.requests[-1].raw == raw


# Chats that are written as one text


async def test_a_chat_is_rendered_completed_and_told_as_a_chat(pair: Pair) -> None:
    served, upstream = pair
    upstream.script(say(" Hi", " there."))
    body = {**CHAT, "instruction_template": "mine", "temperature": 0.5, "stop": "END"}
    answer = await served.client.post("/v1/chat/completions", json=body)
    request = await upstream.request()
    assert request.path == "/v1/completions"
    assert request.body.pop("max_tokens") == 16_384
    assert request.body == {
        "model": MODEL,
        "prompt": "<user>Hello<assistant>",
        "temperature": 0.5,
        "stop": ["END"],
    }
    told = ChatCompletion.model_validate(answer.json(), strict=True)
    (choice,) = told.choices
    assert (choice.message.content, choice.finish_reason) == ("Hi there.", "stop")
    assert (told.object, told.model) == ("chat.completion", MODEL)
    assert told.id.startswith("chatcmpl-")
    assert told.usage is not None
    assert told.usage.total_tokens == 18


async def test_it_is_streamed_too(pair: Pair) -> None:
    served, upstream = pair
    upstream.script(say(" Hi", " there."))
    options = {"stream": True, "stream_options": {"include_usage": True}}
    body = {**CHAT, "mode": "instruct", "max_completion_tokens": 9, **options}
    answer = await served.client.post("/v1/chat/completions", json=body)
    assert answer.headers["content-type"].startswith("text/event-stream")
    *events, done = events_of(answer.content)
    assert done == "[DONE]"
    chunks = [ChatCompletionChunk.model_validate(one, strict=True) for one in events]
    assert len({one.id for one in chunks}) == 1
    assert [one.choices[0].delta.role for one in chunks[:2]] == ["assistant", None]
    assert "".join(one.choices[0].delta.content or "" for one in chunks[:-1]) == "Hi there."
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    request = await upstream.request()
    assert request.body["prompt"] == "User: Hello\nAssistant:"
    assert (request.body["stop"], request.body["max_tokens"]) == (["\nUser:"], 9)
    assert "max_completion_tokens" not in request.body


async def test_the_official_client_reads_it(pair: Pair) -> None:
    served, upstream = pair
    upstream.script(say(" Hi"), say(" Hi"))
    extra = {"prompt_template": "### Human: {{ prompt }}\n### Assistant:", "character": "mute"}
    whole = await served.openai.chat.completions.create(
        model=MODEL, messages=MESSAGES, extra_body=extra
    )
    assert whole.choices[0].message.content == "Hi"
    stream = await served.openai.chat.completions.create(
        model=MODEL, messages=MESSAGES, extra_body=extra, stream=True
    )
    pieces = [chunk.choices[0].delta.content or "" async for chunk in stream]
    assert "".join(pieces) == "Hi"
    for request in upstream.requests:
        assert request.body["prompt"] == "Say little.\n\n### Human: Hello\n### Assistant:"


async def test_log_probabilities_are_told_as_a_chat_s(pair: Pair) -> None:
    served, upstream = pair
    choice = {
        "index": 0,
        "text": " Hi",
        "finish_reason": "length",
        "logprobs": {
            "tokens": [" Hi"],
            "token_logprobs": [-0.5],
            "top_logprobs": [{" Hi": -0.5, " Ho": -1.5}],
            "text_offset": [0],
        },
    }
    upstream.script(document({"choices": [choice]}))
    body = {**CHAT, "mode": "instruct", "logprobs": True, "top_logprobs": 2}
    answer = await served.client.post("/v1/chat/completions", json=body)
    assert (await upstream.request()).body["logprobs"] == 2
    told = ChatCompletion.model_validate(answer.json(), strict=True).choices[0]
    assert told.finish_reason == "length"
    assert told.logprobs is not None
    (token,) = told.logprobs.content or []
    assert (token.token, token.logprob, token.bytes) == (" Hi", -0.5, list(b" Hi"))
    assert [one.token for one in token.top_logprobs] == [" Hi", " Ho"]


async def test_what_the_upstream_refuses_is_passed_on(pair: Pair) -> None:
    served, upstream = pair
    for stream in (False, True):
        upstream.script(fail(404, "This is a chat model.", param="model"))
        body = {**CHAT, "mode": "instruct", "stream": stream}
        answer = await served.client.post("/v1/chat/completions", json=body)
        assert error_of(answer, 404)["message"] == "This is a chat model."


async def test_a_stream_that_breaks_ends_with_an_error(pair: Pair) -> None:
    served, upstream = pair
    upstream.script(cut(" Hi"), complain(" Hi", error={"message": "no more"}))
    for _ in range(2):
        body = {**CHAT, "mode": "instruct", "stream": True}
        answer = await served.client.post("/v1/chat/completions", json=body)
        *events, last = events_of(answer.content)
        assert events[0]["choices"][0]["delta"]["content"] == "Hi"
        assert set(last) == {"error"}


# Completions


@pytest.mark.parametrize(
    ("wish", "prompt", "stop"),
    [
        ({"prompt_template": "Q: %1\nA:"}, "Q: Hello\nA:", None),
        ({"prompt_template": "<{{ prompt }}>", "mode": "chat"}, "<Hello>", None),
        ({"instruction_template": "mine"}, "<user>Hello<assistant>", None),
        ({"mode": "instruct"}, "User: Hello\nAssistant:", ["\nUser:"]),
        (
            {"character": "pirate"},
            "You are a pirate.\n\nAssistant: Arr!\nUser: Hello\nAssistant:",
            ["\nUser:"],
        ),
        ({"mode": "chat"}, "Hello", None),
    ],
)
async def test_a_prompt_is_wrapped(
    pair: Pair, wish: dict[str, str], prompt: str, stop: list[str] | None
) -> None:
    request = await sent(pair, "completions", {"model": MODEL, "prompt": "Hello", **wish})
    expected = {"model": MODEL, "prompt": prompt} | ({"stop": stop} if stop else {})
    assert (request.path, request.body) == ("/v1/completions", expected)


async def test_every_prompt_of_a_list_is_wrapped(pair: Pair) -> None:
    body = {"model": MODEL, "prompt": ["a", "b"], "prompt_template": "[%1]", "stop": ["."]}
    request = await sent(pair, "completions", body)
    assert (request.body["prompt"], request.body["stop"]) == (["[a]", "[b]"], ["."])


async def test_the_old_routes_take_templates_too(pair: Pair) -> None:
    body = {"prompt": "Hello", "prompt_template": "[%1]"}
    request = await sent(pair, "engines/davinci-002/completions", body)
    assert request.body == {"model": "davinci-002", "prompt": "[Hello]"}


# Refusals


@pytest.mark.parametrize(
    ("more", "param", "told", "code"),
    [
        ({"character": "nobody"}, "character", "only mute, pirate", None),
        ({"instruction_template": "nope"}, "instruction_template", "alpaca, chatml", None),
        ({"prompt_template": "nope"}, "prompt_template", "%1", None),
        ({"prompt_template": "{{ ''.__class__ }}{{ prompt }}"}, "prompt_template", "allowed", None),
        ({"prompt_template": "{{ prompt * 999999999 }}"}, "prompt_template", "too much", None),
        ({"mode": "loud"}, "mode", "'chat', and 'instruct'", "invalid_value"),
        ({"character": 1}, "character", "expected a string", "invalid_type"),
    ],
)
@pytest.mark.parametrize("path", ["chat/completions", "completions"])
async def test_what_cannot_be_is_refused(
    pair: Pair, path: str, more: dict[str, Any], param: str, told: str, code: str | None
) -> None:
    served, upstream = pair
    body = {**CHAT, "prompt": "Hello", **more}
    error = error_of(await served.client.post(f"/v1/{path}", json=body), 400, code)
    assert (error["type"], error["param"]) == ("invalid_request_error", param)
    assert told in error["message"]
    assert upstream.requests == []


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"store": True}, "store"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
            "messages[0].content",
        ),
        ({"messages": []}, "messages"),
    ],
)
async def test_what_no_text_can_have_is_refused(
    pair: Pair, more: dict[str, Any], param: str
) -> None:
    served, upstream = pair
    body = {**CHAT, "mode": "instruct", **more}
    answer = await served.client.post("/v1/chat/completions", json=body)
    assert answer.json()["error"]["param"] == param
    assert answer.status_code == 400
    assert upstream.requests == []


async def test_tokens_are_no_text(pair: Pair) -> None:
    body = {"model": MODEL, "prompt": [1, 2], "mode": "instruct"}
    answer = await pair[0].client.post("/v1/completions", json=body)
    assert error_of(answer, 400)["param"] == "prompt"


# Eliza


@pytest.fixture
async def eliza(tmp_path: Path) -> AsyncIterator[Served]:
    embedder = Embedder()
    member = PoolMember("eliza", Eliza(), ElizaApi(embeddings=embedder), local=True)
    try:
        async with serving(tmp_path, [member], characters=SHAPING) as served:
            yield served
    finally:
        await embedder.close()


@pytest.mark.parametrize(
    "wish",
    [
        {"mode": "instruct"},
        {"character": "pirate"},
        {"instruction_template": "vicuna", "character": "mute"},
        {"prompt_template": "[INST] %1 [/INST]"},
    ],
)
async def test_eliza_hears_the_last_words(eliza: Served, wish: dict[str, str]) -> None:
    messages = [{"role": "user", "content": "I am sad"}]
    plain = {"model": "eliza", "messages": messages}
    expected = (await eliza.client.post("/v1/chat/completions", json=plain)).json()
    answer = (await eliza.client.post("/v1/chat/completions", json={**plain, **wish})).json()
    assert answer["choices"][0]["message"] == expected["choices"][0]["message"]
    text = {"model": "eliza", "prompt": "I am sad", "max_tokens": 50}
    expected = (await eliza.client.post("/v1/completions", json=text)).json()
    answer = (await eliza.client.post("/v1/completions", json={**text, **wish})).json()
    assert answer["choices"][0]["text"] == expected["choices"][0]["text"]


async def test_eliza_refuses_what_cannot_be_as_others_do(eliza: Served) -> None:
    body = {**CHAT, "prompt_template": "{{ prompt.__class__ }}"}
    error_of(await eliza.client.post("/v1/chat/completions", json=body), 400)
