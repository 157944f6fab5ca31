"""No body names what is another key's, however it is written."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2

from server.transports.openai.stored_objects.references import NAMING
from server.transports.openai.stored_objects.resources import STORING
from tests.server.transports.openai.openai_client import error_of
from tests.server.transports.openai.stored_objects.shared_house import (
    UNKNOWN,
    House,
    filled,
    posted,
)
from tests.support.access import BOB
from tests.support.upstream_script import MODEL

LIKE = "file-AbcdefGhijklMnopqrst"  # as OpenAI's are
POSTS = [f"POST {rule.path}" for rule in STORING if "POST" in rule.methods]


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
                answer = await house.send(BOB, "POST", path, json=posted(path, body))
                error_of(answer, 404)
                house.foreign(answer, body)
        assert house.upstream.said_to(start) == ""

    async def test_every_name_that_is_known_counts(self, house: House) -> None:
        start, file = len(house.upstream.seen), house.ids["ann"]["files"]
        for path in ("/threads/runs", "/images/edits"):
            for one in sorted(NAMING):
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
        for path in ("/threads/runs", "/images/edits"):
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
            {"files": {"any": (None, f'{{"file_id": "{LIKE}", "file_id": "x"}}')}},
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

    async def test_no_border_ends_in_a_space_that_some_readers_strip(self, house: House) -> None:
        start, file = len(house.upstream.seen), house.ids["ann"]["files"]
        place = "content-disposition: form-data; "
        hidden = f'--x\r\n{place}name="file_id"\r\n\r\n{file}\r\n--x--\r\n'
        body = f'--x \r\n{place}name="a"; filename="b"\r\n\r\n{hidden}\r\n--x --\r\n'.encode()
        headers = {"content-type": 'multipart/form-data; boundary="x "'}
        error_of(await house.send(BOB, "POST", "/files", content=body, headers=headers), 400)
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
        assert (await house.send(BOB, "POST", "/threads", json=body)).status_code == 200

    async def test_a_prompts_variables_may_be_called_anything(self, house: House) -> None:
        file, start = house.ids["ann"]["files"], len(house.upstream.seen)
        for name in ("name", "text", "doc", "Data"):
            variables: dict[str, Any] = {name: {"type": "input_file", "file_id": file}}
            body = {"model": MODEL, "prompt": {"id": "pmpt_1", "variables": variables}}
            error_of(await house.send(BOB, "POST", "/threads", json=body), 404)
        assert house.upstream.said_to(start) == ""
        body = {"model": MODEL, "prompt": {"id": "pmpt_1", "variables": {"file": "hello"}}}
        assert (await house.send(BOB, "POST", "/threads", json=body)).status_code == 200

    async def test_a_batchs_requests_name_ones_own(self, house: House) -> None:
        made = (await house.send(BOB, "POST", "/files", json={})).json()["id"]
        file = house.ids["ann"]["files"]
        bad: list[Any] = [
            {"url": "/v1/responses", "body": {"input": [{"file_id": file}]}},
            {"url": "/v1/chat/completions", "body": {"messages": [{"x": {"file_id": UNKNOWN}}]}},
            {"url": f"/v1/files/{file}/content", "body": {}},
            {"url": "/v1/batches", "body": {"input_file_id": file}},
            {"method": "GET", "url": "/v1/videos", "body": {}},
            [],
        ]
        lines = [json.dumps(one) for one in bad]
        lines += [f'{{"url": "/v1/responses", "body": {{"file_id": "{file}", "file_id": 1}}}}', "{"]
        hidden = json.dumps({"url": "/v1/responses", "body": {"file_id": file}})
        lines += [f'{{"url": "/v1/responses", "body": {{"metadata": \r{hidden}\r}}}}']
        good = json.dumps({"url": "/v1/responses", "body": {"input": "Hi", "file_id": made}})
        for line in lines:
            house.upstream.files[made] = f"{good}\n{line}\n".encode()
            start = len(house.upstream.seen)
            answer = await house.send(BOB, "POST", "/batches", json={"input_file_id": made})
            assert answer.status_code in (400, 404), line
            house.foreign(answer, line)
            assert [one.method for one in house.upstream.seen[start:]] == ["GET"]
        house.upstream.files[made] = f"{good}\r\n\n{good}".encode()
        answer = await house.send(BOB, "POST", "/batches", json={"input_file_id": made})
        assert answer.status_code == 200


def _code(body: dict[str, Any]) -> list[str]:
    named = "previous_response_id" in str(body).lower()
    return ["previous_response_not_found"] if named else []
