"""Refusals of upstreams, in OpenAI's shape and without secrets."""

from __future__ import annotations

import json
from typing import Any

import pytest

from server.openai_protocol.errors import Complaint, code_in, one_line, refusal
from server.upstream.remote.redaction import Redactor
from tests.support.upstream_script import KEY

HOST = "secret.example"
SCRUB = Redactor(KEY, f"http://{HOST}:1234/v1")


def error(body: object, status: int = 400) -> dict[str, Any]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    made = json.loads(refusal(status, data, SCRUB))
    found = made["error"]
    assert set(found) >= {"message", "type", "param", "code"}
    assert KEY not in str(made)
    assert HOST not in str(made)
    assert found["message"].isascii()
    assert "\n" not in found["message"]
    assert isinstance(found, dict)
    return found


def test_openais_own_is_kept() -> None:
    own = {"message": "No.", "type": "t", "param": "p", "code": "c"}
    assert error({"error": own}) == own


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"error": "no"}, "no"),
        ({"detail": "no"}, "no"),
        ({"message": "no", "code": 7}, "no"),
        ([{"error": {"message": "no"}}], "no"),
        (b"plain words", "plain words"),
        (b"<html>bad gateway</html>", "the upstream refused the request with status 502"),
        (b"", "the upstream refused the request with status 502"),
        (b"null", "the upstream refused the request with status 502"),
        (b"\xff\xfe", "\\ufffd\\ufffd"),
    ],
)
def test_other_shapes_become_openais(body: object, message: str) -> None:
    assert error(body, 502)["message"] == message
    assert error(body, 502)["type"] == "server_error"


def test_secrets_are_found_wherever_they_stand() -> None:
    deep = {"metadata": {"raw": [f"Bearer {KEY}", {HOST: KEY}]}, "message": f"key {KEY}"}
    found = error({"error": deep, "request": {"url": f"https://{HOST}/v1"}})
    assert found["metadata"]["raw"][0] == "Bearer [key]"


def test_a_body_without_end_of_depth_is_cut() -> None:
    body: Any = "x"
    for _ in range(100):
        body = {"a": body}
    assert error({"error": {"message": "m", "deep": body}})["message"] == "m"


def test_numbers_are_codes_too() -> None:
    assert error({"error": {"message": "m", "code": 429}}, 429)["code"] == "429"
    assert error({"error": {"message": "m"}}, 429)["type"] == "rate_limit_exceeded"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("it’s “fine” — really…", 'it\'s "fine" - really...'),
        ("café", "cafe"),
        ("模型", "\\u6a21\\u578b"),
        ("a\nb\tc\x00\x1b", "a b c"),
    ],
)
def test_a_message_is_one_line_of_ascii(text: str, line: str) -> None:
    assert one_line(text) == line


@pytest.mark.timeout(20)  # it took a time that grew with the square
@pytest.mark.parametrize(
    ("message", "status", "code"),
    [
        ("The model `m` does not exist", 404, "model_not_found"),
        ("model 'm' not found, try pulling it first", 404, "model_not_found"),
        ("No such model", 404, "model_not_found"),
        ("Unknown model: m", 404, "model_not_found"),
        ("The model `m` does not exist", 400, "said"),
        ("Not found: the model", 404, "said"),
        ("remodel not found", 404, "said"),
        ("model " * 100_000, 404, "said"),
        ("model " * 100_000 + "not found", 404, "model_not_found"),
    ],
)
def test_a_model_that_there_is_not_is_known_by_its_complaint(
    message: str, status: int, code: str
) -> None:
    assert code_in(Complaint(message, code="said"), status) == code
