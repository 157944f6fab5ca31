"""Two keys and an upstream with every storing API: neither learns of the other's.

What is tried is taken from the table of routes: a new row is tried too.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest

from server.core.clock import microseconds
from server.core.doors import Doors, configured, new_key
from server.transports.openai_facade.references import _NAMING
from server.transports.openai_facade.resources import STATELESS, STORING, Does, Rule
from server.upstream.passage import Passage
from server.upstream.port import Call, Reply
from storage.keys import KeyFile
from tests.server.transports.openai_facade.facade_server import (
    KEY,
    MODEL,
    Served,
    connected,
    error_of,
    member,
    passing,
    serving,
)
from tests.storing_upstream import StoringUpstream
from tests.upstream_script import SSE, Behaviour, Exchange, Step, document
from tests.upstream_script import wire as wire_of
from tests.upstream_server import ScriptedUpstream

SECRET = "wheelbarrow"
ANN, BOB = ({"authorization": f"Bearer {key}"} for key in ("one", "two"))
UNKNOWN = "file-NobodyEverMadeThis00"
NAMES = [f"{method} {rule.path}" for rule in STORING for method in sorted(rule.methods)]
RULES = dict(zip(NAMES, [rule for rule in STORING for _ in rule.methods], strict=True))
WITH_IDS = [name for name in NAMES if "{" in RULES[name].path]
LISTS = [name for name in NAMES if RULES[name].does is Does.LISTS]
POSTS = [name for name in NAMES if name.startswith("POST")]
LEARNT = [name for name in NAMES if RULES[name].learns]


@dataclass
class House:
    served: Served
    upstream: StoringUpstream
    #: by owner, the ids of what it has, by kind
    ids: dict[str, dict[str, str]] = field(default_factory=dict)

    async def send(
        self, who: dict[str, str], method: str, path: str, **given: Any
    ) -> httpx2.Response:
        headers = {**who, **given.pop("headers", {})}
        return await self.served.client.request(method, f"/v1{path}", headers=headers, **given)

    async def furnish(self, name: str, who: dict[str, str]) -> None:
        """Let somebody make one of everything that there is."""
        mine = self.ids.setdefault(name, {})
        makers = [rule for rule in STORING if rule.does is Does.MAKES]
        for rule in sorted(makers, key=lambda rule: rule.path.count("{")):
            path = filled(rule.path, mine)
            body = {"input_file_id": mine["files"]} if rule.made == "batches" else {}
            text = {"instructions": f"{name}'s {SECRET}"}
            response = await self.send(who, "POST", path, json=body | text)
            assert response.status_code == 200, (rule.path, response.text)
            answer = response.json()
            mine.setdefault(rule.made, answer["id"])
            self.upstream.files.setdefault(mine.get("files", ""), b"")
            if rule.made == "jobs":
                mine["models"] = answer["fine_tuned_model"]
            if rule.made == "responses":
                mine.setdefault("items", answer["output"][0]["id"])

    def foreign(self, answer: httpx2.Response, tried: object) -> None:
        """Check that an answer shows nothing of Ann's."""
        text = answer.text + str(answer.headers)
        assert SECRET not in text, tried
        for id_ in self.ids["ann"].values():
            assert id_ not in text or id_ in str(tried), tried


def filled(path: str, ids: dict[str, str], nested: str = "inner_1") -> str:
    return re.sub(r"\{([^}]*)\}", lambda hit: nested if hit[1] == "*" else ids[hit[1]], path)


def two_keys() -> Doors:
    return Doors(configured("ann:one,bob:two"), None, microseconds, open_to_all=False, public=False)


def speaker(upstream: StoringUpstream) -> Passage:
    return Passage(api_key=KEY, base_url=upstream.base_url)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with (
        StoringUpstream() as upstream,
        serving(tmp_path, [member(speaker(upstream))], two_keys()) as served,
    ):
        house = House(served, upstream)
        await house.furnish("ann", ANN)
        yield house


class TestPaths:
    async def test_nobody_reaches_anothers(self, house: House) -> None:
        await house.furnish("bob", BOB)
        ann = house.ids["ann"]
        for name in WITH_IDS:
            method, path = name.split()
            kinds = [kind for kind in RULES[name].kinds if kind != "*"]
            for kind in kinds:  # each of them Ann's, the others one's own
                tried = filled(path, {**house.ids["bob"], kind: ann[kind]})
                start = len(house.upstream.seen)
                answer = await house.send(BOB, method, tried, json={} if method == "POST" else None)
                error_of(answer, 404)
                house.foreign(answer, tried)
                unknown = filled(path, {**house.ids["bob"], kind: UNKNOWN})
                other = await house.send(BOB, method, unknown)
                assert other.text.replace(UNKNOWN, ann[kind]) == answer.text
                assert house.upstream.said_to(start) == ""

    async def test_everybody_reaches_ones_own(self, house: House) -> None:
        deletes = [name for name in WITH_IDS if RULES[name].does is Does.DELETES]
        for name in (*(name for name in WITH_IDS if name not in deletes), *deletes):
            method, path = name.split()
            answer = await house.send(ANN, method, filled(path, house.ids["ann"]))
            assert answer.status_code == 200, (name, answer.text)
        for name in deletes:  # what is gone is nobody's
            path = filled(name.split()[1], house.ids["ann"])
            error_of(await house.send(ANN, "DELETE", path), 404)

    async def test_no_way_to_write_a_path_hides_an_id(self, house: House) -> None:
        file, start = house.ids["ann"]["files"], len(house.upstream.seen)
        hidden = "".join(f"%{ord(letter):02x}" for letter in file)
        twice = hidden.replace("%", "%25")
        paths = [
            *(f"/files/{hidden}", f"/files/{twice}", f"//files//{file}//", f"/files/{file}/"),
            *(f"/FILES/{file}", f"/files/{file.upper()}", f"/files/x%2F..%2F{file}"),
            *(f"/files/;{file}", f"/files;x/{file}", f"/files/%2e/{file}", f"/files/{file}%00"),
            *(f"/files%2F{file}", f"/%66iles/{file}", f"/files/{file}%3Fx", f"/files/{file}%23"),
            *(f"/models/..%2Ffiles%2F{file}", f"/files\\{file}", f"/files/{file}%20"),
            *(f"/engines/x/..%2F..%2Ffiles%2F{file}", f"/files?id={file}", f"/x/{file}"),
            *(f"/responses/input_tokens/{file}", f"/files/{file}?a=b", f"/realtime/calls/{file}"),
        ]
        for path in paths:
            for method in ("GET", "HEAD", "DELETE", "POST", "PUT", "PATCH", "OPTIONS"):
                async with connected(house.served.port) as wire:
                    head = f"{method} /v1{path} HTTP/1.1\r\nHost: localhost\r\n"
                    close = "Connection: close\r\nAuthorization: Bearer two\r\n\r\n"
                    wire._writer.write((head + close).encode())
                    answer = await wire.reader.read()
                    assert SECRET.encode() not in answer, path
        sent = house.upstream.said_to(start).lower()
        assert file not in sent
        assert hidden not in sent
        assert file in house.upstream.things

    async def test_what_a_query_names_is_ones_own(self, house: House) -> None:
        ids, start = house.ids["ann"], len(house.upstream.seen)
        await house.furnish("bob", BOB)
        start = len(house.upstream.seen)
        path = f"/responses/{house.ids['bob']['responses']}"
        for query in (f"conversation_id={ids['conversations']}", f"x[file_id]={ids['files']}"):
            error_of(await house.send(BOB, "GET", f"{path}?{query}"), 404)
            error_of(await house.send(BOB, "GET", f"/files?{query}"), 404)
        assert house.upstream.said_to(start) == ""
        assert (await house.send(BOB, "GET", f"{path}?include[]=x&stream=false")).is_success


class TestLists:
    async def test_they_show_ones_own(self, house: House) -> None:
        bob: dict[str, list[str]] = {name: [] for name in LISTS}
        for name in LISTS:
            path, kind = RULES[name].path, RULES[name].made
            for _ in range(7):  # between many of others'
                for _ in range(30):
                    house.upstream.make(kind, SECRET)
                body = {"input_file_id": bob["GET /files"][0]} if kind == "batches" else {}
                made = await house.send(BOB, "POST", path, json=body)
                bob[name].insert(0, made.json()["id"])
                house.upstream.files[bob["GET /files"][0]] = b""
        for name in LISTS:
            path, found, after = RULES[name].path, [], ""
            for _ in range(9):
                answer = await house.send(BOB, "GET", f"{path}?limit=5{after}")
                house.foreign(answer, path)
                page = answer.json()
                ids = [one["id"] for one in page["data"]]
                assert (page["first_id"], page["last_id"]) == (ids[0], ids[-1])
                found += ids
                after = f"&after={ids[-1]}"
                if not page["has_more"]:
                    break
            assert [one for one in found if one in bob[name]] == bob[name]

    async def test_who_has_nothing_sees_nothing(self, house: House) -> None:
        start = len(house.upstream.seen)
        for rule in (RULES[name] for name in LISTS):
            assert (await house.send(BOB, "GET", rule.path)).json()["data"] == []
            ann = house.ids["ann"][rule.made]
            for after in (ann, UNKNOWN):
                answer = await house.send(BOB, "GET", f"{rule.path}?after={after}")
                assert error_of(answer, 404)["message"] == f"No such object: '{after}'."
            answer = await house.send(BOB, "GET", f"{rule.path}?before={ann}")
            error_of(answer, 400, "unsupported_parameter")
        assert house.upstream.said_to(start) == ""


class TestBodies:
    async def test_no_field_names_anothers(self, house: House) -> None:
        await house.furnish("bob", BOB)
        start = len(house.upstream.seen)
        ids = sorted(set(house.ids["ann"].values()))
        for name, id_ in ((name, ids[n % len(ids)]) for n, name in enumerate(POSTS)):
            path = filled(name.split()[1], house.ids["bob"])
            fields: list[dict[str, Any]] = [{one: id_} for one in ("file_id", "some_new_id", "id")]
            fields += [{"input": [{"type": "item_reference", "id": id_}]}, {"x_ids": ["a", id_]}]
            for body in (fields + fields)[len(path) % 5 :][:2]:
                answer = await house.send(BOB, "POST", path, json=body)
                error_of(answer, 404)
                house.foreign(answer, body)
        assert house.upstream.said_to(start) == ""

    async def test_every_name_that_is_known_counts(self, house: House) -> None:
        start, file = len(house.upstream.seen), house.ids["ann"]["files"]
        for path in ("/responses", "/images/edits"):
            for one in sorted(_NAMING):
                for body in ({one: file}, {"a": [{one: [file]}]}, {one.upper(): file}):
                    answer = await house.send(BOB, "POST", path, json=body)
                    error_of(answer, 404, *_code(body))
                    house.foreign(answer, body)
        assert house.upstream.said_to(start) == ""

    async def test_no_way_to_write_a_body_hides_an_id(self, house: House) -> None:
        start, file = len(house.upstream.seen), house.ids["ann"]["files"]
        one = json.dumps({"file_id": file})
        escaped = "".join(f"\\u{ord(letter):04x}" for letter in file)
        bodies: list[tuple[str, bytes]] = [
            ("application/json", f'{{"file_id": "{file}", "file_id": "x"}}'.encode()),
            ("application/json", f'{{"file_id": "x", "file_id": "{file}"}}'.encode()),
            ("application/json", f'{{"\\u0066ile_id": "{escaped}"}}'.encode()),
            ("application/json", f'{{"file_i\\u0064": "{file}"}}'.encode()),
            ("application/json", f'{{"file_idſ": ["{file}"]}}'.encode()),
            ("application/json; charset=utf-16", one.encode("utf-16")),
            ("application/vnd.x+json", one.encode()),
            ("", one.encode()),
            ("text/plain", one.encode()),
            ("application/x-www-form-urlencoded", f"file_id={file}".encode()),
            ("application/octet-stream", one.encode()),
            ("application/json", f"[{one}]".encode()),
            ("application/json", f"{one}\n{one}".encode()),
        ]
        for path in ("/responses", "/images/edits"):
            for kind, body in bodies:
                headers = {"content-type": kind}
                answer = await house.send(BOB, "POST", path, content=body, headers=headers)
                assert answer.status_code >= 400 or file not in house.upstream.said_to(start), body
                house.foreign(answer, (body, file))
        assert file not in house.upstream.said_to(start)

    async def test_forms_are_looked_at_while_they_go_by(self, house: House) -> None:
        start, file = len(house.upstream.seen), house.ids["ann"]["files"]
        forms: list[dict[str, Any]] = [
            {"data": {"file_id": file}, "files": {"file": ("a.txt", b"x" * 100_000)}},
            {"files": {"file": ("a.txt", b"x"), "video[id]": (None, file)}},
            {"files": {"any": (None, json.dumps({"input": [{"file_id": file}]}))}},
        ]
        for path in ("/files", "/videos/edits", f"/containers/{UNKNOWN}/files"):
            for form in forms:
                answer = await house.send(BOB, "POST", path, **form)
                error_of(answer, 404)
        assert file not in house.upstream.said_to(start)

    async def test_forms_that_can_be_read_in_two_ways_are_refused(self, house: House) -> None:
        start, file = len(house.upstream.seen), house.ids["ann"]["files"]
        place = b"content-disposition: form-data; "
        heads = [
            b'%bname="a"; filename="b"\r\nX: y' % place + b"\n" + place + b'name="file_id"',
            b'%bname="a"; name="file_id"' % place,
            b"%bname=\"a\"; name*=utf-8''file_id" % place,
            b'%bname="a"; filename="b"\r\n%bname="file_id"' % (place, place),
            b'%bname="a\\"; name="file_id"' % place,
            b'%bname="file_id"\r\ncontent-transfer-encoding: base64' % place,
            b"content-type: text/plain",
            b'content-disposition: attachment; name="file_id"',
        ]
        bodies = [b"--b\r\n%b\r\n\r\n%b\r\n--b--\r\n" % (head, file.encode()) for head in heads]
        usual = b'%bname="a"; filename="b"\r\n\r\n' % place
        bodies += [
            b'--b\r\n%bx\n--b\n%bname="file_id"\n\n%b\n--b--\r\n' % (usual, place, file.encode()),
            b"--b\r\n%bx\r\n--b--\r\n--b\r\n%b" % (usual, file.encode()),
            b"--b\r\n%bx\r\n" % usual,
            b"x--b\r\n%bx\r\n--b--\r\n" % usual,
        ]
        for body in bodies:
            for pieces in (len(body), 1):

                async def slowly(body: bytes = body, size: int = pieces) -> AsyncIterator[bytes]:
                    for place in range(0, len(body), size):
                        yield body[place : place + size]

                headers = {"content-type": "multipart/form-data; boundary=b"}
                answer = await house.send(BOB, "POST", "/files", content=slowly(), headers=headers)
                assert 400 <= answer.status_code < 500, body
        assert file not in house.upstream.said_to(start)

    async def test_a_form_goes_by_byte_for_byte(self, house: House) -> None:
        data = bytes(range(256)) * 1000
        files = {"file": ("ä.bin", data), "purpose": (None, "user_data"), "end": (None, "")}
        request = httpx2.Request("POST", "http://x/", files=files)
        kind = {"content-type": request.headers["content-type"]}
        sent = request.read()
        answer = await house.send(BOB, "POST", "/files", content=sent, headers=kind)
        assert answer.status_code == 200
        assert house.upstream.seen[-1].raw == sent
        assert data in sent

    async def test_completions_name_ones_own_too(self, house: House) -> None:
        start = len(house.upstream.seen)
        audio = {"role": "assistant", "audio": {"id": "audio_1"}}
        part = {"type": "file", "file": {"file_id": house.ids["ann"]["files"]}}
        for said in (audio, {"role": "user", "content": [part]}):
            body = {"model": MODEL, "messages": [said], "stream": True}
            answer = await house.send(BOB, "POST", "/chat/completions", json=body)
            error_of(answer, 404)
            twice = json.dumps(body)[:-1] + ', "messages": [{"role": "user", "content": "x"}]}'
            await house.send(BOB, "POST", "/chat/completions", content=twice)
        for path in ("/completions", "/embeddings", "/moderations"):
            body = {"model": MODEL, "prompt": "x", "input": "x", "file_id": UNKNOWN}
            error_of(await house.send(BOB, "POST", path, json=body), 404)
        assert house.ids["ann"]["files"] not in house.upstream.said_to(start)

    async def test_words_are_nobodys_ids(self, house: House) -> None:
        file = house.ids["ann"]["files"]
        body = {
            "input": [{"role": "user", "content": [{"type": "input_text", "text": file}]}],
            "instructions": file,
            "metadata": {"file_id": file},
            "tools": [{"type": "function", "name": "f", "parameters": {"user_id": file}}],
        }
        assert (await house.send(BOB, "POST", "/responses", json=body)).status_code == 200

    async def test_a_batchs_requests_name_ones_own(self, house: House) -> None:
        made = (await house.send(BOB, "POST", "/files", json={})).json()["id"]
        file = house.ids["ann"]["files"]
        bad: list[Any] = [
            {"url": "/v1/responses", "body": {"input": [{"file_id": file}]}},
            {"url": "/v1/chat/completions", "body": {"messages": [{"x": {"file_id": UNKNOWN}}]}},
            {"url": f"/v1/files/{file}/content", "body": {}},
            {"url": "/v1/batches", "body": {"input_file_id": file}},
            [],
        ]
        lines = [json.dumps(one) for one in bad]
        lines += [f'{{"url": "/v1/responses", "body": {{"file_id": "{file}", "file_id": 1}}}}', "{"]
        good = json.dumps({"url": "/v1/responses", "body": {"input": "Hi", "file_id": made}})
        for line in lines:
            house.upstream.files[made] = f"{good}\n{line}\n".encode()
            start = len(house.upstream.seen)
            answer = await house.send(BOB, "POST", "/batches", json={"input_file_id": made})
            assert answer.status_code in (400, 404), line
            house.foreign(answer, line)
            assert [one.method for one in house.upstream.seen[start:]] == ["GET"]
        house.upstream.files[made] = f"{good}\n\n{good}".encode()
        answer = await house.send(BOB, "POST", "/batches", json={"input_file_id": made})
        assert answer.status_code == 200


def _code(body: dict[str, Any]) -> list[str]:
    named = "previous_response_id" in str(body).lower()
    return ["previous_response_not_found"] if named else []


class TestAnswers:
    async def test_what_comes_of_a_request_is_its_askers(self, house: House) -> None:
        for name in LEARNT:
            if RULES[name].does is not Does.LISTS:
                await self.learn(house, name)

    async def learn(self, house: House, name: str) -> None:
        rule: Rule = RULES[name]
        method, path = name.split()
        given = {"input_file_id": house.ids["ann"]["files"]} if rule.made == "batches" else {}
        before = set(house.upstream.things)
        tried = filled(path, house.ids["ann"])
        body = given if method == "POST" else None
        assert (await house.send(ANN, method, tried, json=body)).status_code == 200
        fresh = set(house.upstream.things) - before
        assert fresh
        objects = house.served.conversations.objects
        assert set(await objects.own("ann", fresh)) == fresh
        assert not await objects.own("bob", fresh)

    async def test_nobody_takes_over_what_is_anothers(self, house: House) -> None:
        file = house.ids["ann"]["files"]
        house.upstream.next_ids.append(file)
        answer = await house.send(BOB, "POST", "/files", json={})
        error_of(answer, 502)
        house.foreign(answer, "")
        error_of(await house.send(BOB, "GET", f"/files/{file}"), 404)
        assert (await house.send(ANN, "GET", f"/files/{file}")).status_code == 200

    async def test_a_key_for_trying_again_is_ones_own(self, house: House) -> None:
        for who in (ANN, BOB, BOB):
            headers = {"idempotency-key": "1"}
            await house.send(who, "POST", "/responses", json={}, headers=headers)
        keys = [one.headers["idempotency-key"] for one in house.upstream.seen[-3:]]
        assert keys[0] != keys[1] == keys[2]


class TestRefusals:
    async def test_what_cannot_be_told_apart_is_refused(self, house: House) -> None:
        start = len(house.upstream.seen)
        for path in ("/evals", "/organization/projects", "/agents", "/new", "/realtime/calls/x"):
            for method in ("GET", "POST", "DELETE", "PUT"):
                error_of(await house.send(BOB, method, path), 403, "shared_upstream")
        assert house.upstream.said_to(start) == ""

    async def test_what_stores_nothing_goes_by(self, house: House) -> None:
        body = {"model": MODEL, "input": "x", "documents": [{"id": "1", "text": "x"}]}
        for rule in STATELESS:
            assert (await house.send(BOB, "POST", rule.path, json=body)).status_code == 200
            assert json.loads(house.upstream.seen[-1].raw) == body


@dataclass
class Wired:
    """A server over a scripted upstream, for what comes in the middle of an answer."""

    served: Served
    upstream: ScriptedUpstream

    async def own(self, owner: str, *ids: str) -> set[str]:
        return set(await self.served.conversations.objects.own(owner, ids))


@pytest.fixture
async def wired(tmp_path: Path) -> AsyncIterator[Wired]:
    async with passing(tmp_path, two_keys()) as (served, upstream):
        yield Wired(served, upstream)


def told_by(kind: str, **more: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **more})}\n\n".encode()


def stream(*steps: Step) -> Behaviour:
    async def behave(exchange: Exchange) -> None:
        await exchange.head(200, {"content-type": SSE, "transfer-encoding": "chunked"})
        await exchange.play(*steps)
        await exchange.chunk(b"")

    return behave


class TestStreams:
    async def test_it_is_kept_whose_it_is_before_it_is_told(self, wired: Wired) -> None:
        created = told_by("response.created", response={"id": "resp_1", "output": []})
        added = told_by("response.output_item.added", item={"id": "msg_1"})
        box = told_by("response.output_item.done", item={"id": "ci_1", "container_id": "cntr_1"})
        gates = [asyncio.Event() for _ in range(3)]
        wired.upstream.script(
            stream(created[:30], created[30:], gates[0], added, gates[1], box, gates[2])
        )
        async with connected(wired.served.port) as wire:
            await wire.post("/v1/responses", {"stream": True}, headers=ANN)
            assert b" 200 " in await wire.head()
            for event, ids, gate in zip(
                (created, added, box),
                ({"resp_1"}, {"msg_1"}, {"ci_1", "cntr_1"}),
                gates,
                strict=True,
            ):
                assert await wire.chunk() == event
                assert await wired.own("ann", *ids) == ids
                assert await wired.own("bob", *ids) == set()
                gate.set()
            assert await wire.chunk() == b""

    async def test_one_that_tells_of_anothers_is_cut(self, wired: Wired) -> None:
        wired.upstream.script(document({"id": "resp_1"}))
        await wired.served.client.post("/v1/responses", json={}, headers=ANN)
        wired.upstream.script(stream(told_by("response.created", response={"id": "resp_1"})))
        async with connected(wired.served.port) as wire:
            await wire.post("/v1/responses", {"stream": True}, headers=BOB)
            await wire.head()
            assert await wire.reader.read() == b""
        assert await wired.own("bob", "resp_1") == set()

    async def test_a_thread_that_is_made_with_its_run_is_kept(self, wired: Wired) -> None:
        thread = b'event: thread.created\ndata: {"id": "thread_1", "object": "thread"}\n\n'
        run = b'event: thread.run.created\ndata: {"id": "run_1", "object": "thread.run"}\n\n'
        wired.upstream.script(stream(thread, run))
        await wired.served.client.post("/v1/threads/runs", json={"stream": True}, headers=ANN)
        assert await wired.own("ann", "thread_1", "run_1") == {"thread_1"}

    async def test_who_hangs_up_keeps_what_the_upstream_has_answered(self, tmp_path: Path) -> None:
        gate, body = asyncio.Event(), b'{"id": "resp_1"}'
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        async with ScriptedUpstream() as upstream:
            heard = Heard(api_key=KEY, base_url=upstream.base_url)
            upstream.script(wire_of(head % len(body) + body[:5], gate, body[5:]))
            async with serving(tmp_path, [member(heard)], two_keys()) as served:
                async with connected(served.port) as wire:
                    await wire.post("/v1/responses", {}, headers=ANN)
                    await heard.head.wait()
                    (task,) = served.facade.visits
                while not (task.cancelling() or task.done()):  # until it is seen that nobody waits
                    await asyncio.sleep(0)
                gate.set()
                await asyncio.wait([task])
                assert set(await served.conversations.objects.own("ann", {"resp_1"})) == {"resp_1"}


class Heard(Passage):
    """A passage that says when the head of an answer is there."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.head = asyncio.Event()

    @asynccontextmanager
    async def call(self, call: Call) -> AsyncIterator[Reply]:
        async with super().call(call) as reply:
            self.head.set()
            yield reply


class TestKeys:
    async def test_alone_all_goes_by_as_it_is_and_stays_ones_own(self, tmp_path: Path) -> None:
        file = KeyFile(tmp_path / "keys")
        ann, kept = new_key("ann", 1)
        file.add(kept)
        doors = Doors((), file, microseconds, open_to_all=False, public=False)
        async with (
            StoringUpstream() as upstream,
            serving(tmp_path, [member(speaker(upstream))], doors) as served,
        ):
            house = House(served, upstream)
            me = {"authorization": f"Bearer {ann}"}
            read, listed = upstream.make("files", "old"), upstream.make("vector_stores", "old")
            never = upstream.make("files", "never seen")
            body = b'{"file_id":  "x", "file_id": "y"}'
            for path in ("/evals", f"/files/{read}", "/vector_stores", "/responses/a%2Fb"):
                assert (await house.send(me, "GET", path)).status_code == 200
                assert upstream.seen[-1].path == f"/v1{path}"
            await house.send(me, "POST", "/responses", content=body)
            assert upstream.seen[-1].raw == body

            bob, kept = new_key("bob", 1)
            file.add(kept)
            error_of(await house.send(me, "GET", "/evals"), 403, "shared_upstream")
            for path in (f"/files/{read}", f"/vector_stores/{listed}"):
                assert (await house.send(me, "GET", path)).status_code == 200
                error_of(await house.send({"authorization": f"Bearer {bob}"}, "GET", path), 404)
            error_of(await house.send(me, "GET", f"/files/{never}"), 404)

    async def test_without_a_database_nothing_new_is_acknowledged(self, tmp_path: Path) -> None:
        async with (
            StoringUpstream() as upstream,
            serving(tmp_path, [member(speaker(upstream))]) as served,
        ):
            house = House(served, upstream)
            file = (await house.send({}, "POST", "/files", json={})).json()["id"]
            await served.store.close()
            for path in (f"/files/{file}", "/files", "/files/other"):
                assert (await house.send({}, "GET", path)).status_code == 200
            error_of(await house.send({}, "POST", "/files", json={}), 503)

    async def test_what_a_key_had_stays_its_own_when_it_is_gone(self, tmp_path: Path) -> None:
        async with StoringUpstream() as upstream:
            members = [member(speaker(upstream))]
            async with serving(tmp_path, members, two_keys()) as served:
                file = (await House(served, upstream).send(ANN, "POST", "/files", json={})).json()
            bob = Doors(configured("bob:two"), None, microseconds, open_to_all=False, public=False)
            async with serving(tmp_path, [member(speaker(upstream))], bob) as served:
                house = House(served, upstream)
                error_of(await house.send(BOB, "GET", f"/files/{file['id']}"), 404)
                assert (await house.send(BOB, "GET", "/files")).json()["data"] == []

    async def test_each_thing_is_asked_for_where_it_is(self, tmp_path: Path) -> None:
        async with StoringUpstream() as here, StoringUpstream() as there:
            members = [
                member(speaker(here), "here", models=("a",)),
                member(speaker(there), "there", models=("b",)),
            ]
            async with serving(tmp_path, members, two_keys()) as served:
                house = House(served, there)
                made = await house.send(ANN, "POST", "/responses", json={"model": "b"})
                id_ = made.json()["id"]
                assert (await house.send(ANN, "GET", f"/responses/{id_}")).status_code == 200
                assert [one.path for one in here.seen] == []
                body = {"model": "a", "previous_response_id": id_}
                answer = await house.send(ANN, "POST", "/responses", json=body)
                error_of(answer, 404, "model_not_found")
                assert here.seen == []
