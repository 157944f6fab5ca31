"""What an upstream answers in the place of what was asked for: refusals, and the way elsewhere."""

from __future__ import annotations

import json

import pytest

from server.config.limits import ReplyLimits
from server.upstream.port import Call, UpstreamFailedError
from server.upstream.remote.client import UpstreamClient
from tests.server.upstream.remote.relay_helpers import call, read, replied, scripted
from tests.support.upstream_script import KEY, document, fail, flood, wire
from tests.support.upstream_server import ScriptedUpstream


class TestRefusals:
    async def test_they_keep_status_words_and_when_to_come_again(self) -> None:
        refused = fail(429, "Slow down", code="rate_limit_exceeded", headers={"retry-after": "7"})
        async with replied(refused) as reply:
            error = json.loads(await read(reply))["error"]
            assert reply.status == 429
            assert reply.headers["retry-after"] == "7"
            assert (error["message"], error["code"]) == ("Slow down", "rate_limit_exceeded")

    async def test_they_show_neither_key_nor_address(self) -> None:
        async with ScriptedUpstream() as server:
            server.script(fail(401, f"Incorrect API key: {KEY[:12]}***, {server.base_url}/chat"))
            passage = UpstreamClient(api_key=KEY, base_url=server.base_url)
            async with passage.call(call()) as reply:
                body = await read(reply)
            assert KEY[:12].encode() not in body
            assert str(server.port).encode() not in body
            await passage.close()

    async def test_nor_do_their_headers(self) -> None:
        told = {"openai-model": f"of {KEY}", "x-request-id": KEY}
        async with replied(fail(401, headers=told)) as reply:
            assert reply.headers["openai-model"] == "of [key]"
            assert reply.headers["x-upstream-request-id"] == "[key]"

    async def test_a_key_that_is_cut_is_not_shown_in_part(self) -> None:
        """So much of a refusal is read; spaces go, and the key comes to the front."""
        for shown in (8, 20, 40):
            said = b"no " + b" " * (ReplyLimits().refusal_bytes - 3 - shown) + KEY.encode()
            refused = document(said, status=401, content_type="text/plain")
            async with replied(refused) as reply:
                assert KEY[:8].encode() not in await read(reply)

    async def test_a_refusal_without_end_is_cut(self) -> None:
        endless = flood(9000 * b"x", status=500, content_type="text/plain")
        async with replied(endless) as reply:
            assert len(await read(reply)) < 2_000

    async def test_one_that_breaks_off_still_has_its_status(self) -> None:
        head = b"HTTP/1.1 503 No\r\ncontent-type: text/plain\r\ncontent-length: 99\r\n\r\nbusy"
        async with replied(wire(head)) as reply:
            assert reply.status == 503
            assert json.loads(await read(reply))["error"]["message"] == "busy"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
class TestRedirects:
    """None is followed: our key would go along."""

    @pytest.mark.parametrize(
        "asked",
        [call(), call(stream=True), Call("POST", "/images", body=b"{}")],
        ids=["whole", "streamed", "passed"],
    )
    async def test_another_server_is_never_asked(self, status: int, asked: Call) -> None:
        async with ScriptedUpstream() as other:
            away = document(b"", status=status, headers={"location": f"{other.base_url}/models"})
            async with scripted(away) as (server, passage):
                with pytest.raises(UpstreamFailedError, match="redirect") as failure:
                    async with passage.call(asked):
                        pass
                assert len(server.requests) == 1
            assert other.requests == []
        assert str(other.port) not in str(failure.value)

    @pytest.mark.parametrize("location", ["/v1/models", "{base_url}/models", "?again"])
    async def test_the_same_server_is_asked_once(self, status: int, location: str) -> None:
        async with scripted() as (server, passage):
            there = location.format(base_url=server.base_url)
            server.script(document(b"", status=status, headers={"location": there}))
            with pytest.raises(UpstreamFailedError, match="redirect"):
                async with passage.call(call()):
                    pass
            assert len(server.requests) == 1
