"""kill -9 between any two characters of an answer: what was kept is an answer, with an end."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx2

from tests.server.transports.openai.responses.stateful import (
    RESPONSES,
    asked,
    scripted_env,
    streamed,
)
from tests.support.live import Fork
from tests.support.upstream_script import event, say
from tests.support.upstream_server import ScriptedUpstream


def _call(index: int, arguments: str, **more: Any) -> dict[str, Any]:
    function = {"arguments": arguments, **more.pop("function", {})}
    return {"tool_calls": [{"index": index, "function": function, **more}]}


#: A thought and two calls that are written in turns, a character at a time.
DELTAS = [
    {"reasoning_content": "H"},
    {"reasoning_content": "m"},
    _call(0, "", id="call_a", function={"name": "look"}),
    _call(1, "", id="call_b", function={"name": "find"}),
    *(_call(0, "{"), _call(1, "{"), _call(0, "}"), _call(1, "}")),
]
#: What is kept behind so many of them, with its marks: the second call waits for the first.
ROWS = ["", "rH", "rHm", "rHma", "rHma", "rHma{", "rHma{", "rHma{}b{", "rHma{}b{}"]


async def kept(history: Path, lengths: list[int]) -> None:
    """Wait until checkpoints have rows of these lengths."""
    with closing(sqlite3.connect(history)) as database:
        while True:
            rows = database.execute(
                "SELECT sum(length(text)) AS row FROM checkpoints GROUP BY turn ORDER BY row"
            ).fetchall()
            if [length for (length,) in rows] == lengths:
                return
            await asyncio.sleep(0.05)


async def test_whatever_was_kept_of_an_answer_is_told_to_its_end(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    chunks = [event({"choices": [{"index": 0, "delta": delta}]}) for delta in DELTAS]
    env = scripted_env(upstream)
    begun = []
    async with Fork(tmp_path, env=env) as server, httpx2.AsyncClient(base_url=server.http) as http:
        for end in range(len(chunks) + 1):
            upstream.script(say(*chunks[:end], asyncio.Event()))
            answer = await http.post(RESPONSES, json=asked(background=True))
            begun.append(answer.json()["id"])
        await kept(tmp_path / "trialogue.db", [len(row) for row in ROWS if row])
        server.kill()
        await server.ended()
    told = {}
    async with Fork(tmp_path, env=env) as server, httpx2.AsyncClient(base_url=server.http) as http:
        for id_ in begun:
            path = f"{RESPONSES}/{id_}"
            whole = told[id_] = await streamed(http, f"{path}?stream=true")
            assert [one["sequence_number"] for one in whole] == list(range(len(whole)))
            assert (await http.get(path)).json() == whole[-1]["response"]
            for number in range(len(whole) - 1):
                rest = await streamed(http, f"{path}?stream=true&starting_after={number}")
                assert rest == whole[number + 1 :]
    rows = sorted((row_of(events) for events in told.values()), key=len)
    assert rows == ROWS


def row_of(events: list[dict[str, Any]]) -> str:
    """Return what is told of an answer, and check that its events are those of one that failed."""
    last = events[-1]
    assert (last["type"], last["response"]["status"]) == ("response.failed", "failed")
    names = {"reasoning": "r", "look": "a", "find": "b"}
    row = ""
    for one in events:
        if one["type"] == "response.output_item.added":
            row += names[one["item"].get("name", one["item"]["type"])]
        row += one.get("delta", "")
    return row
