"""Ten edits and ten regenerations, asked on every wire in turn: every wire reads the same tree."""

from __future__ import annotations

import itertools
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx2
import pytest

from storage.sqlite.store import SQLiteStore
from tests.support.fakes import Puppet
from tests.support.live import Served, serve
from tests.support.wires import MESSAGE, WIRES, Events, Message, RefusedError, Turn, Wire


class Grove:
    """A conversation that is asked over every wire in turn, and what its branches should be."""

    def __init__(self, served: Served, upstream: Puppet) -> None:
        self.wires: list[Wire] = [wire(served) for wire in WIRES.values()]
        self._turns = itertools.cycle(self.wires)
        self._upstream = upstream
        #: for each answer's id the texts from the first message to it
        self.leaves: dict[str, list[str]] = {}
        #: for each parent's id its children, oldest first
        self.children: dict[str | None, list[str]] = {}

    async def ask(self, words: str, parent: str | None) -> Turn:
        """Ask under an answer, or anew."""
        given = {"parent_id": parent or "root"}
        turn = await self._ended(words, next(self._turns).ask("c", words, **given))
        self.children.setdefault(parent, []).append(turn["question_id"])
        self._keep(turn, [*self.leaves.get(parent or "", []), words])
        return turn

    async def regenerate(self, first: Turn, words: str) -> Turn:
        """Ask for another answer to the question of a turn."""
        events = next(self._turns).regenerate("c", message_id=first["answer_id"])
        turn = await self._ended(words, events)
        assert turn["question_id"] == first["question_id"]
        self._keep(turn, self.leaves[first["answer_id"]][:-1])
        return turn

    async def _ended(self, words: str, events: Events) -> Turn:
        self._upstream.answer(f"Answer to {words}. ", "日本 😀")
        *_, last = [event async for event in events]
        assert last.turn is not None
        assert last.turn["status"] == "completed"
        return last.turn

    def _keep(self, turn: Turn, above: list[str]) -> None:
        self.children.setdefault(turn["question_id"], []).append(turn["answer_id"])
        self.leaves[turn["answer_id"]] = [*above, turn["answer"]]

    def check(self, leaf: str, branch: list[Message]) -> None:
        """Check that a branch is what was asked and answered."""
        assert [one["content"] for one in branch] == self.leaves[leaf]
        roles = itertools.cycle(("user", "assistant"))
        above = None
        for one, role in zip(branch, roles, strict=False):
            assert (one["role"], one["parent_id"], one["conversation_id"]) == (role, above, "c")
            assert one["sibling_ids"] == self.children[above]
            assert one["sibling_ids"][one["sibling_index"]] == one["id"]
            above = one["id"]
        assert above == leaf


async def grown(served: Served, upstream: Puppet) -> Grove:
    """Grow ten edits and ten regenerations, at every depth."""
    grove = Grove(served, upstream)
    first = await grove.ask("one", None)
    second = await grove.ask("two", first["answer_id"])
    third = await grove.ask("three", second["answer_id"])
    for number in range(10):
        under = (None, first["answer_id"], second["answer_id"])[number % 3]
        await grove.ask(f"edit {number}", under)
    for number in range(10):
        await grove.regenerate((first, second, third)[number % 3], f"again {number}")
    return grove


async def test_every_branch_reads_back_exactly_on_every_wire(
    served: Served, upstream: Puppet
) -> None:
    grove = await grown(served, upstream)
    assert len(grove.leaves) == 23
    for leaf in grove.leaves:
        branches = [await wire.branch("c", leaf) for wire in grove.wires]
        assert branches == [branches[0]] * 3
        grove.check(leaf, branches[0])


async def test_the_head_is_moved_and_goes_on_from_there_on_every_wire(
    served: Served, upstream: Puppet
) -> None:
    grove = await grown(served, upstream)
    leaves = list(grove.leaves)
    for wire, leaf in zip(grove.wires * 2, (leaves[0], *leaves[3:8]), strict=True):
        assert await wire.move_head("c", leaf) == leaf
        for other in grove.wires:
            grove.check(leaf, await other.branch("c"))
        upstream.answer("On it goes.")
        (*_, end) = [event async for event in wire.ask("c", "And then?")]
        assert end.turn is not None
        assert end.turn["parent_id"] == leaf
        grove.children.setdefault(leaf, []).append(end.turn["question_id"])
    for wire in grove.wires:
        with pytest.raises(RefusedError) as refused:
            await wire.move_head("c", "msg_nowhere")
        assert refused.value.code == "not_found"


async def test_an_export_has_every_branch(served: Served, upstream: Puppet) -> None:
    grove = await grown(served, upstream)
    async with httpx2.AsyncClient(base_url=served.http) as client:
        (told,) = (await client.get("/conversations/c/export")).json()["conversations"]
    by_id = {one["id"]: one for one in told["messages"]}
    assert len(by_id) == told["message_count"] == len(told["messages"])
    fields = [name for name in MESSAGE if not name.startswith("sibling")]
    for leaf in grove.leaves:
        for one in await grove.wires[0].branch("c", leaf):
            exported = by_id[one["id"]]
            assert [exported[name] for name in fields] == [one[name] for name in fields]


async def test_deleting_it_leaves_nothing_behind(tmp_path: Path, upstream: Puppet) -> None:
    path = tmp_path / "grove.db"
    async with SQLiteStore(path) as store, serve(store, upstream) as served:
        empty = _rows(path)
        await grown(served, upstream)
        assert _rows(path)["messages"] == 36
        async with httpx2.AsyncClient(base_url=served.http) as client:
            kept = {"prompt": "one more", "parent_id": "root"}
            upstream.answer("Kept.")
            headers = {"idempotency-key": "k"}
            assert (await client.post("/ask/c", json=kept, headers=headers)).status_code == 200
            assert (await client.delete("/conversations/c")).status_code == 204
            for q in ("edit", "日本", "Answer"):
                assert (await client.get("/search", params={"q": q})).json()["data"] == []
            assert (await client.get("/conversations", params={"q": "one"})).json()["data"] == []
        assert _rows(path) == empty
    assert _rows(path) == empty


def _rows(path: Path) -> dict[str, int]:
    """Count the rows of every table of ours, and the documents and terms of every index.

    What was used of a budget stays used: that is no part of a conversation.
    """
    with closing(sqlite3.connect(path)) as database:
        names = [
            name
            for (name,) in database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
            if not name.endswith(("_data", "_idx", "_config", "_content"))
            and "sqlite_" not in name
            and name != "spending"
        ]
        counts = {name: _count(database, name) for name in names}
        for name in [name.removesuffix("_docsize") for name in names if "_docsize" in name]:
            database.execute(f"CREATE VIRTUAL TABLE temp.terms USING fts5vocab(main, {name}, row)")
            counts[f"terms of {name}"] = _count(database, "temp.terms")
            database.execute("DROP TABLE temp.terms")
    return counts


def _count(database: sqlite3.Connection, table: str) -> Any:
    return database.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
