"""The websocket mode of `/v1/responses`: its door, its frames, what it remembers, how it ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from openai.types.responses.responses_server_event import ResponseWsError
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from server.config.limits import WebsocketLimits
from server.config.quantities import Rate
from server.core.access.auth import Auth, configured
from server.core.access.rate import RateLimit
from server.core.clock import microseconds
from server.upstream.pool import PoolMember
from server.upstream.port import UpstreamFailedError
from tests.server.transports.openai.openai_client import Served, serving
from tests.server.transports.openai.responses.stateful import RESPONSES, asked
from tests.server.transports.websocket.websocket_client import TRY_LATER, Peer
from tests.support.access import ANN, BOB, EAGER, OPEN_ACCESS, Revocable, two_keys
from tests.support.fakes import Clock, Puppet
from tests.support.raw_websocket import TEXT, frame, handshake

TERMINAL = ("response.completed", "response.failed", "response.incomplete", "error")
Frame = dict[str, Any]


class Client(Peer):
    """A client of the websocket mode."""

    async def create(self, said: Any = "Hello", **more: Any) -> None:
        await self.say("response.create", **asked(said, **more))

    async def answer(self) -> list[Frame]:
        """Return the frames up to the end of the next response, or its error."""
        heard = [await self.hear()]
        while heard[-1]["type"] not in TERMINAL:
            heard.append(await self.hear())
        return heard

    async def end(self) -> Frame:
        return (await self.answer())[-1]

    async def response(self) -> Frame:
        ended = await self.end()
        assert ended["type"] == "response.completed", ended
        response: Frame = ended["response"]
        return response

    async def error(self) -> tuple[int, str | None]:
        """Return status and code of an error, which has OpenAI's shape, and Open Responses'."""
        told = await self.end()
        assert told["type"] == "error", told
        assert told["error"].keys() == {"type", "code", "message", "param", "headers"}
        assert isinstance(told["error"]["code"], str)
        return told["status"], told["error"]["code"]

    async def close_code(self) -> int | None:
        """Return the code that the server closes with."""
        with pytest.raises(ConnectionClosed):
            await asyncio.wait_for(self.socket.recv(), 10)
        return self.socket.close_code


@dataclass
class House:
    served: Served
    puppet: Puppet

    @asynccontextmanager
    async def client(
        self, path: str = RESPONSES, name: str = "localhost", **options: Any
    ) -> AsyncIterator[Client]:
        url = f"ws://{name}:{self.served.port}{path}"
        async with connect(url, proxy=None, host="127.0.0.1", **options) as socket:
            yield Client(socket)

    async def refused(self, **options: Any) -> tuple[int, Frame]:
        with pytest.raises(InvalidStatus) as caught:
            async with self.client(**options):
                pass
        answer = caught.value.response
        assert answer.headers["x-request-id"].startswith("req_")
        error: Frame = json.loads(answer.body or b"")["error"]
        assert error.keys() == {"message", "type", "param", "code"}
        return answer.status_code, error

    def sent(self, number: int = -1) -> list[tuple[str, Any]]:
        messages = self.puppet.prompts[number].messages
        return [(str(one.role), one.content) for one in messages]

    async def idle(self) -> None:
        while self.served.conversations.running:
            await asyncio.sleep(EAGER)


@asynccontextmanager
async def house(folder: Path, auth: Auth = OPEN_ACCESS, **given: Any) -> AsyncIterator[House]:
    limits = WebsocketLimits(**given.pop("limits", {}))
    puppet, speaker = Puppet(), Puppet()
    members = [PoolMember("puppet", puppet, speaker)]  # type: ignore[arg-type]
    async with serving(folder, members, auth, websockets=limits, **given) as served:
        yield House(served, puppet)


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path) as made:
        yield made


@pytest.fixture
async def client(home: House) -> AsyncIterator[Client]:
    async with home.client() as made:
        yield made


class TestDoor:
    async def test_a_key_is_shown_by_either_header(self, tmp_path: Path) -> None:
        async with house(tmp_path, two_keys()) as home:
            for headers in (ANN, {"api-key": "two"}):
                async with home.client(additional_headers=headers) as client:
                    home.puppet.answer("Hi")
                    await client.create()
                    await client.response()

    async def test_without_one_it_is_closed_in_openais_shape(self, tmp_path: Path) -> None:
        async with house(tmp_path, two_keys()) as home:
            for headers in ({}, {"authorization": "Bearer wrong"}):
                status, error = await home.refused(additional_headers=headers)
                assert (status, error["code"]) == (401, "invalid_api_key")

    async def test_foreign_pages_and_hosts_are_turned_away(self, home: House) -> None:
        for foreign in ({"origin": "http://evil.example"}, {"name": "evil.example"}):
            status, error = await home.refused(**foreign)
            assert (status, error["type"]) == (403, "invalid_request_error")

    async def test_a_key_that_is_there_twice_lets_nobody_in(self, home: House) -> None:
        keys = [("authorization", "Bearer one"), ("authorization", "Bearer two")]
        status, _ = await home.refused(additional_headers=keys)
        assert status == 400

    async def test_nobody_is_let_in_while_the_server_ends(self, home: House) -> None:
        await home.served.conversations.drain(0)
        status, error = await home.refused()
        assert (status, error["type"]) == (503, "server_error")

    async def test_azures_paths_lead_there_too(self, home: House) -> None:
        for path in ("/openai/v1/responses", "/openai/responses?api-version=1"):
            async with home.client(path) as client:
                home.puppet.answer("Hi")
                await client.create()
                await client.response()

    async def test_frames_in_the_handshakes_segment_are_answered(self, home: House) -> None:
        home.puppet.answer("Hi")
        create = json.dumps({"type": "response.create", **asked("x" * 100_000)}).encode()
        reader, writer = await asyncio.open_connection("127.0.0.1", home.served.port)
        writer.write(handshake(RESPONSES) + frame(TEXT, create))
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")
        await reader.readuntil(b"response.completed")
        writer.transport.abort()

    async def test_one_too_many_is_told_to_come_later(self, tmp_path: Path) -> None:
        async with (
            house(tmp_path, limits={"connections": 1}) as home,
            home.client(),
            home.client() as second,
        ):
            assert await second.close_code() == TRY_LATER


class TestAnswers:
    async def test_events_are_those_that_http_tells(self, home: House, client: Client) -> None:
        home.puppet.answer("Once upon ", "a time")
        await client.create()
        told = await client.answer()
        assert [one["sequence_number"] for one in told] == list(range(len(told)))
        id_ = told[-1]["response"]["id"]
        again = await home.served.client.get(f"{RESPONSES}/{id_}?stream=true")
        lines = [line for line in again.text.split("\n") if line.startswith("data: {")]
        assert [json.loads(line.removeprefix("data: ")) for line in lines] == told

    async def test_openais_client_reads_them(self, home: House) -> None:
        home.puppet.answer("Hi there")
        sdk = home.served.openai
        async with sdk.responses.connect() as connection:
            await connection.response.create(**asked("Hello"))
            events = [await connection.recv()]
            while events[-1].type != "response.completed":
                events.append(await connection.recv())
            assert events[-1].response.output_text == "Hi there"
            assert (await sdk.responses.retrieve(events[-1].response.id)).status == "completed"
            await connection.response.create(**asked("Hello", temperature=9))
            error = await connection.recv()
            assert isinstance(error, ResponseWsError)
            assert (error.status, error.error.param) == (400, "temperature")

    async def test_creates_wait_in_line(self, home: House, client: Client) -> None:
        for said in ("One", "Two", "Three"):
            await client.create(said, store=False)
        await home.puppet.asked(1)
        for answer in ("1", "2", "3"):
            home.puppet.answer(answer)
            response = await client.response()
            assert response["output"][0]["content"][0]["text"] == answer
        assert [home.sent(at)[-1][1] for at in range(3)] == ["One", "Two", "Three"]

    async def test_a_flood_of_them_is_refused(self, tmp_path: Path) -> None:
        async with house(tmp_path, limits={"responses": 2}) as home, home.client() as client:
            await client.create()
            await home.puppet.asked(1)
            for _ in range(50):
                await client.create()
            for _ in range(48):
                told = await client.hear()
                while told["type"] != "error":
                    told = await client.hear()
                assert (told["status"], told["error"]["code"]) == (429, "rate_limit_exceeded")
            for _ in range(3):
                home.puppet.answer("Hi")
                await client.response()
            assert len(home.puppet.prompts) == 3

    async def test_so_is_a_line_that_is_too_long_in_bytes(self, tmp_path: Path) -> None:
        async with house(tmp_path, max_body_bytes=100_000) as home, home.client() as client:
            await client.create("x" * 60_000)
            await home.puppet.asked(1)
            await client.create("x" * 60_000)
            assert await client.error() == (429, "rate_limit_exceeded")

    async def test_a_lane_is_repeated(self, home: House, client: Client) -> None:
        home.puppet.answer("Hi")
        await client.create(stream_id='a"b')
        assert {one["stream_id"] for one in await client.answer()} == {'a"b'}
        await client.create(stream_id="c", temperature=9)
        assert (await client.end())["stream_id"] == "c"

    async def test_steering_is_declined_at_once(self, home: House, client: Client) -> None:
        await client.create()
        await home.puppet.asked(1)
        await client.say("response.steer", previous_response_id="resp_1", input="Stop")
        told = await client.hear()
        while told["type"].startswith(("response.c", "response.i")):
            told = await client.hear()
        assert told["type"] == "response.steer.failed"
        assert told["error"]["code"] == "steering_not_supported"
        assert told["steer"] == {"previous_response_id": "resp_1", "input": "Stop"}
        home.puppet.answer("Hi")
        await client.response()


class TestMemory:
    async def test_what_is_kept_nowhere_is_gone_on_from(self, home: House, client: Client) -> None:
        previous = None
        for said, answer in (("One", "1"), ("Two", "2"), ("Three", "3")):
            home.puppet.answer(answer)
            await client.create(said, store=False, previous_response_id=previous)
            response = await client.response()
            assert response["previous_response_id"] == previous
            previous = response["id"]
        told = [("user", "One"), ("assistant", "1"), ("user", "Two"), ("assistant", "2")]
        assert home.sent() == [*told, ("user", "Three")]
        assert (await home.served.client.get(f"{RESPONSES}/{previous}")).status_code == 404

    async def test_the_last_alone_is_and_there_alone(self, home: House, client: Client) -> None:
        ids = []
        for _ in range(2):
            home.puppet.answer("Hi")
            await client.create(store=False)
            ids.append((await client.response())["id"])
        await client.create(previous_response_id=ids[0])
        assert await client.error() == (404, "previous_response_not_found")
        async with home.client() as another:
            await another.create(previous_response_id=ids[1])
            assert await another.error() == (404, "previous_response_not_found")

    async def test_a_failed_turn_evicts_what_it_went_on_from(
        self, home: House, client: Client
    ) -> None:
        for fails_late in (False, True):
            home.puppet.answer("Hi")
            await client.create(store=False)
            id_ = (await client.response())["id"]
            if fails_late:
                home.puppet.say("Well")
            home.puppet.fail(UpstreamFailedError("broke"))
            await client.create(store=False, previous_response_id=id_)
            ended = await client.end()
            assert ended["type"] == ("response.failed" if fails_late else "error")
            await client.create(store=False, previous_response_id=id_)
            assert await client.error() == (404, "previous_response_not_found")

    async def test_kept_and_not_kept_go_on_from_each_other(
        self, home: House, client: Client
    ) -> None:
        previous = None
        for said, store in (("One", True), ("Two", False), ("Three", False), ("Four", True)):
            home.puppet.answer(said.lower())
            await client.create(said, store=store, previous_response_id=previous)
            previous = (await client.response())["id"]
        home.puppet.answer("five")
        answer = await home.served.client.post(
            RESPONSES, json=asked("Five", previous_response_id=previous)
        )
        assert answer.status_code == 200
        assert [text for _, text in home.sent()] == [
            "One",
            "one",
            "Two",
            "two",
            "Three",
            "three",
            "Four",
            "four",
            "Five",
        ]

    async def test_what_it_stands_on_may_be_deleted_meanwhile(
        self, home: House, client: Client
    ) -> None:
        previous = None
        for said, store in (("One", True), ("Two", False)):
            home.puppet.answer(said.lower())
            await client.create(said, store=store, previous_response_id=previous)
            ids = previous, (await client.response())["id"]
            previous = ids[1]
        await home.served.client.delete(f"{RESPONSES}/{ids[0]}")
        await client.create("Three", previous_response_id=previous)
        assert await client.error() == (404, "previous_response_not_found")

    async def test_a_named_conversation_keeps_what_the_client_does_not(
        self, home: House, client: Client
    ) -> None:
        made = (await home.served.client.post("/v1/conversations", json={})).json()["id"]
        home.puppet.answer("one")
        await client.create("One", store=False, conversation=made)
        id_ = (await client.response())["id"]
        home.puppet.answer("two")
        await client.create("Two", store=False, previous_response_id=id_)
        await client.response()
        assert home.sent() == [("user", "One"), ("assistant", "one"), ("user", "Two")]

    async def test_calls_and_their_results_go_on(self, home: House, client: Client) -> None:
        call = {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}"}
        await client.create(
            [{"role": "user", "content": "Look"}, call], store=False, generate=False
        )
        id_ = (await client.response())["id"]
        result = {"type": "function_call_output", "call_id": "c1", "output": "a tree"}
        home.puppet.answer("Hi")
        await client.create([result], store=False, previous_response_id=id_)
        await client.response()
        assert [role for role, _ in home.sent()] == ["user", "assistant", "tool"]

    async def test_state_is_prepared_and_nobody_is_asked(self, home: House, client: Client) -> None:
        await client.create("Hello", generate=False)
        told = await client.answer()
        assert [one["type"].removeprefix("response.") for one in told] == [
            *("created", "in_progress", "completed")
        ]
        assert (told[-1]["response"]["output"], home.puppet.prompts) == ([], [])
        home.puppet.answer("Hi")
        await client.create([], previous_response_id=told[-1]["response"]["id"])
        await client.response()
        assert home.sent() == [("user", "Hello")]

    async def test_more_than_may_be_held_is_not_remembered(self, tmp_path: Path) -> None:
        async with house(tmp_path, max_body_bytes=20_000) as home, home.client() as client:
            home.puppet.answer("x" * 20_000)
            await client.create("Hello", store=False)
            id_ = (await client.response())["id"]
            await client.create(previous_response_id=id_)
            assert await client.error() == (404, "previous_response_not_found")

    async def test_what_items_say_beside_their_words_is_held_too(self, tmp_path: Path) -> None:
        async with house(tmp_path, max_body_bytes=20_000) as home, home.client() as client:
            said = [
                {"role": "assistant", "content": "a", "phase": "x" * 15_000},
                {"role": "user", "content": "b"},
            ]
            home.puppet.answer("c")
            await client.create(said, store=False)
            id_ = (await client.response())["id"]
            home.puppet.answer("c")
            await client.create(said, store=False, previous_response_id=id_)
            id_ = (await client.response())["id"]
            await client.create(previous_response_id=id_)
            assert await client.error() == (404, "previous_response_not_found")

    async def test_anothers_response_is_not_there(self, tmp_path: Path) -> None:
        async with house(tmp_path, two_keys()) as home:
            ids = []
            async with home.client(additional_headers=ANN) as ann:
                for store in (True, False):
                    home.puppet.answer("wheelbarrow")
                    await ann.create(store=store)
                    ids.append((await ann.response())["id"])
                async with home.client(additional_headers=BOB) as bob:
                    for id_ in (*ids, f"resp_{'0' * 26}"):
                        await bob.create(previous_response_id=id_)
                        assert await bob.error() == (404, "previous_response_not_found")


class TestRefused:
    @pytest.mark.parametrize(
        ("told", "status"),
        [
            ("{", 400),
            ("[]", 400),
            ("null", 400),
            ("{}", 400),
            ('{"type": "response.cancel"}', 400),
            ('{"type": 1}', 400),
            ('{"type": "response.create"}', 400),
            ('{"type": "response.create", "stream_id": 1}', 400),
            ('{"type": "response.create", "generate": "no"}', 400),
            ('{"type": "response.create", "model": "m", "input": "x", "background": true}', 400),
            ('{"type": "response.steer"}', 400),
            (b"{}", 400),
            ("[" * 100_000, 400),
            (json.dumps({"type": "response.create", **asked(previous_response_id="x")}), 404),
            (json.dumps({"type": "response.create", **asked(conversation="conv_x")}), 404),
            (json.dumps({"type": "response.create", **asked(tools=[{"type": "web_search"}])}), 400),
        ],
    )
    async def test_what_is_wrong_is_told_and_closes_nothing(
        self, home: House, client: Client, told: str | bytes, status: int
    ) -> None:
        await client.write(told)
        assert (await client.error())[0] == status
        home.puppet.answer("Hi")
        await client.create()
        await client.response()

    async def test_a_frame_that_is_too_large_closes_with_1009(self, tmp_path: Path) -> None:
        async with house(tmp_path, max_body_bytes=10_000) as home, home.client() as client:
            await client.write("x" * 10_001)
            assert await client.close_code() == 1009

    async def test_frames_count_in_the_keys_rate(self, tmp_path: Path, clock: Clock) -> None:
        keys, limit = configured("ann:one"), RateLimit(Rate(2, 3600), clock)
        auth = Auth(keys, None, microseconds, open_to_all=False, public=False, rate=limit)
        async with house(tmp_path, auth) as home, home.client(additional_headers=ANN) as client:
            home.puppet.answer("Hi")
            await client.create()
            await client.response()
            await client.write("{")
            assert (await client.error())[0] == 400
            await client.create(stream_id="a")
            late = await client.end()
            assert (late["status"], late["stream_id"]) == (429, "a")
            assert late["error"]["headers"] == {"retry-after": "1800"}
            clock.now += 1800
            home.puppet.answer("Hi")
            await client.create()
            await client.response()


class TestEnds:
    async def test_a_revoked_key_ends_an_answer_in_the_middle(self, tmp_path: Path) -> None:
        ann = Revocable(tmp_path)
        async with house(tmp_path, ann.auth, limits={"check_keys_every": EAGER}) as home:
            async with home.client(additional_headers=ann.headers) as client:
                home.puppet.say("Well")
                await client.create(store=False)
                await home.puppet.asked(1)
                ann.revoke()
                assert await client.error() == (401, "invalid_api_key")
                assert await client.close_code() == 1008
            await home.idle()
            assert home.puppet.closed == 1

    async def test_leaving_stops_what_is_kept_nowhere(self, home: House) -> None:
        async with home.client() as client:
            await client.create(store=False)
            await home.puppet.asked(1)
        await home.idle()
        assert home.puppet.closed == 1

    async def test_what_is_kept_goes_on(self, home: House) -> None:
        async with home.client() as client:
            home.puppet.say("Well")
            await client.create()
            id_ = (await client.hear())["response"]["id"]
        home.puppet.answer(", well")
        await home.idle()
        response = (await home.served.client.get(f"{RESPONSES}/{id_}")).json()
        assert response["output"][0]["content"][0]["text"] == "Well, well"

    async def test_a_connection_lasts_so_long_and_no_longer(self, tmp_path: Path) -> None:
        limits = {"responses_seconds": 0.2}
        async with house(tmp_path, limits=limits) as home, home.client() as client:
            assert await client.error() == (400, "websocket_connection_limit_reached")
            assert await client.close_code() == 1000

    async def test_who_reads_nothing_is_cut_off(self, tmp_path: Path) -> None:
        async with house(tmp_path, limits={"patience": 0.05}) as home:
            home.puppet.answer(*("word " * 1000 for _ in range(2000)))
            reader, writer = await asyncio.open_connection("127.0.0.1", home.served.port, limit=1)
            create = json.dumps({"type": "response.create", **asked(store=False)}).encode()
            writer.write(handshake(RESPONSES) + frame(TEXT, create))
            await home.puppet.asked(1)
            await home.idle()
            with suppress(ConnectionError):
                assert b"response.completed" not in await reader.read()
            writer.transport.abort()

    async def test_a_drain_is_told_to_all_who_wait(self, home: House, client: Client) -> None:
        home.puppet.say("Well, then")
        for said in ("One", "Two"):
            await client.create(said)
        while (await client.hear())["type"] != "response.output_text.delta":
            pass
        await home.served.conversations.drain(0)
        assert (await client.end())["type"] == "response.failed"
        assert (await client.error())[0] == 503
