"""Whatever became of a conversation's turns, what is sent obeys the strictest template's rules."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from itertools import count

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from server.app.core import core_of
from server.core.conversations import Ask, Conversations, Regenerate
from server.core.errors import RefusedError
from server.core.prompt.characters import Character, Characters
from server.core.prompt.compose import CountingSettings
from server.core.turns.plan import Defaults
from server.core.turns.tools import ToolResult
from server.openai_protocol.messages import called, calls_in
from server.upstream.port import (
    Finish,
    Prompt,
    UpstreamFailedError,
    UpstreamOverflowError,
    UpstreamRejectedError,
)
from storage.model import Message, Role, Turn
from storage.parts import Kind, Part
from storage.port import StoreError
from storage.sqlite.store import SQLiteStore
from tests.server.core.strictest import check_strictest
from tests.storage.nouns import ADA, message

OPTIONS = {"tools": [{"type": "function", "function": {"name": "find"}}]}
MODEL = "a-model-nobody-knows"
#: how an answer ends, which may have begun or not
ENDS = ("finishes", "is refused", "is too long", "breaks", "hangs")
STARTS = (
    "nothing",
    "words",
    "thoughts",
    "a refusal",
    "a call",
    "words and two calls",
    "half a call",
)


@dataclass(frozen=True)
class Step:
    """What is done, to which of the messages, and what the upstream makes of it."""

    what: str
    place: int
    starts: str
    ends: str


steps = st.builds(
    Step,
    st.sampled_from(("ask", "ask", "ask", "branch", "regenerate", "answer", "summarise")),
    st.integers(0, 30),
    st.sampled_from(STARTS),
    st.sampled_from(ENDS),
)
numbers = count()


def begun(starts: str, number: int) -> Sequence[str | Part]:
    """Return how an answer begins."""

    def call(which: str, arguments: str = "{}") -> Sequence[str | Part]:
        return Part(Kind.TOOL_CALL, f"call_{number}{which}", "find"), arguments

    match starts:
        case "words":
            return ["Words."]
        case "thoughts":
            return [Part(Kind.REASONING), "Hm."]
        case "a refusal":
            return [Part(Kind.REFUSAL), "No."]
        case "a call":
            return call("a")
        case "words and two calls":
            return ["Let me look.", *call("a"), *call("b")]
        case "half a call":
            return call("a", '{"wh')
        case _:
            return []


class Whim:
    """Does what the next step says, and remembers what it was asked."""

    name = "whim"

    def __init__(self) -> None:
        self.prompts: list[Prompt] = []
        self.step = Step("ask", 0, "words", "finishes")
        self.hanging = asyncio.Event()

    async def complete(self, prompt: Prompt) -> AsyncIterator[str | Part | Finish]:
        self.prompts.append(prompt)
        for piece in begun(self.step.starts, len(self.prompts)):
            yield piece
        match self.step.ends:
            case "is refused":
                raise UpstreamRejectedError("no", 400)
            case "is too long":
                raise UpstreamOverflowError("long", 400, tokens=9000, window=6000)
            case "breaks":
                raise UpstreamFailedError("broken")
            case "hangs":
                self.hanging.set()
                await asyncio.Event().wait()
        yield Finish("tool_calls" if "call" in self.step.starts else "stop")

    async def close(self) -> None: ...


@settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    st.lists(steps, min_size=2, max_size=12),
    st.sampled_from((None, "pirate")),
    st.sampled_from((300, 600, 8000)),
)
async def test_it_obeys_the_strictest_template(
    store: SQLiteStore, steps: Sequence[Step], character: str | None, window: int
) -> None:
    whim, name = Whim(), f"c{next(numbers)}"
    pirate = Character("You are a pirate.", "Arr, who goes there?")
    counting = CountingSettings(window=window, max_tokens=50)
    defaults = Defaults(MODEL, counting=counting, characters=Characters({"pirate": pirate}))
    async with core_of(store, whim, defaults) as core:
        first = Ask("Ahoy, what " * 9, character=character)
        await followed(core, await core.ask(ADA, name, first))
        await core.update(ADA, name, {"truncation": "summarize"})
        for step in steps:
            whim.step = step
            there = await store.every_message(ADA, name, after=None, limit=100)
            whim.hanging.clear()
            try:
                await done(core, store, whim, name, step, there)
            except (RefusedError, StoreError):  # a wish that cannot be, such as calls left open
                continue
    for prompt in whim.prompts:
        check_strictest(prompt.messages)
        assert prompt.messages[-1].role in (Role.USER, Role.TOOL)


async def done(
    core: Conversations,
    store: SQLiteStore,
    whim: Whim,
    name: str,
    step: Step,
    there: Sequence[Message],
) -> None:
    """Do what a step says, and wait until it is over."""
    chosen = there[step.place % len(there)] if there else None
    asking = Ask("And what of this? " * 12, options=OPTIONS)
    match step.what:
        case "ask":
            turn = await core.ask(ADA, name, asking)
        case "branch":
            parent = chosen.id if chosen else "root"
            turn = await core.ask(ADA, name, Ask("Another way.", parent, options=OPTIONS))
        case "regenerate":
            turn = await core.regenerate(
                ADA, name, Regenerate(message_id=chosen.id if chosen else None)
            )
        case "answer":
            calling = [one for one in there if calls_in(one.content)]
            above = calling[step.place % len(calling)] if calling else None
            open_ = calls_in(above.content) if above else []
            results = tuple(ToolResult(called(call), "4 degrees") for call in open_)
            words = step.starts if step.place % 3 else ""
            turn = await core.ask(
                ADA,
                name,
                Ask(words, above.id if above else None, tool_results=results, options=OPTIONS),
            )
        case _:
            if chosen is not None:
                await store.summarise(ADA, summary(name, chosen))
            return
    await followed(core, turn, whim)


def summary(name: str, above: Message) -> Message:
    more = {"conversation_id": name, "stands_for": above.depth}
    return message(f"sum-{next(numbers)}", above.id, Role.SYSTEM, "They spoke.", 4, **more)


async def followed(core: Conversations, turn: Turn, whim: Whim | None = None) -> None:
    """Wait for a turn's end, and cancel it where it hangs."""
    over = asyncio.create_task(read(core, turn))
    hangs = asyncio.create_task(whim.hanging.wait()) if whim else None
    waited = [one for one in (over, hangs) if one is not None]
    await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
    if not over.done():
        await core.cancel(ADA, turn.id)
    await over
    if hangs is not None:
        hangs.cancel()


async def read(core: Conversations, turn: Turn) -> None:
    async for _ in core.follow(ADA, turn.id):
        pass
