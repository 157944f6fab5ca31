"""What is another key's is not there, on every route that there is."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.server.transports.openai.openai_client import Served, member, serving
from tests.server.transports.openai.responses.stateful import CONVERSATIONS, RESPONSES, asked
from tests.support.access import ANN, BOB, two_keys
from tests.support.fakes import Puppet


@dataclass
class House:
    served: Served
    names: dict[str, str]

    async def send(
        self, who: dict[str, str], method: str, path: str, **given: Any
    ) -> httpx2.Response:
        return await self.served.client.request(method, path, headers=who, **given)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    speaker: Any = Puppet()
    async with serving(tmp_path, [member(speaker)], two_keys()) as served:
        made = House(served, {})
        conversation = (await made.send(ANN, "POST", CONVERSATIONS, json={})).json()["id"]
        body = asked("wheelbarrow", background=True, conversation=conversation)
        response = (await made.send(ANN, "POST", RESPONSES, json=body)).json()["id"]
        items = await made.send(ANN, "GET", f"{RESPONSES}/{response}/input_items")
        made.names = {
            "responses": response,
            "conversations": conversation,
            "item": items.json()["data"][0]["id"],
        }
        yield made


def _paths(house: House) -> list[tuple[str, str]]:
    """Return every route of ours that names something, with Ann's own names in it."""
    found = []
    for route in house.served.facade.routes:
        if route.own and "{" in route.path:
            kind = route.path.split("/")[2]
            path = route.path.replace("{id}", house.names[kind])
            path = re.sub(r"\{item\}", house.names["item"], path)
            found += [(method, path) for method in route.endpoints]
    return found


async def test_every_route_hides_anothers(house: House) -> None:
    paths = _paths(house)
    assert len(paths) >= 11
    for method, path in paths:
        body = {"json": {"metadata": {}, "items": [asked()]}} if method == "POST" else {}
        answer = await house.send(BOB, method, path, **body)
        assert answer.status_code == 404, (method, path, answer.text)
        assert "wheelbarrow" not in answer.text
        nobodys = re.sub(r"0[0-9a-z]{25}", "0" * 26, path)
        told = await house.send(BOB, method, nobodys, **body)
        assert told.status_code == 404
        assert re.sub(r"0[0-9a-z]{25}", "0" * 26, answer.text) == told.text
    for method, path in paths:
        if method == "GET":
            assert (await house.send(ANN, method, path)).status_code == 200


async def test_no_field_names_anothers(house: House) -> None:
    names = house.names
    item = {"type": "item_reference", "id": names["item"]}
    bodies = [
        asked(previous_response_id=names["responses"]),
        asked(conversation=names["conversations"]),
        asked(conversation={"id": names["conversations"]}),
        asked([item]),
    ]
    for path in ("", "/input_tokens", "/compact"):
        for body in bodies:
            if path == "/compact" and "conversation" in body:
                continue
            answer = await house.send(BOB, "POST", f"{RESPONSES}{path}", json=body)
            assert answer.status_code == 404, (path, body, answer.text)
            assert "wheelbarrow" not in answer.text
    own = (await house.send(BOB, "POST", CONVERSATIONS, json={})).json()["id"]
    for path in ("", f"/{own}/items"):
        answer = await house.send(BOB, "POST", f"{CONVERSATIONS}{path}", json={"items": [item]})
        assert answer.status_code == 404, path
    foreign = f"{CONVERSATIONS}/{own}/items/{names['item']}"
    for who in (ANN, BOB):
        assert (await house.send(who, "GET", foreign)).status_code == 404


async def test_a_file_at_the_upstream_is_its_makers(house: House) -> None:
    file = {"type": "input_file", "file_id": "file-NobodyEverMadeThis00"}
    body = asked([{"role": "user", "content": [file]}])
    answer = await house.send(BOB, "POST", RESPONSES, json=body)
    assert answer.status_code == 404
