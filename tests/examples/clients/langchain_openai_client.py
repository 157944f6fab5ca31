"""LangChain's package for OpenAI."""

# mypy: ignore-errors

from __future__ import annotations

from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAI, OpenAIEmbeddings
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

SERVER = {"base_url": BASE_URL, "api_key": API_KEY}
KINDS = {"system": SystemMessage, "user": HumanMessage, "assistant": AIMessage}
llm = ChatOpenAI(model=MODEL, **SERVER)


class Mood(BaseModel):
    """How somebody feels."""

    feeling: str
    strength: int


@tool
def weather(city: str) -> str:
    """Tell the weather of a city."""
    return f"Rain in {city}"


def chat() -> str:
    answer = llm.invoke(QUESTION)
    expect(answer.usage_metadata["total_tokens"] > 0, answer)
    return answer.content


def stream() -> str:
    pieces = list(llm.stream(QUESTION, stream_usage=True))
    whole = pieces[0]
    for piece in pieces[1:]:
        whole += piece
    expect(len(pieces) > 2 and whole.usage_metadata["total_tokens"] > 0, whole)
    return whole.content


def history() -> str:
    return llm.invoke([KINDS[role](text) for role, text in HISTORY]).content


def errors() -> str:
    return refused(lambda: llm.bind(temperature=9).invoke(QUESTION), "BadRequestError")


def embeddings() -> str:
    embedder = OpenAIEmbeddings(model=EMBEDDING_MODEL, check_embedding_ctx_length=False, **SERVER)
    made = embedder.embed_documents(["a cat", "a kitten"])
    return f"{len(made)} of {len(made[0])}"


def tools() -> str:
    asked = [HumanMessage(QUESTION)]
    answer = llm.bind_tools([weather], tool_choice="any").invoke(asked)
    call = answer.tool_calls[0]
    told = ToolMessage(weather.invoke(call["args"]), tool_call_id=call["id"])
    expect(llm.bind_tools([weather]).invoke([*asked, answer, told]).content, "no answer")
    return str(call)


def structure() -> str:
    for method in ("function_calling", "json_schema"):
        found = llm.with_structured_output(Mood, method=method).invoke(QUESTION)
        expect(isinstance(found, Mood), found)
    return repr(found)


def completions() -> str:
    return OpenAI(model="gpt-3.5-turbo-instruct", **SERVER).invoke(QUESTION)


if __name__ == "__main__":
    report(chat, stream, history, errors, embeddings, tools, structure, completions)
