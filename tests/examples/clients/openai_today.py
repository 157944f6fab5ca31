"""OpenAI's Python client, 1 and newer, with everything that it is used for."""

# mypy: ignore-errors

from __future__ import annotations

import asyncio
import json

from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel
from report import (
    API_KEY,
    BASE_URL,
    EMBEDDING_MODEL,
    HISTORY,
    MODEL,
    QUESTION,
    expect,
    refused,
    report,
)

client = OpenAI(base_url=BASE_URL, api_key=API_KEY)
MESSAGES = [{"role": "user", "content": QUESTION}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}


class Mood(BaseModel):
    feeling: str
    strength: int


def chat() -> str:
    answer = client.chat.completions.create(model=MODEL, messages=MESSAGES)
    expect(answer.usage.total_tokens > 0, answer.usage)
    return answer.choices[0].message.content


def stream() -> str:
    pieces = list(
        client.chat.completions.create(
            model=MODEL,
            messages=MESSAGES,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    expect(pieces[-1].usage.total_tokens > 0, pieces[-1])
    said = [piece.choices[0].delta.content or "" for piece in pieces if piece.choices]
    expect(len(said) > 2 and asyncio.run(at_once()) == "".join(said), said)
    return "".join(said)


async def at_once() -> str:
    """Ask the same of the asynchronous client, in one piece."""
    async with AsyncOpenAI(base_url=BASE_URL, api_key=API_KEY) as other:
        answer = await other.chat.completions.create(model=MODEL, messages=MESSAGES)
        return answer.choices[0].message.content


def history() -> str:
    messages = [{"role": role, "content": text} for role, text in HISTORY]
    answer = client.chat.completions.create(model=MODEL, messages=messages)
    expect(answer.usage.prompt_tokens > 30, answer.usage)
    return answer.choices[0].message.content


def errors() -> str:
    def ask() -> object:
        return client.chat.completions.create(model=MODEL, messages=MESSAGES, temperature=9)

    return refused(ask, "BadRequestError")


def models() -> str:
    names = [model.id for model in client.models.list()]
    expect(MODEL in names, names)
    return client.models.retrieve(MODEL).id


def embeddings() -> str:
    made = client.embeddings.create(model=EMBEDDING_MODEL, input=["a cat", "a kitten"])
    listed = client.embeddings.create(model=EMBEDDING_MODEL, input="a cat", encoding_format="float")
    near = zip(made.data[0].embedding, listed.data[0].embedding, strict=True)
    expect(all(abs(one - other) < 1e-6 for one, other in near), "base64 and float differ")
    return f"{len(made.data)} of {len(made.data[0].embedding)}"


def tools() -> str:
    """Have a tool called, streamed and not, and answer with what the tool said."""
    asked = {"model": MODEL, "tools": [WEATHER], "messages": MESSAGES}
    answer = client.chat.completions.create(**asked, tool_choice="required")
    message = answer.choices[0].message
    call = message.tool_calls[0]
    expect("city" in json.loads(call.function.arguments), call)
    streamed = client.chat.completions.create(**asked, tool_choice="required", stream=True)
    pieces = [c for piece in streamed for c in piece.choices[0].delta.tool_calls or ()]
    expect(json.loads("".join(piece.function.arguments for piece in pieces)), pieces)
    asked["messages"] = [
        *MESSAGES,
        message,
        {"role": "tool", "tool_call_id": call.id, "content": "Rain"},
    ]
    expect(client.chat.completions.create(**asked).choices[0].message.content, "no answer")
    return f"{call.function.name}({call.function.arguments})"


def structure() -> str:
    plain = client.chat.completions.create(
        model=MODEL, messages=MESSAGES, response_format={"type": "json_object"}
    )
    expect(isinstance(json.loads(plain.choices[0].message.content), dict), plain)
    parsed = client.chat.completions.parse(model=MODEL, messages=MESSAGES, response_format=Mood)
    return repr(parsed.choices[0].message.parsed)


def completions() -> str:
    whole = client.completions.create(model="gpt-3.5-turbo-instruct", prompt=QUESTION)
    pieces = client.completions.create(model="gpt-3.5-turbo-instruct", prompt=QUESTION, stream=True)
    said = "".join(piece.choices[0].text for piece in pieces)
    expect(said == whole.choices[0].text, (said, whole))
    return said


def moderations() -> str:
    found = client.moderations.create(input="I will kill you.")
    return str(found.results[0].flagged)


if __name__ == "__main__":
    report(
        *(chat, stream, history, errors, models, embeddings, tools, structure, completions),
        moderations,
    )
