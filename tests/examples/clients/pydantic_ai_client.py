"""pydantic-ai's agents over chat completions."""

# mypy: ignore-errors

from __future__ import annotations

import asyncio

from pydantic import BaseModel
from pydantic_ai import Agent, Embedder, NativeOutput, ToolOutput
from pydantic_ai.embeddings.openai import OpenAIEmbeddingModel
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from report import API_KEY, BASE_URL, EMBEDDING_MODEL, MODEL, QUESTION, expect, refused, report

provider = OpenAIProvider(base_url=BASE_URL, api_key=API_KEY)
model = OpenAIChatModel(MODEL, provider=provider)


class Mood(BaseModel):
    """How somebody feels."""

    feeling: str
    strength: int


def chat() -> str:
    done = Agent(model).run_sync(QUESTION)
    expect(done.usage.output_tokens > 0, done.usage)
    return done.output


async def streamed() -> list[str]:
    async with Agent(model).run_stream(QUESTION) as answer:
        return [piece async for piece in answer.stream_text(delta=True, debounce_by=None)]


def stream() -> str:
    pieces = asyncio.run(streamed())
    expect(len(pieces) > 2, pieces)
    return "".join(pieces)


def history() -> str:
    agent = Agent(model, instructions="You are kind.")
    first = agent.run_sync("My name is Ada.")
    second = agent.run_sync("Do you remember my name?", message_history=first.all_messages())
    expect(second.usage.input_tokens > first.usage.input_tokens, second.usage)
    return second.output


def errors() -> str:
    return refused(
        lambda: Agent(model).run_sync(QUESTION, model_settings={"temperature": 9}),
        "ModelHTTPError",
    )


def embeddings() -> str:
    embedder = Embedder(OpenAIEmbeddingModel(EMBEDDING_MODEL, provider=provider))
    made = embedder.embed_documents_sync(["a cat", "a kitten"]).embeddings
    return f"{len(made)} of {len(made[0])}"


def tools() -> str:
    """Have the answer given by calling a tool, while another one is offered."""
    agent = Agent(model, output_type=ToolOutput(Mood))

    @agent.tool_plain
    def weather(city: str) -> str:
        """Tell the weather of a city."""
        return f"Rain in {city}"

    return repr(agent.run_sync(QUESTION).output)


def structure() -> str:
    """Send the schema with the request; a prompted one needs a model."""
    return repr(Agent(model, output_type=NativeOutput(Mood)).run_sync(QUESTION).output)


if __name__ == "__main__":
    report(chat, stream, history, errors, embeddings, tools, structure)
