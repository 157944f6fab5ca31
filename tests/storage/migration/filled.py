"""A history with something of everything that is kept."""

from __future__ import annotations

from dataclasses import replace

from storage.keys import KeyFile
from storage.model import ApiKey, Lesson, Role, Status, UpstreamObject
from storage.parts import Kind, Mark, Part
from storage.port import Piece, Store
from tests.storage.contract.completions import completion
from tests.storage.nouns import (
    ADA,
    BOB,
    DAY,
    begin,
    chain,
    claim,
    conversation,
    exchange,
    line,
    message,
    outcome,
    turn,
    whole,
)

KEYS = [
    ApiKey("key_1", ADA, b"\x00digest of ada's", 1),
    ApiKey("key_2", BOB, b"digest of bob's", 2, expires_at=9, revoked_at=3),
]
CALL = [
    {"type": "text", "text": "I look. "},
    {"type": "function", "id": "c_1", "function": {"name": "clock", "arguments": "{}"}},
]


async def fill(store: Store) -> None:
    """Keep all kinds of things, and delete some, so that keys have gaps."""
    await exchange(store, "gone", into="gone")
    await chain(store, ["1", "2"])
    await store.delete(ADA, "gone")
    await exchange(store, "3", parent="a_1", content="日本 élan \x00 \x1a1")
    await store.update(ADA, "c", {"pinned": True, "metadata": {"a": "\x00ü"}}, 7)
    await begin(store, "4", into="d", content="Claimed", title="Ténèbres", claim=claim())
    await store.end(ADA, "turn_4", outcome("4", "", parts=CALL, drift=-3, finish_reason="stop"))
    summary = message("s_1", "a_1", Role.SYSTEM, "All said", stands_for=2)
    await store.summarise(ADA, summary)
    await _respond(store)
    for name in ("x", "y"):
        await store.keep_completion(ADA, completion(name, a=name, b="ü" * 300))
    await store.spend(BOB, 17, 3 * DAY)
    await store.spend(BOB, 4, 4 * DAY)
    await store.remember_objects(ADA, [UpstreamObject("vs_1", "vector_stores", "openai")], 1)
    await store.remember_objects(BOB, [UpstreamObject("f", "files", "openai")], 2, under="vs_1")
    await store.learn(Lesson("openai", "a", 1.1, 8_000, 5))
    await store.learn(Lesson("openai", "b", 0.3))
    await store.learn(Lesson("openai", "a", 1.25, 9_000, 6))
    await store.put(BOB, *whole("long", 900), [])
    # Withdrawn last: its key is the greatest that there was.
    await begin(store, "5", into="running", claim=claim("running"))
    marks = (Mark(2, Part(Kind.REASONING)),)
    await store.checkpoint([Piece(ADA, "turn_5", 0, "Sö\x00 ", marks)])
    await store.checkpoint([Piece(ADA, "turn_5", 4, "far")])
    await begin(store, "6", into="back")
    await store.withdraw(ADA, "turn_6")


async def _respond(store: Store) -> None:
    """Keep responses: in no list, beside another, and one that was deleted."""
    made = conversation("u", 1, unlisted=True)
    question = message("q_r", conversation_id="u", turn_id="turn_r", item={"type": "message"})
    new = replace(turn("r", "u"), record={"background": True}, options={"tools": []}, wire="rest")
    await store.begin(ADA, new, question, conversation=made)
    await store.end(ADA, "turn_r", outcome("r", "Failed", Status.CANCELLED))
    beside = message("q_s", "a_r", conversation_id="u", turn_id="turn_s")
    await store.begin(ADA, replace(turn("s", "u"), free=True, record={}), beside)
    await store.end(ADA, "turn_s", outcome("s"))
    await store.delete_response(ADA, "turn_s")
    await store.append(ADA, "u", line(3, "u"), title="", now=8)


def keep_keys(file: KeyFile) -> None:
    for key in KEYS:
        file.add(key)
