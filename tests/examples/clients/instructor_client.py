"""instructor: answers as objects, by tools and by JSON."""

# mypy: ignore-errors

from __future__ import annotations

import logging

import instructor
from openai import OpenAI
from pydantic import BaseModel
from report import API_KEY, BASE_URL, HISTORY, MODEL, QUESTION, expect, refused, report

logging.disable()
MESSAGES = [{"role": "user", "content": QUESTION}]


class Mood(BaseModel):
    """How somebody feels."""

    feeling: str
    strength: int


def patched(mode: str) -> instructor.Instructor:
    client = OpenAI(base_url=BASE_URL, api_key=API_KEY)
    return instructor.from_openai(client, mode=instructor.Mode[mode])


def created(mode: str, **more: object) -> Mood:
    asked = {"model": MODEL, "messages": MESSAGES, "max_retries": 0} | more
    found = patched(mode).create(response_model=Mood, **asked)
    expect(isinstance(found, Mood), found)
    return found


def chat() -> str:
    found, answer = patched("TOOLS").create_with_completion(
        response_model=Mood, model=MODEL, messages=MESSAGES
    )
    expect(answer.usage.total_tokens > 0, answer)
    return repr(found)


def stream() -> str:
    """Have an object grow, and a list of objects come one by one."""
    partial = list(patched("TOOLS").create_partial(Mood, messages=MESSAGES, model=MODEL))
    expect(len(partial) > 1, partial)
    return f"{len(list(patched('TOOLS').create_iterable(MESSAGES, Mood, model=MODEL)))} objects"


def history() -> str:
    messages = [{"role": role, "content": text} for role, text in HISTORY]
    return repr(created("TOOLS", messages=messages))


def errors() -> str:
    return refused(lambda: created("TOOLS", temperature=9), "Exception")


def tools() -> str:
    return repr(created("TOOLS"))


def structure() -> str:
    """Send the schema with the request; the modes that put it into the prompt need a model."""
    modes = ("JSON_SCHEMA", "TOOLS_STRICT")
    return ", ".join(f"{mode}: {created(mode)!r}" for mode in modes)


if __name__ == "__main__":
    report(chat, stream, history, errors, tools, structure)
