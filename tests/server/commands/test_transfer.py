"""The commands export, import and search, on a database and through a server that has it open."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
import structlog

from server.__main__ import main
from server.app.core import core_of
from server.core.access.auth import EVERYONE
from server.core.conversations import (
    Ask,
    Conversations,
    Defaults,
    Regenerate,
)
from storage.model import Turn
from storage.sqlite.store import SQLiteStore
from tests.server.core.archive.chatgpt_sample import IMAGE, WHOLE, conversation, node, text, uuid
from tests.server.core.archive.files import CHAT
from tests.support.access import locked
from tests.support.fakes import Parrot
from tests.support.live import serve

pytestmark = pytest.mark.usefixtures("own_folder")


@dataclass(frozen=True)
class Command:
    """`trialogue`, told where the conversations are."""

    capsys: pytest.CaptureFixture[str]
    where: tuple[str, ...]

    async def __call__(self, *words: str) -> tuple[int, str, str]:
        """Run it as a user types it: exit code, output, errors."""
        self.capsys.readouterr()
        code = await asyncio.to_thread(main, [*words, *self.where])
        out, err = self.capsys.readouterr()
        return code, "".join(line for line in out.splitlines(True) if "[info" not in line), err

    async def report(self, file: Path, code: int = 0) -> dict[str, Any]:
        """Import a file and return what became of it."""
        ended, out, err = await self("import", str(file))
        assert (ended, err) == (code, ""), out
        told: dict[str, Any] = json.loads(out)
        return told

    async def export(self, file: Path, *words: str) -> bytes:
        assert await self("export", "--output", str(file), *words) == (0, "", "")
        return file.read_bytes()


@pytest.fixture(autouse=True)
def _logs_as_they_were() -> Iterator[None]:
    """Undo what a command does to the logging of its process."""
    root, configured_ = logging.getLogger(), structlog.get_config()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.configure(**configured_)


@asynccontextmanager
async def commanding(
    kind: str, path: Path, capsys: pytest.CaptureFixture[str]
) -> AsyncIterator[Command]:
    """Command on a database itself, on one that a server has open, or on a server by its URL."""
    async with AsyncExitStack() as stack:
        where: tuple[str, ...] = ("--database", f"sqlite:///{path}", "--owner", EVERYONE)
        if kind == "server":
            store = await stack.enter_async_context(SQLiteStore(path))
            served = await stack.enter_async_context(serve(store, Parrot()))
            where = ("--url", served.http)
        yield Command(capsys, where)


async def told(core: Conversations, turn: Turn) -> Turn:
    async for _ in core.follow(EVERYONE, turn.id):
        pass
    return await core.turn(EVERYONE, turn.id)


async def filled(path: Path) -> None:
    """Keep conversations with branches, usage, metadata, parts and a moved head."""
    async with (
        SQLiteStore(path) as store,
        core_of(store, Parrot(), Defaults("gpt-4o")) as core,
    ):
        await core.create(EVERYONE, id="c", metadata={"a": [1, None, "日本"]}, system_prompt="Be.")
        first = await told(core, await core.ask(EVERYONE, "c", Ask("one 日本 two")))
        await told(core, await core.ask(EVERYONE, "c", Ask("edit", parent_id="root")))
        await told(core, await core.regenerate(EVERYONE, "c", Regenerate(first.answer_id)))
        parts: list[dict[str, Any]] = [
            {"type": "text", "text": "See"},
            {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
        ]
        await told(core, await core.ask(EVERYONE, "d", Ask(parts)))
        await core.create(EVERYONE, id="empty", title="Nothing yet", model="gpt-4.1")
        changes = {"head_id": first.answer_id, "truncation": "summarize", "title": 'It\'s "c"'}
        await core.update(EVERYONE, "c", changes)


ON = pytest.mark.parametrize("on", ["database", "server"])


class TestRoundTrip:
    @ON
    async def test_an_import_into_an_empty_place_is_the_same(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], on: str
    ) -> None:
        await filled(tmp_path / "a.db")
        async with commanding(on, tmp_path / "a.db", capsys) as here:
            file = tmp_path / "all.json"
            before = await here.export(file)
        async with commanding(on, tmp_path / "b.db", capsys) as there:
            report = await there.report(file)
            assert (report["imported"], report["unchanged"], report["dropped"]) == (3, 0, {})
            assert await there.export(tmp_path / "again.json") == before
            report = await there.report(file)
            assert (report["imported"], report["unchanged"], report["failed"]) == (0, 3, [])
            assert await there.export(tmp_path / "again.json") == before
        conversations = {one["id"]: one for one in json.loads(before)["conversations"]}
        assert conversations.keys() == {"c", "d", "empty"}
        assert len(conversations["c"]["messages"]) == 5
        assert all(turn["usage"]["total_tokens"] for turn in conversations["c"]["turns"])

    async def test_a_database_and_a_server_write_the_same_file(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        await filled(tmp_path / "a.db")
        for words in (
            (),
            ("--format", "jsonl"),
            ("--format", "markdown"),
            ("--conversation-id", "c"),
        ):
            files = []
            for on in ("database", "server"):
                async with commanding(on, tmp_path / "a.db", capsys) as here:
                    files.append(await here.export(tmp_path / on, *words))
            assert files[0] == files[1] != b""

    @pytest.mark.usefixtures("open_umask")
    @ON
    async def test_the_file_is_its_owner_s_alone(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], on: str
    ) -> None:
        async with commanding(on, tmp_path / "a.db", capsys) as here:
            await here.export(tmp_path / "all.json")
        assert (tmp_path / "all.json").stat().st_mode & 0o777 == 0o600

    async def test_over_rest_alone(self, tmp_path: Path) -> None:
        await filled(tmp_path / "a.db")
        exports: list[bytes] = []
        for name in ("a.db", "b.db"):
            async with (
                SQLiteStore(tmp_path / name) as store,
                serve(store, Parrot()) as served,
                httpx2.AsyncClient(base_url=served.http) as client,
            ):
                if exports:
                    for expected in (
                        {"imported": 3, "unchanged": 0},
                        {"imported": 0, "unchanged": 3},
                    ):
                        answer = await client.post("/conversations/import", content=exports[0])
                        assert answer.json().items() >= expected.items()
                exports.append((await client.get("/export")).content)
        assert exports[0] == exports[1]

    async def test_a_database_that_a_server_has_open_is_asked_of_the_server(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        async with SQLiteStore(tmp_path / "a.db") as store, serve(store, Parrot()) as served:
            port = served.http.rpartition(":")[2]
            (tmp_path / ".env").write_text(f"TRIALOGUE_HTTP_PORT={port}\n")
            command = Command(capsys, ("--database", f"sqlite:///{tmp_path}/a.db"))
            file = tmp_path / "chat.json"
            file.write_text(json.dumps([WHOLE]))
            assert (await command.report(file))["imported"] == 1
            assert (await served.conversations.page(EVERYONE)).items[0].title == WHOLE["title"]


class TestOthersFiles:
    @ON
    async def test_a_bad_conversation_is_named_by_its_place_and_stops_no_other(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], on: str
    ) -> None:
        file = tmp_path / "conversations.json"
        bad = [{**WHOLE, "mapping": 5}, "nothing", 7]
        good = [conversation(node(n, None), id=f"g{n}", conversation_id=f"g{n}") for n in (50, 51)]
        file.write_text(json.dumps([good[0], *bad, good[1]]))
        async with commanding(on, tmp_path / "a.db", capsys) as there:
            report = await there.report(file, code=1)
            assert (report["imported"], report["failed_count"]) == (2, 3)
            assert [one["index"] for one in report["failed"]] == [1, 2, 3]
            assert report["failed"][0]["id"] == WHOLE["id"]
            assert all(one["reason"] for one in report["failed"])
            exported = json.loads(await there.export(tmp_path / "out"))
            assert {one["id"] for one in exported["conversations"]} == {"g50", "g51"}

    @ON
    async def test_a_file_that_is_cut_off_keeps_what_stands_before(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], on: str
    ) -> None:
        file = tmp_path / "conversations.json"
        more = conversation(node(60, None), id="x", conversation_id="x")
        file.write_bytes(json.dumps([more, WHOLE]).encode()[:-50])
        async with commanding(on, tmp_path / "a.db", capsys) as there:
            report = await there.report(file, code=1)
        assert (report["imported"], [one["index"] for one in report["failed"]]) == (1, [1])

    @ON
    async def test_nothing_of_chatgpts_is_lost_in_silence(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], on: str
    ) -> None:
        odd = conversation(
            node(1, None, "system", text("You are a painter."), [2]),
            node(2, 1, "user", {"content_type": "multimodal_text", "parts": [IMAGE, "This?"]}, [3]),
            node(3, 2, "assistant", text("A fence."), [4]),
            node(4, 3, "tool", {"content_type": "execution_output", "text": "42"}),
            node(5, 2, "assistant", text("A gate.")),
            node(6, "gone", "user", text("Whose child am I?")),
            {"id": uuid(7), "message": None, "parent": uuid(3), "children": [uuid(8)]},
            node(8, 7, "user", text("Under nothing")),
            node(9, 5, "critic", {"content_type": "hologram", "cube": 3}),
        )
        file = tmp_path / "conversations.json"
        file.write_text(json.dumps([odd]))
        async with commanding(on, tmp_path / "a.db", capsys) as there:
            report = await there.report(file)
            (kept,) = json.loads(await there.export(tmp_path / "out"))["conversations"]
        by_id = {one["id"]: one for one in kept["messages"]}
        parents = {uuid(n): uuid(p) for n, p in ((2, 1), (3, 2), (4, 3), (5, 2), (8, 3))}
        assert {one: by_id[one]["parent_id"] for one in parents} == parents
        roles = {n: by_id[uuid(n)]["role"] for n in (1, 2, 3, 4)}
        assert roles == {1: "system", 2: "user", 3: "assistant", 4: "tool"}
        assert "Whose child am I?" in {one["content"] for one in kept["messages"]}
        # What is not among the messages is among what was counted.
        assert report["dropped"]["image_asset_pointer"] == 1
        assert uuid(9) in by_id or "hologram" in json.dumps(report["dropped"])

    @ON
    async def test_easybackends_histories(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], on: str
    ) -> None:
        file = tmp_path / "all.json"
        file.write_text(json.dumps({"room": [CHAT.format("1 + 1?", "2"), 7], "b": {"c": 1}}))
        async with commanding(on, tmp_path / "a.db", capsys) as there:
            report = await there.report(file, code=1)
            assert (report["imported"], report["dropped"]) == (1, {"chat": 1})
            assert [(one["index"], one["id"]) for one in report["failed"]] == [(1, "b")]
            said = (await there.export(tmp_path / "out", "--format", "jsonl")).decode()
        assert [m["content"] for m in json.loads(said)["messages"]] == ["1 + 1?", "2"]


class TestSearch:
    @ON
    async def test_hits_are_lines(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], on: str
    ) -> None:
        await filled(tmp_path / "a.db")
        async with commanding(on, tmp_path / "a.db", capsys) as here:
            code, out, err = await here("search", "日本")
            lines = out.splitlines()
            assert (code, err) == (0, "")
            assert sorted(line.split()[:2] for line in lines) == [
                ["c", "assistant"],
                ["c", "assistant"],
                ["c", "user"],
            ]
            assert all("«日本»" in line for line in lines)
            assert len((await here("search", "日本", "--limit", "1"))[1].splitlines()) == 1
            assert (await here("search", "di", "edi"))[0] == 0
            assert (await here("search", "thing", "othi"))[1].split()[:2] == ["empty", "title"]
            assert await here("search", "nowhere") == (1, "", "")
            assert (await here("search", "It's", '"c'))[0] == 0
            for query in ('"', "'", "*", "a AND", 'say "x'):
                code, _, err = await here("search", query)
                assert (code in (0, 1), err) == (True, "")

    @ON
    async def test_it_is_narrowed_and_goes_on_to_the_end(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], on: str
    ) -> None:
        many = [node(n, None, "user", text(f"zebra {n}")) for n in range(1, 131)]
        other = node(140, None, "assistant", text("zebra, old"), create_time=0)
        file = tmp_path / "conversations.json"
        chats = [conversation(*many, id="many", conversation_id="many")]
        chats += [conversation(other, id="old", conversation_id="old", title="")]
        file.write_text(json.dumps(chats))
        async with commanding(on, tmp_path / "a.db", capsys) as here:
            await here.report(file)
            for words, count in (
                (("--limit", "1000"), 131),
                (("--limit", "101"), 101),
                (("--limit", "1000", "--role", "user"), 130),
                (("--role", "assistant"), 1),
                (("--conversation-id", "old"), 1),
                (("--created-before", "1980-01-01"), 1),
                (("--created-after", "1980-01-01T00:00:00+01:00", "--limit", "1000"), 130),
            ):
                _, out, err = await here("search", "zebra", *words)
                assert (len(out.splitlines()), err) == (count, ""), words
                assert len(set(out.splitlines())) == count


class TestRefusals:
    async def test_one_line_says_what_is_wrong(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        file, bad = tmp_path / "file", tmp_path / "bad.db"
        file.write_text("[]")
        bad.write_bytes(b"no database at all" * 100)
        here = Command(capsys, ("--database", f"sqlite:///{tmp_path}/a.db"))
        lost = Command(capsys, ("--database", f"sqlite:///{bad}"))
        nobody = Command(capsys, ("--url", "http://127.0.0.1:9"))
        nowhere = Command(capsys, ("--url", "nowhere at all"))
        login = Command(capsys, ("--url", "http://me:secret@127.0.0.1:9"))
        long = "a" * 5000
        for command, words, said in (
            (here, ("import", "none.json"), "no such file"),
            (here, ("export", "--conversation-id", "none"), "'none'"),
            (here, ("export", "--output", "no/such/folder"), "no/such/folder"),
            (here, ("search", " "), "q must not be empty"),
            (here, ("search", "x", "--limit", "0"), "limit"),
            (lost, ("export",), "TRIALOGUE_DATABASE"),
            (nobody, ("import", str(file)), "cannot be reached"),
            (nobody, ("search", "x"), "--url"),
            (nowhere, ("export",), "--url must be a URL"),
            (login, ("export",), "http://me:***@127.0.0.1:9 cannot be reached"),
            (here, ("import", long), "File name too long"),
            (here, ("import", "/proc/self/mem"), "Input/output error"),
            (nobody, ("export", "--conversation-id", "\udcff"), "no text in UTF-8"),
        ):
            code, out, err = await command(*words)
            assert code in (1, 2), words
            assert (out, err.count("\n")) == ("", 1), err
            assert err.startswith("trialogue: ")
            assert said in err
            assert "secret" not in err

    async def test_a_key_that_none_can_be_is_named(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TRIALOGUE_API_KEY", "secret\n")
        code, out, err = await Command(capsys, ("--url", "http://127.0.0.1:9"))("export")
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert err.startswith("trialogue: TRIALOGUE_API_KEY has")
        assert "secret" not in err

    @ON
    async def test_a_file_that_nobody_understands(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], on: str
    ) -> None:
        file = tmp_path / "file"
        file.write_bytes(b"PK\x03\x04" * 100)
        async with commanding(on, tmp_path / "a.db", capsys) as there:
            code, out, err = await there("import", str(file))
        assert (code in (1, 2), out, err.count("\n")) == (True, "", 1)
        assert "Only JSON is understood" in err

    async def test_a_refusal_leaves_an_older_file_as_it_was(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        file = tmp_path / "all.json"
        file.write_text("precious")
        for on in ("database", "server"):
            async with commanding(on, tmp_path / "a.db", capsys) as there:
                words = ("export", "--output", str(file), "--conversation-id", "none/such?x")
                assert (await there(*words))[0] in (1, 2)
        assert file.read_text() == "precious"

    async def test_a_server_wants_its_key_even_of_a_large_file(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        auth = locked("ada:k1")
        file = tmp_path / "large.json"
        file.write_text(json.dumps([WHOLE, "x" * (8 << 20)]))
        async with (
            SQLiteStore(tmp_path / "a.db") as store,
            serve(store, Parrot(), auth=auth) as served,
        ):
            command = Command(capsys, ("--url", served.http))
            code, out, err = await command("import", str(file))
            assert (code, out, err.count("\n")) == (2, "", 1)
            assert "API key" in err
            monkeypatch.setenv("TRIALOGUE_API_KEY", "k1")
            assert (await command.report(file, code=1))["imported"] == 1
            assert len((await served.conversations.page("ada")).items) == 1
