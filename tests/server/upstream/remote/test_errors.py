"""The failures of an OpenAI-compatible server, by their names here."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from server.upstream.port import (
    UpstreamError,
    UpstreamFailedError,
    UpstreamQuotaError,
    UpstreamRateLimitedError,
    UpstreamRejectedError,
    UpstreamTimeoutError,
)
from server.upstream.remote.client import _named
from server.upstream.retry import retry_after
from tests.server.upstream.remote.turn_helpers import scripted, told
from tests.support.upstream_script import KEY, Behaviour, document, fail, wire


async def failure(behaviour: Behaviour) -> UpstreamError:
    async with scripted(behaviour, retries=0) as (_, client):
        with pytest.raises(UpstreamError) as caught:
            await told(client)
    return caught.value


async def test_a_refusal_keeps_status_code_param_and_message() -> None:
    refusal = await failure(
        fail(400, "This model's maximum\ncontext length", code="too_long", param="messages")
    )
    assert refusal == UpstreamRejectedError(
        "This model's maximum context length", 400, "too_long", "messages"
    )


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 413, 422, 451, 499])
async def test_every_other_4xx_is_a_refusal(status: int) -> None:
    refusal = await failure(fail(status))
    assert isinstance(refusal, UpstreamRejectedError)
    assert refusal.status == status


@pytest.mark.parametrize("status", [300, 302, 304, 408, 409, 500, 502, 503, 504, 520, 599])
async def test_other_statuses_are_failures(status: int) -> None:
    broken = await failure(fail(status, headers={"location": "/x"}))
    assert isinstance(broken, UpstreamFailedError)


async def test_a_failure_says_what_the_upstream_said() -> None:
    assert str(await failure(fail(503, "overloaded"))) == (
        "the upstream failed with status 503: overloaded"
    )


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"error": "just text"}, "just text"),
        ({"detail": "Not Found"}, "Not Found"),
        ({"message": "vLLM says no", "object": "error"}, "vLLM says no"),
        ({"detail": [{"msg": "bad"}]}, '[{"msg": "bad"}]'),
        (b"plain words", "plain words"),
        (b"<html><body>no</body></html>", "the upstream refused the request with status 400"),
        (b"", "the upstream refused the request with status 400"),
        ({"error": {}}, "the upstream refused the request with status 400"),
        ({"error": {"message": "half \ud83d"}}, "half \ufffd"),
        ([1], "the upstream refused the request with status 400"),
    ],
)
async def test_other_servers_words_are_understood(body: object, message: str) -> None:
    assert str(await failure(fail(400, body=body))) == message


async def test_a_quota_that_is_used_up_is_a_rate_limit_with_its_own_code() -> None:
    for said in ({"code": "insufficient_quota"}, {"type": "insufficient_quota"}):
        spent = fail(429, "You exceeded your quota", headers={"retry-after": "60"}, **said)
        limited = await failure(spent)
        assert isinstance(limited, UpstreamQuotaError)
        assert str(limited) == "You exceeded your quota (insufficient_quota)"
        assert limited.retry_after == 60


async def test_a_rate_limit_says_how_long_and_what_is_left() -> None:
    headers = {"Retry-After": "7", "X-RateLimit-Limit-Requests": "60", "X-Other": "1"}
    limited = await failure(fail(429, "slow down", headers=headers))
    assert limited == UpstreamRateLimitedError(
        "slow down", 7.0, {"retry-after": "7", "x-ratelimit-limit-requests": "60"}
    )


async def test_neither_key_nor_address_is_in_any_error() -> None:
    async with scripted() as (server, client):
        text = f"bad key {KEY} or sk-abc***89 at {server.base_url}/chat/completions"
        server.script(
            fail(401, text, code=KEY, param=server.base_url),
            fail(403, body=text.encode()),
            wire(f"HTTP/1.1 400 {KEY}\r\nx-ratelimit-x: 1\r\n\r\n".encode()),
            document(b"", status=302, headers={"location": f"{server.base_url}/{KEY}"}),
        )
        for _ in range(4):
            with pytest.raises(UpstreamError) as caught:
                await told(client)
            shown = f"{caught.value!r} {caught.value} {caught.value.__dict__}"
            assert "abc" not in shown
            assert "89" not in shown
            assert str(server.port) not in shown
            assert "127.0.0.1" not in shown


async def test_a_connection_that_takes_too_long_is_a_timeout() -> None:
    late = OSError("the transport's own words, with the address in them")
    late.__cause__ = TimeoutError()
    named = _named(late)
    assert isinstance(named, UpstreamTimeoutError)
    assert "address" not in str(named)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after-ms": "x", "retry-after": "9"}, 9.0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "1e300"}, 86_400.0),
        ({}, None),
    ],
)
def test_how_long_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds


def test_how_long_to_wait_until_a_date() -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    asked = retry_after({"retry-after": date})
    assert asked is not None
    assert 3_000 < asked <= 3_600
