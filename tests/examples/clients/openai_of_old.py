"""OpenAI's Python client before version 1, as the programs of 2023 use it."""

# mypy: ignore-errors

from __future__ import annotations

import json

import openai
from report import API_KEY, BASE_URL, HISTORY, MODEL, QUESTION, expect, refused, report

openai.api_base, openai.api_key = BASE_URL, API_KEY
MESSAGES = [{"role": "user", "content": QUESTION}]
INSTRUCT = "gpt-3.5-turbo-instruct"
WEATHER = {
    "name": "weather",
    "description": "The weather of a city",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}


def chat() -> str:
    answer = openai.ChatCompletion.create(model=MODEL, messages=MESSAGES)
    expect(answer["usage"]["total_tokens"] > 0, answer)
    return answer["choices"][0]["message"]["content"]


def stream() -> str:
    pieces = openai.ChatCompletion.create(model=MODEL, messages=MESSAGES, stream=True)
    said = [piece["choices"][0]["delta"].get("content", "") for piece in pieces]
    expect(len(said) > 2, said)
    return "".join(said)


def history() -> str:
    messages = [{"role": role, "content": text} for role, text in HISTORY]
    answer = openai.ChatCompletion.create(model=MODEL, messages=messages)
    return answer.choices[0].message.content


def errors() -> str:
    def ask() -> object:
        return openai.ChatCompletion.create(model=MODEL, messages=MESSAGES, temperature=9)

    return refused(ask, "InvalidRequestError")


def models() -> str:
    names = [model.id for model in openai.Model.list().data]
    expect(MODEL in names, names)
    return f"{openai.Model.retrieve(MODEL).id}, {len(openai.Engine.list().data)} engines"


def embeddings() -> str:
    made = openai.Embedding.create(model="text-embedding-ada-002", input=["a cat", "a kitten"])
    by_engine = openai.Embedding.create(engine="text-embedding-ada-002", input=[[64, 8415]])
    expect(len(by_engine.data) == 1, by_engine)
    return f"{len(made.data)} of {len(made.data[0].embedding)}"


def tools() -> str:
    """Have a function called: there were no tools yet."""
    answer = openai.ChatCompletion.create(
        model=MODEL, messages=MESSAGES, functions=[WEATHER], function_call={"name": "weather"}
    )
    message = answer.choices[0].message
    call = message.function_call
    json.loads(call.arguments)
    told = {"role": "function", "name": "weather", "content": "Rain"}
    again = openai.ChatCompletion.create(
        model=MODEL, messages=[*MESSAGES, message, told], functions=[WEATHER]
    )
    expect(again.choices[0].message.content, again)
    return f"{call.name}({call.arguments})"


def structure() -> str:
    answer = openai.ChatCompletion.create(
        model=MODEL, messages=MESSAGES, response_format={"type": "json_object"}
    )
    return str(json.loads(answer.choices[0].message.content))


def completions() -> str:
    answer = openai.Completion.create(model=INSTRUCT, prompt=QUESTION)
    by_engine = openai.Completion.create(engine=INSTRUCT, prompt=QUESTION, stream=True)
    said = "".join(piece.choices[0].text for piece in by_engine)
    expect(said == answer.choices[0].text, (said, answer))
    return said


def moderations() -> str:
    return str(openai.Moderation.create(input="I will kill you.").results[0].flagged)


if __name__ == "__main__":
    report(
        *(chat, stream, history, errors, models, embeddings, tools, structure, completions),
        moderations,
    )
