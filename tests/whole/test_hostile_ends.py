"""Whatever an upstream says last: the turn ends, its text is kept, the next ask is answered."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.live import Fork
from tests.support.upstream_script import MODEL, Behaviour, event, say
from tests.support.upstream_server import ScriptedUpstream
from tests.support.wires import WIRES
from tests.whole.listening import checked

HALF = "Half an answer."
JOINED = ("joined", "joined stream")
PASSED = ("passed", "passed stream", "stored", "stored stream")
LONE, PAST = "\ud83d", 1 << 63

words = st.sampled_from(["", "stop", "tool_calls", LONE, "st\0op", "x" * 100_000, "text"])
numbers = st.sampled_from([0, -1, 7, 7.0, 0.5, PAST - 1, PAST, -PAST, 10**400, 1e300])
odd: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, False, float("nan"), float("inf"), [], {}, [[]]]
)
values = st.recursive(
    words | numbers | odd,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["id", "type", "index", "function", "name", "arguments", "text", LONE]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


def some(*names: str) -> st.SearchStrategy[dict[str, Any]]:
    """Return objects that have some of these fields, of any value."""
    return st.fixed_dictionaries({}, optional=dict.fromkeys(names, values))


counts = some("prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details")
function = some("name", "arguments")
calls = st.lists(
    st.fixed_dictionaries(
        {}, optional={"index": values, "id": values, "type": values, "function": function | values}
    ),
    max_size=3,
)
deltas = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(("role", "content", "refusal", "reasoning_content"), values),
        "tool_calls": calls | values,
        "function_call": function | values,
    },
)
choices = st.fixed_dictionaries(
    {"finish_reason": st.just("stop") | words | values},
    optional={"delta": deltas | values, "index": st.just(0) | values, "logprobs": values},
)
chunks = st.fixed_dictionaries(
    {"choices": st.lists(choices, min_size=1, max_size=2) | values},
    optional={
        "usage": counts | values,
        **dict.fromkeys(("id", "model", "created", "service_tier", "error"), values),
    },
)


def ending(**choice: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop", **choice}]}


def used(prompt: object, completion: object) -> dict[str, Any]:
    return ending() | {"usage": {"prompt_tokens": prompt, "completion_tokens": completion}}


def deep(levels: int) -> Any:
    inner: Any = "the end"
    for _ in range(levels):
        inner = [inner]
    return inner


def last_words(chunk: Mapping[str, Any]) -> Behaviour:
    """Say half an answer, then this."""
    return say(HALF, event(chunk), finish=None, usage=None)


@dataclass(frozen=True)
class World:
    """A server in a process of its own, and the upstream that it asks."""

    server: Fork
    upstream: ScriptedUpstream
    client: httpx2.AsyncClient
    numbers: itertools.count[int]

    async def asks(self, way: str, chunk: Mapping[str, Any]) -> None:
        """Have a turn ended with a chunk, and see that nothing was lost and nothing stands."""
        name = f"c{next(self.numbers)}"
        self.upstream.script(last_words(chunk), say("Fine."))
        if way in WIRES:
            told = [one async for one in WIRES[way](self.server).ask(name, "Hi")]
            end = checked(told).turn
            assert end is not None
            assert end["status"] in ("completed", "failed")
            assert end["answer"].startswith(HALF)
        else:
            await self._posts(name if way in JOINED else None, way)
        if way in PASSED:
            await self._posts(None, "passed", well=True)
        else:
            await self._goes_on(name)

    async def _posts(self, conversation: str | None, way: str, *, well: bool = False) -> None:
        said = [{"role": "user", "content": "Hi"}]
        body: dict[str, Any] = {"model": MODEL, "messages": said}
        body |= {"stream": way.endswith("stream"), "store": way.startswith("stored")}
        headers = {} if conversation is None else {"x-conversation-id": conversation}
        answer = await self.client.post("/v1/chat/completions", json=body, headers=headers)
        assert answer.status_code in ((200,) if well else (200, 502)) or (
            400 <= answer.status_code < 500 and answer.json()["error"]["message"]
        ), answer.text
        if way.endswith("stream") and answer.status_code == 200:
            assert "Half" in answer.text
            assert answer.text.endswith("\n\n")

    async def _goes_on(self, name: str) -> None:
        """See that the text is kept, on every wire, and that the next ask is answered."""
        asked = await self.client.post(f"/ask/{name}", json={"prompt": "Go on"})
        assert asked.status_code == 200, asked.text
        assert (asked.json()["status"], asked.json()["answer"]) == ("completed", "Fine.")
        for wire in WIRES.values():
            _, first, *_ = await wire(self.server).messages(name)
            assert HALF in json.dumps(first[1]), first
        page = (await self.client.get(f"/conversations/{name}/messages")).json()["data"]
        turn = (await self.client.get(f"/turns/{page[1]['turn_id']}")).json()
        assert turn["status"] in ("completed", "failed")
        assert turn["answer"].startswith(HALF)


@asynccontextmanager
async def world(folder: Path) -> AsyncIterator[World]:
    async with ScriptedUpstream(models=(MODEL,)) as upstream:
        env = {
            "OPENAI_API_KEY": "k",
            "OPENAI_BASE_URL": upstream.base_url,
            "TRIALOGUE_MODEL": MODEL,
            "TRIALOGUE_TOKEN_BUDGET": "999999999999999/month",
        }
        async with (
            Fork(folder, env=env) as server,
            httpx2.AsyncClient(base_url=server.http, timeout=60, verify=False) as client,
        ):
            yield World(server, upstream, client, itertools.count())


#: what wedged turns once, and its like
KNOWN = (
    ending(finish_reason=LONE),
    ending(finish_reason="x" * 100_000),
    used(PAST, PAST),
    used(PAST - 1, 1),
    used(-5, 7),
    used(10**400, 1e300),
    ending() | {"model": LONE, "id": LONE},
    ending() | {"error": {"message": LONE, "code": LONE, "type": "invalid_request_error"}},
    ending(delta={"role": {"a": 1}, "refusal": LONE}),
    ending(delta={"tool_calls": [{"type": "text", "id": LONE, "function": {"name": LONE}}]}),
    ending(delta={"tool_calls": [{"function": {"name": "f", "arguments": 10**400}, "x": 1 << 70}]}),
    ending(delta={"tool_calls": [{"id": deep(900), "function": {"x": deep(500)}}]}),
)


@pytest.mark.parametrize("way", [*WIRES, *JOINED, *PASSED])
def test_every_end_of_a_hostile_upstream_is_kept(tmp_path: Path, way: str) -> None:
    with asyncio.Runner() as runner:
        opened = world(tmp_path)
        here = runner.run(opened.__aenter__())

        @settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
        @given(chunks)
        def ends(chunk: dict[str, Any]) -> None:
            runner.run(here.asks(way, chunk))

        try:
            for chunk in KNOWN:
                runner.run(here.asks(way, chunk))
            ends()
        finally:
            runner.run(opened.__aexit__(None, None, None))
    assert "turn broke" not in here.server.log
