"""The description of the websocket is what the server takes and says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from websockets.asyncio.client import ClientConnection, connect

from server.core.errors import InvalidRequestError
from server.core.turns.tools import OPTIONS
from server.transports.websocket import fields, frames
from server.transports.websocket.calls import CALLS
from server.upstream.port import PromptProgress
from tests.support.fakes import Puppet
from tests.support.live import ROOT, Fork, Served
from tools import asyncapi

DOCUMENT: dict[str, Any] = yaml.safe_load(
    (ROOT / "docs" / "websocket.asyncapi.yaml").read_text(encoding="utf-8")
)
MESSAGES = DOCUMENT["components"]["messages"]
KINDS = sorted({*frames.FIELDS, *CALLS})
#: something of every kind, right in some fields and wrong in others
VALUES: tuple[Any, ...] = ("x", "turn_a:1", -1, 1, 0.5, True, {}, {"a": 1}, [], ["a"], [{}])


def validator(name: str) -> Draft202012Validator:
    """Return what checks a message of this name; its references lead into the document."""
    return Draft202012Validator({**DOCUMENT, **MESSAGES[name]["payload"]})


def references(part: object) -> Iterator[str]:
    match part:
        case {"$ref": str(place)}:
            yield place
        case dict():
            for one in part.values():
                yield from references(one)
        case list():
            for one in part:
                yield from references(one)


def test_every_reference_leads_somewhere() -> None:
    found = set(references(DOCUMENT))
    assert len(found) > 20
    for place in found:
        at: Any = DOCUMENT
        for name in place.removeprefix("#/").split("/"):
            at = at[name]


@pytest.mark.parametrize("name", sorted(MESSAGES))
def test_every_payload_is_a_schema(name: str) -> None:
    Draft202012Validator.check_schema(MESSAGES[name]["payload"])


def test_it_has_every_kind_and_no_other() -> None:
    asked = {name.removeprefix("client.") for name in MESSAGES if name.startswith("client.")}
    assert asked == set(KINDS)
    assert set(asyncapi.ABOUT) == set(KINDS)
    assert set(asyncapi.ANSWERS) == set(frames.FIELDS)
    operations = DOCUMENT["operations"]
    assert set(KINDS) <= set(operations)
    used = {place.split("/")[-1] for place in references(operations)} - {"connection"}
    assert used == set(MESSAGES), "every message is of an operation"


def least(kind: str) -> dict[str, Any]:
    """Return the smallest frame of a kind that is understood."""
    asking, watching = {"prompt": "x"}, {"all": True}
    needed: dict[str, dict[str, Any]] = {
        "ask": asking,
        "context": asking,
        "watch": watching,
        "unwatch": watching,
    }
    given: dict[str, Any] = {"type": kind, **needed.get(kind, {})}
    required = frames.REQUIRED[kind] if kind in frames.FIELDS else CALLS[kind].required
    return given | dict.fromkeys(required, "x")


def understood(frame: dict[str, Any]) -> bool:
    try:
        frames.parse(json.dumps(frame))
    except InvalidRequestError:
        return False
    return True


@pytest.mark.parametrize("kind", KINDS)
def test_what_it_lets_pass_is_what_the_server_understands(kind: str) -> None:
    told, frame = validator(f"client.{kind}"), least(kind)
    assert told.is_valid(frame)
    assert understood(frame)
    for name in frame:
        less = {one: frame[one] for one in frame if one != name}
        assert (told.is_valid(less), understood(less)) == (False, False), name
    assert (told.is_valid({**frame, "no": 1}), understood({**frame, "no": 1})) == (False, False)
    allowed = frames.FIELDS[kind] if kind in frames.FIELDS else CALLS[kind].fields
    for name, check in allowed.items():
        if name in OPTIONS or check is fields.moment:
            continue  # the core looks at the first; jsonschema knows no time
        for value in VALUES:
            said = {**frame, name: value}
            assert told.is_valid(said) == understood(said), said


class Talk:
    """A connection whose every frame, in either direction, is looked up in the description."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self.asked: set[str] = set()
        self.told: set[str] = set()

    async def hear(self, kind: str, *, about: object = None) -> dict[str, Any]:
        """Return the next frame of a kind, of a request, and look at all before it."""
        while True:
            frame: dict[str, Any] = json.loads(await self._socket.recv())
            validator(f"server.{frame['type']}").validate(frame)
            self.told.add(frame["type"])
            if frame["type"] == kind and frame.get("request_id") == about:
                return frame

    async def say(self, kind: str, answered: str | None = None, **given: Any) -> dict[str, Any]:
        frame = {"type": kind, "request_id": kind, **given}
        validator(f"client.{kind}").validate(frame)
        self.asked.add(kind)
        await self._socket.send(json.dumps(frame))
        return {} if answered is None else await self.hear(answered, about=kind)


async def test_what_goes_over_a_connection_is_as_described(tmp_path: Path) -> None:
    env = {"TRIALOGUE_ELIZA_DELAY": "0.02"}
    async with Fork(tmp_path, env=env) as server, connect(server.websocket, proxy=None) as socket:
        talk = Talk(socket)
        assert (await talk.hear("welcome"))["protocol"] == "trialogue.v1"
        await talk.say("authenticate", "authenticated", api_key="any")
        await talk.say("ping", "pong")
        await talk.say("watch", all=True)
        await talk.say("create", "conversation", id="c", title="T", metadata={"a": 1})
        await talk.say("update", "conversation", conversation_id="c", model=None, pinned=True)
        turn = await talk.say("ask", "turn.ended", conversation_id="c", prompt="Hello", seed=1)
        await talk.say("follow", "turn.ended", turn_id=turn["turn_id"], after=2)
        await talk.say("regenerate", "turn.ended", conversation_id="c", stop=["x"])
        await talk.say("cancel", "turn.ended", turn_id=turn["turn_id"])
        await talk.say("conversation", "conversation", conversation_id="c")
        await talk.say("conversations", "conversations", order="activity", limit=1)
        await talk.say("messages", "messages", conversation_id="c", limit=1)
        await talk.say("context", "context", conversation_id="c", prompt="More")
        await talk.say("search", "search", q="hello", role="user")
        await talk.say("unwatch", all=True)
        await talk.say("watch", conversation_id="c")
        prompts = ["I remember all that was said to me by my mother", "Yes", "No"]
        for prompt in prompts[:2]:
            await talk.say("ask", conversation_id="c", prompt=prompt)
        waits: list[dict[str, Any]] = []
        while not waits:
            waits = (await talk.hear("queue.changed", about="watch"))["waiting"]
        await talk.say("withdraw", "withdrawn", conversation_id="c", waiting_id=waits[0]["id"])
        await talk.say("delete", "error", conversation_id="nobody")
        await talk.say("watch", all=True)
        await talk.hear("turn.started", about="watch")
        await talk.say("delete", conversation_id="c")
        await talk.hear("conversation.deleted", about="watch")
        await talk.say("delete", "error", conversation_id="c")
    assert talk.asked == set(KINDS)
    described = {name.removeprefix("server.") for name in MESSAGES if name.startswith("server.")}
    assert described - talk.told == {"resync", "turn.progress"}


async def test_how_far_a_prompt_is_read_is_as_described(served: Served, upstream: Puppet) -> None:
    async with connect(served.websocket, proxy=None) as socket:
        talk = Talk(socket)
        upstream.say(PromptProgress(1, 2))
        await talk.say("ask", "turn.progress", conversation_id="c", prompt="Hello", progress=True)
        upstream.answer("Hi.")
        await talk.hear("turn.ended", about="ask")
