"""Which headers go past us."""

from __future__ import annotations

from server.upstream.remote.headers import kept, sent


def test_no_key_and_no_cookie_leaves_us() -> None:
    theirs = (
        "authorization api-key x-api-key x-goog-api-key cookie proxy-authorization "
        "openai-organization openai-project x-forwarded-for origin referer host connection te "
        "upgrade transfer-encoding expect"
    )
    secrets = dict.fromkeys(theirs.split(), "secret")
    found = sent({**secrets, "content-type": "x/y", "openai-beta": "b"}, {"authorization": "ours"})
    assert found == {
        "content-type": "x/y",
        "openai-beta": "b",
        "user-agent": "trialogue",
        "accept-encoding": "identity",
        "authorization": "ours",
    }


def test_what_helps_a_client_is_kept() -> None:
    theirs = {
        "Content-Type": "text/plain",
        "Retry-After": "7",
        "X-RateLimit-Remaining-Requests": "5",
        "OpenAI-Processing-MS": "12",
        "X-Request-Id": "req_theirs",
    }
    gone = {
        "Set-Cookie": "a=b",
        "Server": "cloudflare",
        "OpenAI-Organization": "org",
        "WWW-Authenticate": "Basic",
        "Transfer-Encoding": "chunked",
        "Location": "http://secret",
        "Access-Control-Allow-Origin": "*",
    }
    assert kept({**theirs, **gone}) == {
        "content-type": "text/plain",
        "retry-after": "7",
        "x-ratelimit-remaining-requests": "5",
        "openai-processing-ms": "12",
        "x-upstream-request-id": "req_theirs",
    }
