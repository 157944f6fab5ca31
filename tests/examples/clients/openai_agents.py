"""OpenAI's Agents SDK for Python, with its default: the Responses API."""

# mypy: ignore-errors

from __future__ import annotations

import asyncio

from agents import (
    Agent,
    ModelSettings,
    OpenAIConversationsSession,
    OpenAIProvider,
    RunConfig,
    Runner,
    function_tool,
    handoff,
    set_default_openai_client,
    set_tracing_disabled,
)
from openai import AsyncOpenAI
from pydantic import BaseModel
from report import API_KEY, BASE_URL, MODEL, QUESTION, expect, refused, report

client = AsyncOpenAI(base_url=BASE_URL, api_key=API_KEY)
set_default_openai_client(client, use_for_tracing=False)
set_tracing_disabled(True)
TURNS = ("My name is Ada.", "What is the weather like in Oslo?", "And the weather in Rome?")


class Mood(BaseModel):
    feeling: str
    strength: int


@function_tool
def weather(city: str) -> str:
    """The weather of a city."""
    asked.append(city)
    return "18 degrees"


asked: list[str] = []
agent = Agent(name="Helper", instructions="Be kind.", model=MODEL, tools=[weather])


loop = asyncio.new_event_loop()


def run(*given: object, **how: object) -> object:
    return loop.run_until_complete(Runner.run(*given, **how))


def chat() -> str:
    done = run(agent, QUESTION)
    expect(done.context_wrapper.usage.total_tokens > 0, done)
    return done.final_output


def stream() -> str:
    return loop.run_until_complete(streamed(QUESTION))


async def streamed(question: str, **how: object) -> str:
    run = Runner.run_streamed(agent, question, **how)
    kinds = [
        event.data.type async for event in run.stream_events() if event.type == "raw_response_event"
    ]
    expect(kinds[0] == "response.created" and kinds[-1] == "response.completed", kinds)
    return run.final_output


def structure() -> str:
    return repr(run(agent.clone(output_type=Mood, tools=[]), QUESTION).final_output)


def tools() -> str:
    """The agent asks until it has an answer; what is forced once is not forced again."""
    forced = agent.clone(model_settings=ModelSettings(tool_choice="required"))
    asked.clear()
    told = run(forced, QUESTION).final_output
    expect(len(asked) == 1 and told, asked)
    other = Agent(name="Other", model=MODEL)
    choice = ModelSettings(tool_choice="transfer_to_other")
    first = Agent(name="First", model=MODEL, handoffs=[handoff(other)], model_settings=choice)
    done = run(first, QUESTION)
    expect(done.last_agent is other, done)
    return told


def turns() -> str:
    """Three turns, all said sent again; then by the response before, then kept by nobody."""
    said = answers(lambda before: {"input": before.to_input_list() if before else []})
    chained = answers(
        lambda before: {"previous_response_id": before.last_response_id if before else None}
    )
    unkept = RunConfig(model_settings=ModelSettings(store=False))
    again = answers(
        lambda before: {"input": before.to_input_list() if before else [], "run_config": unkept}
    )
    expect(said == chained == again, (said, chained, again))
    return said


def answers(how: object) -> str:
    before = None
    asked.clear()
    for question in TURNS:
        given = how(before)
        said = [*given.pop("input", []), {"role": "user", "content": question}]
        before = run(agent, said, **given)
    expect(len(asked) == 2, asked)
    return before.final_output


def conversations() -> str:
    """Three turns in a session that the server keeps, and three in a conversation by its id."""
    return loop.run_until_complete(kept())


async def kept() -> str:
    session = OpenAIConversationsSession()
    asked.clear()
    for question in TURNS:
        done = await Runner.run(agent, question, session=session)
    held = await client.conversations.create()
    for question in TURNS:
        other = await Runner.run(agent, question, conversation_id=held.id)
    expect(len(asked) == 4 and done.final_output == other.final_output, (done, other))
    items = [item async for item in client.conversations.items.list(held.id)]
    told = await session.get_items()
    expect([one["type"] for one in told] == [one.type for one in items[::-1]], told)
    return done.final_output


def websocket() -> str:
    return loop.run_until_complete(by_websocket())


async def by_websocket() -> str:
    provider = OpenAIProvider(
        openai_client=client, use_responses=True, use_responses_websocket=True
    )
    config = RunConfig(model_provider=provider)
    said = await streamed(QUESTION, run_config=config)
    again = await streamed(TURNS[1], run_config=config)
    expect(said and again, said)
    await provider.aclose()
    return said


def errors() -> str:
    hot = agent.clone(model_settings=ModelSettings(temperature=9))
    return refused(lambda: run(hot, QUESTION), "BadRequestError")


if __name__ == "__main__":
    report(chat, stream, errors, structure, tools, turns, conversations, websocket)
