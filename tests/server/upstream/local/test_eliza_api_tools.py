"""Eliza's tool calls and JSON answers: forced, they fit their schema and use what was said."""

from __future__ import annotations

from typing import Any

import jsonschema
import orjson
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from server.upstream.local.service import ElizaApi
from server.upstream.local.tools import means
from tests.server.upstream.local.openai_helpers import answered, refused, streamed, strict
from tests.server.upstream.remote.relay_helpers import CHAT as PATH

CITY = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "unit": {"enum": ["fahrenheit", "celsius"]}},
    "required": ["city", "unit"],
    "additionalProperties": False,
}
WEATHER = {"name": "get_weather", "description": "Tells the weather.", "parameters": CITY}
TIME = {"name": "get_time", "description": "Tells the time of day.", "parameters": None}
TOOLS = [{"type": "function", "function": function} for function in (TIME, WEATHER)]
NAMED = {"type": "function", "function": {"name": "get_weather"}}
ALLOWED = {
    "type": "allowed_tools",
    "allowed_tools": {"mode": "required", "tools": [NAMED]},
}
SAID = "What is the weather in Paris, in celsius please?"


def ask(**more: Any) -> dict[str, Any]:
    return {"model": "gpt-4o", "messages": [{"role": "user", "content": SAID}], **more}


async def message(api: ElizaApi, **more: Any) -> dict[str, Any]:
    told = await answered(api, PATH, ask(**more))
    strict(ChatCompletion, told)
    said: dict[str, Any] = told["choices"][0]["message"]
    return said


class TestForced:
    @pytest.mark.parametrize("choice", ["required", NAMED, ALLOWED])
    async def test_it_calls_the_tool_with_what_was_said(self, api: ElizaApi, choice: Any) -> None:
        told = await answered(api, PATH, ask(tools=TOOLS, tool_choice=choice))
        strict(ChatCompletion, told)
        [said] = told["choices"]
        assert said["finish_reason"] == "tool_calls"
        assert said["message"]["content"] is None
        [call] = said["message"]["tool_calls"]
        assert call["id"].startswith("call_")
        assert call["function"]["name"] == "get_weather"
        assert orjson.loads(call["function"]["arguments"]) == {"city": "Paris", "unit": "celsius"}
        assert told["usage"]["completion_tokens"] > 5

    async def test_what_a_grammar_describes_is_not_called(self, api: ElizaApi) -> None:
        custom = {"name": "get_weather_too", "format": {"type": "grammar"}}
        tools = [{"type": "custom", "custom": custom}, *TOOLS]
        said = await message(api, tools=tools, tool_choice="required")
        assert [call["type"] for call in said["tool_calls"]] == ["function"]

    async def test_what_was_called_already_is_called_last(self, api: ElizaApi) -> None:
        messages = ask()["messages"]
        for name in ("get_weather", "get_time", "get_weather"):
            told = await message(api, messages=messages, tools=TOOLS, tool_choice="required")
            [call] = told["tool_calls"]
            assert call["function"]["name"] == name
            answer = {"role": "tool", "tool_call_id": call["id"], "content": "So it is."}
            messages = [*messages, told, answer]

    async def test_a_tool_without_parameters(self, api: ElizaApi) -> None:
        said = await message(api, tools=TOOLS[:1], tool_choice="required")
        assert said["tool_calls"][0]["function"]["arguments"] == "{}"

    async def test_streamed(self, api: ElizaApi) -> None:
        chunks = await streamed(api, PATH, ask(tools=TOOLS, tool_choice=NAMED, n=2))
        calls: dict[int, list[dict[str, Any]]] = {0: [], 1: []}
        for chunk in chunks:
            strict(ChatCompletionChunk, chunk)
            for choice in chunk["choices"]:
                assert choice["delta"].get("content", "") is not None
                calls[choice["index"]] += choice["delta"].get("tool_calls", [])
        for parts in calls.values():
            assert parts[0]["function"] == {"name": "get_weather", "arguments": ""}
            assert parts[0]["type"] == "function"
            assert all(part.keys() == {"index", "function"} for part in parts[1:])
            text = "".join(part["function"]["arguments"] for part in parts)
            jsonschema.validate(orjson.loads(text), CITY)
        assert calls[0][0]["id"] != calls[1][0]["id"]
        assert [c["choices"][0]["finish_reason"] for c in chunks[-2:]] == ["tool_calls"] * 2

    async def test_a_limit_cuts_the_arguments(self, api: ElizaApi) -> None:
        told = await answered(api, PATH, ask(tools=TOOLS, tool_choice=NAMED, max_tokens=3))
        assert told["choices"][0]["finish_reason"] == "length"

    async def test_a_custom_tool_gets_words(self, api: ElizaApi) -> None:
        tool = {"type": "custom", "custom": {"name": "run"}}
        said = await message(api, tools=[tool], tool_choice="required")
        assert said["tool_calls"][0]["custom"] == {"name": "run", "input": SAID}
        chunks = await streamed(api, PATH, ask(tools=[tool], tool_choice="required"))
        parts = [chunk["choices"][0]["delta"].get("tool_calls", [{}])[0] for chunk in chunks]
        assert "".join(part.get("custom", {}).get("input", "") for part in parts) == SAID

    async def test_functions_of_old(self, api: ElizaApi) -> None:
        asked = {"functions": [TIME, WEATHER], "function_call": {"name": "get_weather"}}
        told = await answered(api, PATH, ask(**asked))
        strict(ChatCompletion, told)
        [choice] = told["choices"]
        assert choice["finish_reason"] == "function_call"
        called = choice["message"]["function_call"]
        chunks = await streamed(api, PATH, ask(**asked))
        parts = [chunk["choices"][0]["delta"].get("function_call", {}) for chunk in chunks]
        for chunk in chunks:
            strict(ChatCompletionChunk, chunk)
        assert [part["name"] for part in parts if "name" in part] == ["get_weather"]
        assert "".join(part.get("arguments", "") for part in parts) == called["arguments"]


class TestFree:
    @pytest.mark.parametrize("choice", [None, "auto", "none"])
    async def test_it_answers_with_text(self, api: ElizaApi, choice: Any) -> None:
        said = await message(api, tools=TOOLS, tool_choice=choice, parallel_tool_calls=False)
        assert said["content"]
        assert "tool_calls" not in said

    async def test_functions_of_old(self, api: ElizaApi) -> None:
        assert (await message(api, functions=[WEATHER], function_call="auto"))["content"]

    async def test_allowed_tools_that_are_not_required(self, api: ElizaApi) -> None:
        free = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [NAMED]}}
        assert (await message(api, tools=TOOLS, tool_choice=free))["content"]


class TestJson:
    async def test_any_object(self, api: ElizaApi) -> None:
        said = await message(api, response_format={"type": "json_object"})
        assert isinstance(orjson.loads(said["content"]), dict)

    async def test_text_is_text(self, api: ElizaApi) -> None:
        said = await message(api, response_format={"type": "text"})
        assert not said["content"].startswith("{")

    @pytest.mark.parametrize("strictly", [True, False, None])
    async def test_a_schema(self, api: ElizaApi, strictly: bool | None) -> None:
        told = {"name": "city", "schema": CITY, "strict": strictly}
        asked = {"response_format": {"type": "json_schema", "json_schema": told}}
        said = await message(api, **asked)
        assert orjson.loads(said["content"]) == {"city": "Paris", "unit": "celsius"}
        chunks = await streamed(api, PATH, ask(**asked))
        deltas = [chunk["choices"][0]["delta"].get("content", "") for chunk in chunks]
        assert "".join(deltas) == said["content"]
        assert len(deltas) > 4

    async def test_a_schema_that_nothing_fits(self, api: ElizaApi) -> None:
        schema = {"type": "object", "required": ["a"], "properties": {"a": False}}
        told = {"name": "none", "schema": schema}
        asked = ask(response_format={"type": "json_schema", "json_schema": told})
        status, error = await refused(api, PATH, asked)
        assert (status, error["param"]) == (400, "response_format")
        assert error["message"].startswith("Invalid schema for response_format 'none': ")


def tool(**function: Any) -> dict[str, Any]:
    return {"tools": [{"type": "function", "function": function}]}


REFUSALS = [
    ({"tools": []}, "tools", "empty_array"),
    ({"tools": {}}, "tools", "invalid_type"),
    ({"tools": [{}]}, "tools[0].type", "missing_required_parameter"),
    ({"tools": [{"type": "hammer"}]}, "tools[0].type", "invalid_value"),
    ({"tools": [{"type": "function"}]}, "tools[0].function", "missing_required_parameter"),
    (tool(), "tools[0].function.name", "missing_required_parameter"),
    (tool(name="not a name"), "tools[0].function.name", "invalid_value"),
    (tool(name="f", parameters=[]), "tools[0].function.parameters", "invalid_type"),
    ({**tool(name="f"), "tool_choice": "any"}, "tool_choice", "invalid_value"),
    ({**tool(name="f"), "tool_choice": 5}, "tool_choice", "invalid_type"),
    ({**tool(name="f"), "tool_choice": NAMED}, "tool_choice", None),
    ({"tool_choice": "required"}, "tool_choice", None),
    (
        {**tool(name="f", parameters={"type": "thing"}), "tool_choice": "required"},
        "tools[0].function.parameters",
        "invalid_function_parameters",
    ),
    ({"functions": [{}]}, "functions[0].name", "missing_required_parameter"),
    ({"functions": [WEATHER], "function_call": "force"}, "function_call", "invalid_value"),
    ({"functions": [WEATHER], "function_call": {"name": "other"}}, "function_call", None),
    (
        {
            "tools": [
                {"type": "custom", "custom": {"name": "c", "format": {"type": "grammar"}}},
            ],
            "tool_choice": "required",
        },
        "tools[0].custom.format",
        "unsupported_parameter",
    ),
]


@pytest.mark.parametrize(("more", "param", "code"), REFUSALS)
async def test_refusals(api: ElizaApi, more: dict[str, Any], param: str, code: str | None) -> None:
    status, error = await refused(api, PATH, ask(**more))
    assert (status, error["param"], error["code"]) == (400, param, code)


@pytest.mark.parametrize(
    ("said", "name", "meant"),
    [
        ("What's the weather like?", "get_weather", True),
        ("WEATHER, please", "getWeather", True),
        ("How are you?", "get_weather", False),
        ("It is so", "is_so", False),  # too short a word to be meant
        ("weather", "", False),
    ],
)
def test_a_tool_that_the_question_names_is_meant(said: str, name: str, meant: bool) -> None:
    assert means(said, name) == meant
