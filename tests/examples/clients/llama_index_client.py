"""LlamaIndex's classes for servers that are like OpenAI's."""

# mypy: ignore-errors

from __future__ import annotations

from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from llama_index.llms.openai_like import OpenAILike
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

SERVER = {"api_base": BASE_URL, "api_key": API_KEY}
ASKED = [ChatMessage(role="user", content=QUESTION)]
llm = OpenAILike(model=MODEL, is_chat_model=True, is_function_calling_model=True, **SERVER)


class Mood(BaseModel):
    """How somebody feels."""

    feeling: str
    strength: int


def weather(city: str) -> str:
    """Tell the weather of a city."""
    return f"Rain in {city}"


def chat() -> str:
    answer = llm.chat(ASKED)
    expect(answer.raw.usage.total_tokens > 0, answer.raw)
    return answer.message.content


def stream() -> str:
    pieces = [piece.delta or "" for piece in llm.stream_chat(ASKED)]
    expect(len(pieces) > 2, pieces)
    return "".join(pieces)


def history() -> str:
    return llm.chat(
        [ChatMessage(role=role, content=text) for role, text in HISTORY]
    ).message.content


def errors() -> str:
    return refused(lambda: llm.chat(ASKED, temperature=9), "BadRequestError")


def embeddings() -> str:
    embedder = OpenAILikeEmbedding(model_name=EMBEDDING_MODEL, **SERVER)
    made = embedder.get_text_embedding_batch(["a cat", "a kitten"])
    return f"{len(made)} of {len(made[0])}"


def tools() -> str:
    offered = [FunctionTool.from_defaults(weather)]
    answer = llm.chat_with_tools(offered, QUESTION, tool_required=True)
    calls = llm.get_tool_calls_from_response(answer)
    return str(calls[0].tool_kwargs)


def structure() -> str:
    """Have an object made, which LlamaIndex does by calling a tool."""
    return repr(llm.as_structured_llm(Mood).chat(ASKED).raw)


def completions() -> str:
    old = OpenAILike(model="gpt-3.5-turbo-instruct", is_chat_model=False, **SERVER)
    pieces = "".join(piece.delta or "" for piece in old.stream_complete(QUESTION))
    whole = old.complete(QUESTION).text
    expect(pieces == whole, (pieces, whole))
    return whole


if __name__ == "__main__":
    report(chat, stream, history, errors, embeddings, tools, structure, completions)
