"""The built-in upstream as a speaker of OpenAI's API: routes, models, bodies, OpenAI's client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import openai
import orjson
import pytest
from openai.types import Model
from pydantic import BaseModel

from server.upstream.local.service import ElizaApi
from server.upstream.port import Call, OpenAISpeaker
from tests.server.upstream.local.openai_helpers import client_of, eliza, post, refused, strict

CHAT = {"model": "eliza", "messages": [{"role": "user", "content": "I am sad."}]}


def test_it_is_a_speaker(api: ElizaApi) -> None:
    speaker: OpenAISpeaker = api
    assert speaker.name == "eliza"


class TestRoutes:
    async def test_a_path_that_is_not_there(self, api: ElizaApi) -> None:
        status, error = await refused(api, "/images/générations", {})
        assert status == 404
        assert error["type"] == "invalid_request_error"
        assert error["code"] == "unknown_url"

    async def test_a_method_that_is_not_there(self, api: ElizaApi) -> None:
        status, headers, _ = await post(api, "/models", {})
        assert status == 405
        assert headers["allow"] == "GET"

    @pytest.mark.parametrize(
        "body", [b"", b"{", b"[1]", b'{"a": NaN}', b'{"a":' * 3_000 + b"1" + b"}" * 3_000]
    )
    async def test_a_body_that_is_no_json_object(self, api: ElizaApi, body: bytes) -> None:
        status, error = await refused(api, "/chat/completions", body)
        assert status == 400
        assert error["message"].startswith("We could not parse the JSON body of your request.")

    async def test_a_body_that_comes_in_pieces(self, api: ElizaApi) -> None:
        async def pieces() -> AsyncIterator[bytes]:
            for byte in orjson.dumps(CHAT):
                yield bytes([byte])

        async with api.call(Call("POST", "/chat/completions", body=pieces())) as reply:
            assert reply.status == 200

    async def test_the_model_may_stand_in_the_path(self, api: ElizaApi) -> None:
        body = {"messages": CHAT["messages"]}
        _, _, pieces = await post(api, "/chat/completions", body, model="gpt-35-turbo")
        assert orjson.loads(pieces[0])["model"] == "gpt-35-turbo"


class TestModels:
    async def test_the_list_has_names_that_menus_know(self, api: ElizaApi) -> None:
        models = [strict(Model, dict(one)) for one in await api.models()]
        names = [model.id for model in models]
        assert {"eliza", "gpt-4", "gpt-3.5-turbo", "text-embedding-3-small"} <= set(names)
        assert len(set(names)) == len(names)

    async def test_any_model_is_shown(self, api: ElizaApi) -> None:
        async with api.call(Call("GET", "/models/acme%2Fany")) as reply:
            told = orjson.loads(b"".join([piece async for piece in reply.body]))
        assert strict(Model, told).id == "acme/any"


class TestDelay:
    async def test_words_come_one_by_one_and_the_same(self) -> None:
        slow, fast = eliza(delay=0.001), eliza()
        body = {**CHAT, "stream": True}
        said = []
        for speaker in (slow, fast):
            _, _, pieces = await post(speaker, "/chat/completions", body)
            chunks = [orjson.loads(piece[6:]) for piece in pieces[:-1]]
            said.append([chunk["choices"][0]["delta"].get("content") for chunk in chunks])
        assert said[0] == said[1]

    async def test_a_caller_who_leaves_ends_the_answer(self) -> None:
        api = eliza(delay=3_600)
        async with api.call(
            Call("POST", "/chat/completions", body=orjson.dumps({**CHAT, "stream": True}))
        ) as reply:
            body = aiter(reply.body)
            await anext(body)
        with pytest.raises(StopAsyncIteration):
            await anext(body)

    async def test_a_caller_who_leaves_before_the_answer(self) -> None:
        api = eliza(delay=3_600)
        asking = asyncio.create_task(post(api, "/chat/completions", CHAT))
        await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking


class Weather(BaseModel):
    city: str
    celsius: int
    sunny: bool


class TestOpenAIsOwnClient:
    async def test_chat(self, api: ElizaApi) -> None:
        async with client_of(api) as client:
            answer = await client.chat.completions.create(
                model="gpt-4o", messages=[{"role": "user", "content": "Hello"}]
            )
        assert answer.choices[0].message.content
        assert answer.usage is not None

    async def test_streamed_chat(self, api: ElizaApi) -> None:
        async with (
            client_of(api) as client,
            client.chat.completions.stream(
                model="gpt-4o",
                messages=[{"role": "user", "content": "Hello"}],
                stream_options={"include_usage": True},
            ) as stream,
        ):
            final = await stream.get_final_completion()
        assert final.choices[0].message.content
        assert final.choices[0].finish_reason == "stop"
        assert final.usage is not None

    async def test_a_parsed_answer(self, api: ElizaApi) -> None:
        async with client_of(api) as client:
            answer = await client.chat.completions.parse(
                model="gpt-4o",
                messages=[{"role": "user", "content": "It is 25 degrees in Paris."}],
                response_format=Weather,
            )
        weather = answer.choices[0].message.parsed
        assert weather is not None
        assert weather.city == "Paris"
        assert weather.celsius == 25

    async def test_a_streamed_tool_call(self, api: ElizaApi) -> None:
        async with (
            client_of(api) as client,
            client.chat.completions.stream(
                model="gpt-4o",
                messages=[{"role": "user", "content": "How is the weather in Paris?"}],
                tools=[openai.pydantic_function_tool(Weather)],
                tool_choice="required",
            ) as stream,
        ):
            final = await stream.get_final_completion()
        calls = final.choices[0].message.tool_calls
        assert calls
        assert isinstance(calls[0].function.parsed_arguments, Weather)

    async def test_completions(self, api: ElizaApi) -> None:
        async with client_of(api) as client:
            answer = await client.completions.create(model="davinci-002", prompt="Hello")
            stream = await client.completions.create(
                model="davinci-002", prompt="Hello", stream=True
            )
            text = "".join([chunk.choices[0].text async for chunk in stream])
        assert answer.choices[0].text == text

    async def test_models(self, api: ElizaApi) -> None:
        async with client_of(api) as client:
            assert "gpt-4o" in [model.id async for model in client.models.list()]

    async def test_errors(self, api: ElizaApi) -> None:
        async with client_of(api) as client:
            with pytest.raises(openai.BadRequestError) as caught:
                await client.chat.completions.create(model="gpt-4o", messages=[])
            assert caught.value.param == "messages"
            with pytest.raises(openai.NotFoundError):
                await client.images.generate(prompt="A rose")
