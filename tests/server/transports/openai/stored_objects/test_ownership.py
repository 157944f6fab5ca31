"""Two keys and an upstream with every storing API: neither learns of the other's.

What is tried is taken from the table of routes: a new row is tried too.
"""

from __future__ import annotations

import json

from server.transports.openai.stored_objects.resources import STATELESS, STORING, Does, ResourceRule
from tests.server.transports.openai.openai_client import connected, error_of
from tests.server.transports.openai.stored_objects.shared_house import (
    SECRET,
    UNKNOWN,
    House,
    filled,
    posted,
)
from tests.support.access import ANN, BOB
from tests.support.upstream_script import MODEL

NAMES = [f"{method} {rule.path}" for rule in STORING for method in sorted(rule.methods)]
RULES = dict(zip(NAMES, [rule for rule in STORING for _ in rule.methods], strict=True))
WITH_IDS = [name for name in NAMES if "{" in RULES[name].path]
LISTS = [name for name in NAMES if RULES[name].does is Does.LISTS]
LEARNT = [name for name in NAMES if RULES[name].learns]


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
                    await wire.send((head + close).encode())
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
        path = f"/files/{house.ids['bob']['files']}"
        for query in (f"thread_id={ids['threads']}", f"x[file_id]={ids['files']}"):
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


class TestAnswers:
    async def test_what_comes_of_a_request_is_its_askers(self, house: House) -> None:
        for name in LEARNT:
            if RULES[name].does is not Does.LISTS:
                await self.learn(house, name)

    async def learn(self, house: House, name: str) -> None:
        rule: ResourceRule = RULES[name]
        method, path = name.split()
        given = {"input_file_id": house.ids["ann"]["files"]} if rule.made == "batches" else {}
        before = set(house.upstream.things)
        tried = filled(path, house.ids["ann"])
        body = posted(path, given) if method == "POST" else None
        assert (await house.send(ANN, method, tried, json=body)).status_code == 200
        fresh = set(house.upstream.things) - before
        assert fresh
        objects = house.served.objects
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
            await house.send(who, "POST", "/threads", json={}, headers=headers)
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
