"""OpenAI's Python client with its helpers for the stateful API: what it is used for there."""

# mypy: ignore-errors

from __future__ import annotations

import asyncio
import json

from openai import AsyncOpenAI, OpenAI, pydantic_function_tool
from pydantic import BaseModel
from report import API_KEY, BASE_URL, MODEL, QUESTION, expect, refused, report

client = OpenAI(base_url=BASE_URL, api_key=API_KEY)
ASKED = {"model": MODEL, "input": QUESTION}
WEATHER = {
    "type": "function",
    "name": "weather",
    "description": "The weather of a city",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "strict": True,
}


class Mood(BaseModel):
    feeling: str
    strength: int


class Weather(BaseModel):
    """The weather of a city."""

    city: str


def chat() -> str:
    answer = client.responses.create(**ASKED)
    expect(answer.usage.total_tokens > 0 and answer.status == "completed", answer)
    again = client.responses.retrieve(answer.id)
    expect(again.output_text == answer.output_text, again)
    asked = list(client.responses.input_items.list(answer.id))
    expect(asked[0].content[0].text == QUESTION, asked)
    counted = client.responses.input_tokens.count(**ASKED)
    expect(counted.input_tokens > 0, counted)
    client.responses.delete(answer.id)
    return answer.output_text


def stream() -> str:
    """By the helper, which puts the events together and holds them against the end."""
    with client.responses.stream(**ASKED) as events:
        said = [event.delta for event in events if event.type == "response.output_text.delta"]
        whole = events.get_final_response()
    expect(len(said) > 2 and "".join(said) == whole.output_text, said)
    expect(asyncio.run(streamed_anew(whole.id)) == whole.output_text, whole)
    return whole.output_text


async def streamed_anew(id_: str) -> str:
    """Read the same response with the asynchronous client, from some event on."""
    async with (
        AsyncOpenAI(base_url=BASE_URL, api_key=API_KEY) as other,
        other.responses.stream(response_id=id_, starting_after=3) as events,
    ):
        numbers = [event.sequence_number async for event in events]
        whole = await events.get_final_response()
    expect(numbers == list(range(4, numbers[-1] + 1)), numbers)
    return whole.output_text


def errors() -> str:
    return refused(lambda: client.responses.create(**ASKED, temperature=9), "BadRequestError")


def structure() -> str:
    answer = client.responses.parse(**ASKED, text_format=Mood)
    expect(isinstance(answer.output_parsed, Mood), answer)
    with client.responses.stream(**ASKED, text_format=Mood) as events:
        streamed = events.get_final_response()
    expect(isinstance(streamed.output_parsed, Mood), streamed)
    return repr(answer.output_parsed)


def tools() -> str:
    """Three turns: two with a tool, the second read as it comes, and one about them."""
    asked = {"model": MODEL, "tools": [WEATHER]}
    first = client.responses.create(**asked, input="What is the weather like in Oslo?")
    told = results(first)
    second = client.responses.create(**asked, input=told, previous_response_id=first.id)
    expect(second.output_text, second)
    with client.responses.stream(
        **asked, input="And the weather in Rome?", previous_response_id=second.id
    ) as events:
        pieces = [e.delta for e in events if e.type == "response.function_call_arguments.delta"]
        third = events.get_final_response()
    told = results(third)
    expect("".join(pieces) == calls(third)[0].arguments, pieces)
    last = client.responses.create(**asked, input=told, previous_response_id=third.id)
    parsed = client.responses.parse(
        model=MODEL,
        tools=[pydantic_function_tool(Weather)],
        input="What is the weather like in Oslo?",
    )
    expect(isinstance(calls(parsed)[0].parsed_arguments, Weather), parsed)
    return last.output_text


def calls(answer: object) -> list[object]:
    found = [item for item in answer.output if item.type == "function_call"]
    expect(found and "city" in json.loads(found[0].arguments), answer)
    return found


def results(answer: object) -> list[object]:
    return [
        {"type": "function_call_output", "call_id": call.call_id, "output": "18 degrees"}
        for call in calls(answer)
    ]


def turns() -> str:
    """Without a state at the server: all that was said is sent again, as it came."""
    said = []
    for question in ("My name is Ada.", "What is the weather like in Oslo?", "Who am I?"):
        said.append({"role": "user", "content": question})
        asked = {"model": MODEL, "store": False, "tools": [WEATHER]}
        answer = client.responses.create(**asked, input=said)
        while any(item.type == "function_call" for item in answer.output):
            said += [*answer.output, *results(answer)]
            answer = client.responses.create(**asked, input=said)
        said += answer.output
    expect(answer.usage.input_tokens > 10, answer)
    return answer.output_text


def conversations() -> str:
    held = client.conversations.create(
        items=[{"type": "message", "role": "user", "content": "My name is Ada."}],
        metadata={"of": "ada"},
    )
    answer = client.responses.create(**ASKED, conversation=held.id)
    client.responses.create(model=MODEL, input="And now?", conversation=held.id)
    items = list(client.conversations.items.list(held.id, limit=2, order="asc"))
    expect(
        [item.role for item in items] == ["user", "user", "assistant", "user", "assistant"], items
    )
    one = client.conversations.items.retrieve(items[2].id, conversation_id=held.id)
    expect(one.content[0].text == answer.output_text, one)
    more = client.conversations.items.create(
        held.id, items=[{"type": "message", "role": "user", "content": "One more."}]
    )
    client.conversations.items.delete(more.data[0].id, conversation_id=held.id)
    changed = client.conversations.update(held.id, metadata={"of": "eve"})
    expect(client.conversations.retrieve(held.id) == changed, changed)
    expect(client.conversations.delete(held.id).deleted, held)
    return answer.output_text


def background() -> str:
    """Begun, left, found again, and read from the last event that was seen."""
    begun = client.responses.create(**ASKED, background=True, stream=True)
    events = [next(begun) for _ in range(3)]
    begun.close()
    id_, seen = events[0].response.id, events[-1].sequence_number
    rest = list(client.responses.retrieve(id_, stream=True, starting_after=seen))
    expect(rest[0].sequence_number == seen + 1, rest)
    expect(rest[-1].type == "response.completed", rest)
    answer = client.responses.create(**ASKED, background=True)
    while answer.status in ("queued", "in_progress"):
        answer = client.responses.retrieve(answer.id)
    expect(client.responses.cancel(answer.id).status == "completed", answer)
    return answer.output_text


def websocket() -> str:
    """Three turns on one connection, of which nothing is kept."""
    before = None
    with client.responses.connect() as connection:
        for question in ("My name is Ada.", QUESTION, "Who am I?"):
            connection.response.create(
                model=MODEL, input=question, store=False, previous_response_id=before
            )
            for event in connection:
                expect(event.type != "error", event)
                if event.type == "response.completed":
                    break
            before = event.response.id
    return event.response.output_text


if __name__ == "__main__":
    report(
        *(chat, stream, errors, structure, tools, turns, conversations, background),
        websocket,
    )
