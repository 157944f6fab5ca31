"""LangChain's package for OpenAI, told to use the Responses API."""

# mypy: ignore-errors

from __future__ import annotations

from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel
from report import API_KEY, BASE_URL, HISTORY, MODEL, QUESTION, expect, refused, report

KINDS = {"system": SystemMessage, "user": HumanMessage, "assistant": AIMessage}
TURNS = ("My name is Ada.", "What is the weather like in Oslo?", "And the weather in Rome?")
SERVER = {"model": MODEL, "base_url": BASE_URL, "api_key": API_KEY, "use_responses_api": True}
llm = ChatOpenAI(**SERVER)
#: goes on from the response before by itself
chained = ChatOpenAI(**SERVER, use_previous_response_id=True)
unkept = ChatOpenAI(**SERVER, store=False)


class Mood(BaseModel):
    """How somebody feels."""

    feeling: str
    strength: int


@tool
def weather(city: str) -> str:
    """Tell the weather of a city."""
    return f"18 degrees in {city}"


def chat() -> str:
    answer = llm.invoke(QUESTION)
    expect(answer.usage_metadata["total_tokens"] > 0, answer)
    expect(answer.response_metadata["id"].startswith("resp_"), answer)
    return answer.text


def stream() -> str:
    pieces = list(llm.stream(QUESTION))
    whole = pieces[0]
    for piece in pieces[1:]:
        whole += piece
    expect(len(pieces) > 2 and whole.usage_metadata["total_tokens"] > 0, whole)
    return whole.text


def history() -> str:
    return llm.invoke([KINDS[role](text) for role, text in HISTORY]).text


def errors() -> str:
    return refused(lambda: llm.bind(temperature=9).invoke(QUESTION), "BadRequestError")


def structure() -> str:
    for method in ("function_calling", "json_schema"):
        found = llm.with_structured_output(Mood, method=method).invoke(QUESTION)
        expect(isinstance(found, Mood), found)
    return repr(found)


def tools() -> str:
    call = llm.bind_tools([weather], tool_choice="any").invoke(QUESTION).tool_calls[0]
    expect(call["name"] == "weather" and "city" in call["args"], call)
    return str(call["args"])


def turns() -> str:
    """Three turns, all said sent again; then from the response before, then kept by nobody."""
    said = answers(llm)
    expect(answers(chained) == said and answers(unkept) == said, said)
    return said


def answers(model: ChatOpenAI) -> str:
    said, called = [], 0
    bound = model.bind_tools([weather])
    for question in TURNS:
        said.append(HumanMessage(question))
        said.append(bound.invoke(said))
        while calls := said[-1].tool_calls:
            called += len(calls)
            said += [
                ToolMessage(weather.invoke(call["args"]), tool_call_id=call["id"]) for call in calls
            ]
            said.append(streamed(bound, said))
    expect(called == 2, said)
    return said[-1].text


def streamed(model: object, said: list[object]) -> object:
    pieces = list(model.stream(said))
    whole = pieces[0]
    for piece in pieces[1:]:
        whole += piece
    return whole


if __name__ == "__main__":
    report(chat, stream, history, errors, structure, tools, turns)
