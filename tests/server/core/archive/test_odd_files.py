"""Whatever stands in a file, it is read, or fails by its place."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage.sqlite.store import SQLiteStore
from tests.server.core.archive.chatgpt_sample import ID, WHOLE, conversation, node, text, uuid
from tests.server.core.archive.files import OWNERS, found, imported
from tests.server.core.archive.trialogue_sample import CONVERSATION

ODD = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["new", "\x00", "\ud800", uuid(1), uuid(4), ID, 10**30, "q", "a", "running"]),
    lambda of: st.lists(of, max_size=3) | st.dictionaries(st.text(max_size=5), of, max_size=3),
    max_leaves=4,
)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Return every list or object in a value, with each of its keys."""
    found_: list[tuple[Any, Any]] = []
    waiting = [value]
    while waiting:
        one = waiting.pop()
        inner = one.items() if isinstance(one, dict) else enumerate(one)
        for key, below in inner:
            found_.append((one, key))
            if isinstance(below, dict | list):
                waiting.append(below)
    return found_


@st.composite
def broken(draw: st.DrawFn, whole: dict[str, Any]) -> dict[str, Any]:
    """Return a conversation in which some values are others."""
    value = copy.deepcopy(whole)
    for _ in range(draw(st.integers(1, 3))):
        holder, key = draw(st.sampled_from(places(value)))
        holder[key] = draw(ODD)
    return value


FUZZ = settings(
    deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@FUZZ
@given(broken(WHOLE))
async def test_chatgpts(store: SQLiteStore, odd: dict[str, Any]) -> None:
    whole = conversation(node(99, None), id="whole", conversation_id="whole")
    owner = next(OWNERS)
    report = await imported(store, [whole, odd, whole], owner)
    assert (report.imported + report.failures, report.unchanged) == (2, 1)
    again = await imported(store, [odd], owner)
    assert (again.imported, again.dropped) == (0, {})


@FUZZ
@given(broken(CONVERSATION))
async def test_ours(store: SQLiteStore, odd: dict[str, Any]) -> None:
    owner = next(OWNERS)
    file = {"format": "trialogue", "version": 1, "conversations": [odd]}
    report = await imported(store, file, owner)
    assert report.imported + report.failures == 1
    again = await imported(store, file, owner)
    assert (again.unchanged, again.failures) == (report.imported, report.failures)


@FUZZ
@given(st.dictionaries(st.text(max_size=5), ODD, max_size=3), st.lists(ODD, max_size=4))
async def test_easybackends(store: SQLiteStore, odd: dict[str, Any], chats: list[Any]) -> None:
    owner = next(OWNERS)
    file = {"room": ["User: a", *chats], **odd}
    report = await imported(store, file, owner)
    assert report.imported + report.failures == len(file)
    again = await imported(store, file, owner)
    assert (again.unchanged, again.failures) == (report.imported, report.failures)


@pytest.mark.parametrize("levels", [1, 90])
async def test_parts_in_parts(levels: int) -> None:
    deep: Any = text("at the bottom")
    for _ in range(levels):
        deep = {"content_type": "text", "parts": [deep]}
    read = await found([conversation(node(1, None, content=deep))])
    assert [one.content for one in read.messages] == ["at the bottom"]


async def test_json_of_another_hand() -> None:
    file = json.dumps([WHOLE], indent="\t", sort_keys=True).replace("\n", "\r\n").encode()
    assert (await found(file)).conversation == (await found([WHOLE])).conversation
