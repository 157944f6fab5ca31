"""Characters and templates over every wire: what is kept, and what the upstream is sent."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from server.core.prompt.alternate import GREETED
from server.core.prompt.characters import Character, Characters
from server.templates.parse import read
from storage.sqlite.store import SQLiteStore
from tests.server.upstream.remote.turn_helpers import asking
from tests.support.live import Served, serve
from tests.support.upstream_script import say
from tests.support.upstream_server import ScriptedUpstream
from tests.support.wires import WIRES, Events, RefusedError, Turn, Wire

SHAPING = Characters(
    {"pirate": Character("You are a pirate.", "Arr!")},
    {"mine": read("{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>")},
)


@pytest.fixture
async def upstream_server() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream() as server:
        yield server


@pytest.fixture
async def served(store: SQLiteStore, upstream_server: ScriptedUpstream) -> AsyncIterator[Served]:
    upstream = asking(api_key="k", base_url=upstream_server.base_url)
    try:
        async with serve(store, upstream, characters=SHAPING) as server:
            yield server
    finally:
        await upstream.close()


@pytest.fixture(params=WIRES)
def wire(request: pytest.FixtureRequest, served: Served) -> Wire:
    return WIRES[request.param](served)


async def ended(events: Events) -> Turn:
    *_, last = [event async for event in events]
    assert last.turn is not None
    return last.turn


async def test_a_character_greets(wire: Wire, upstream_server: ScriptedUpstream) -> None:
    upstream_server.script(say("Aye."), say("Aye aye."))
    await ended(wire.ask("c", "Hello", character="pirate"))
    await ended(wire.regenerate("c", character="pirate"))
    assert await wire.messages("c") == [
        ("assistant", "Arr!"),
        ("user", "Hello"),
        ("assistant", "Aye aye."),
    ]
    expected = [
        {"role": "system", "content": f"You are a pirate.\n\n{GREETED}Arr!"},
        {"role": "user", "content": "Hello"},
    ]
    for number in (0, 1):
        request = await upstream_server.request(number)
        assert request.path == "/v1/chat/completions"
        assert request.body["messages"] == expected
        assert not {"character", "mode"} & set(request.body)


async def test_a_template_is_rendered_and_completed(
    wire: Wire, upstream_server: ScriptedUpstream
) -> None:
    upstream_server.script(*(say(" Hi.") for _ in range(5)))
    await ended(wire.ask("c", "One", instruction_template="mine"))
    await ended(wire.ask("c", "Two", prompt_template="Q: %1\nA:", stop=["END"]))
    await ended(wire.regenerate("c", instruction_template="chatml"))
    done = await ended(wire.regenerate("c", mode="instruct", max_tokens=7))
    await ended(wire.regenerate("c", mode="chat", instruction_template="mine"))
    bodies = [(await upstream_server.request(number)).body for number in range(5)]
    paths = [request.path for request in upstream_server.requests]
    assert paths == ["/v1/completions"] * 4 + ["/v1/chat/completions"]
    assert [body.get("prompt") for body in bodies] == [
        "<user>One<assistant>",
        "Q: One\nA: Hi.\nQ: Two\nA:",
        "<|im_start|>user\nOne<|im_end|>\n<|im_start|>assistant\nHi.<|im_end|>\n"
        "<|im_start|>user\nTwo<|im_end|>\n<|im_start|>assistant\n",
        "User: One\nAssistant: Hi.\nUser: Two\nAssistant:",
        None,
    ]
    assert [body.get("stop") for body in bodies] == [
        None,
        ["END"],
        ["<|im_end|>", "<|im_start|>"],
        ["\nUser:"],
        None,
    ]
    assert bodies[3]["max_tokens"] == 7
    assert done["answer"] == "Hi."


@pytest.mark.parametrize(
    "wish",
    [
        {"character": "nobody"},
        {"instruction_template": "nothing"},
        {"prompt_template": "no mark"},
        {"prompt_template": "{{ ''.__class__ }}{{ prompt }}"},
        {"prompt_template": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}"
         "{% endfor %}{{ prompt }}"},
        {"mode": "shout"},
    ],
)  # fmt: skip
async def test_what_cannot_be_is_refused(
    wire: Wire, wish: dict[str, str], upstream_server: ScriptedUpstream
) -> None:
    with pytest.raises(RefusedError) as refused:
        await ended(wire.ask("c", "Hello", **wish))
    assert refused.value.code == "invalid_request"
    assert upstream_server.requests == []
    with pytest.raises(RefusedError) as refused:
        await wire.messages("c")
    assert refused.value.code == "not_found"


@pytest.mark.parametrize(
    ("wish", "param", "told"),
    [
        ({"character": "nobody"}, "character", "only pirate"),
        ({"instruction_template": "nothing"}, "instruction_template", "alpaca, chatml"),
        ({"prompt_template": "{{ ''.__class__ }}{{ prompt }}"}, "prompt_template", "not allowed"),
        ({"mode": "shout"}, "mode", "instruct"),
    ],
)
async def test_a_refusal_names_the_field_and_what_there_is(
    served: Served, wish: dict[str, Any], param: str, told: str
) -> None:
    async with httpx2.AsyncClient(verify=False) as client:
        answer = await client.post(f"{served.http}/ask/c", json={"prompt": "Hi", **wish})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, "invalid_request", param)
    assert told in error["message"]


async def test_a_preview_counts_what_would_be_written(served: Served) -> None:
    async with httpx2.AsyncClient(base_url=served.http, verify=False) as client:
        await client.post("/conversations", json={"id": "c"})
        shown = {}
        for mode in ("chat", "instruct"):
            body = {"prompt": "Hi", "character": "pirate", "mode": mode}
            shown[mode] = (await client.post("/conversations/c/context", json=body)).json()
        assert (await client.get("/conversations/c/messages")).json()["data"] == []
    for one in shown.values():
        roles = [line["role"] for line in one["messages"]]
        assert roles == ["system", "assistant", "user"]
        total = sum(line["tokens"] for line in one["messages"]) + one["overhead"]
        assert total == one["prompt_tokens"]
    assert shown["chat"]["prompt_tokens"] != shown["instruct"]["prompt_tokens"]
