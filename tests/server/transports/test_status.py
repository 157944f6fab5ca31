"""Tests of the one table of errors: complete, and the same on every wire."""

from __future__ import annotations

import json
from dataclasses import replace

import grpc
import pytest

from server.core.errors import Code, Problem
from server.transports.status import (
    WIRE,
    http_body,
    http_headers,
    http_status,
    problem_of_turn,
)
from storage.model import Failure, Status
from tests.storage.nouns import turn

#: What callers were told to rely on.
PROMISED = {
    "invalid_request": (400, "INVALID_ARGUMENT"),
    "context_length_exceeded": (400, "INVALID_ARGUMENT"),
    "invalid_api_key": (401, "UNAUTHENTICATED"),
    "permission_denied": (403, "PERMISSION_DENIED"),
    "not_found": (404, "NOT_FOUND"),
    "conversation_busy": (409, "ABORTED"),
    "already_exists": (409, "ALREADY_EXISTS"),
    "idempotency_mismatch": (422, "INVALID_ARGUMENT"),
    "request_too_large": (413, "RESOURCE_EXHAUSTED"),
    "rate_limit_exceeded": (429, "RESOURCE_EXHAUSTED"),
    "insufficient_quota": (429, "RESOURCE_EXHAUSTED"),
    "upstream_rejected": (400, "FAILED_PRECONDITION"),
    "upstream_failed": (502, "INTERNAL"),
    "upstream_timeout": (504, "DEADLINE_EXCEEDED"),
    "draining": (503, "UNAVAILABLE"),
    "storage_unavailable": (503, "UNAVAILABLE"),
    "internal": (500, "INTERNAL"),
}


def test_every_code_is_on_every_wire() -> None:
    assert set(WIRE) == set(Code)


def test_the_table_is_what_was_promised() -> None:
    told = {code.value: (wire.http, wire.grpc.name) for code, wire in WIRE.items()}
    assert told == PROMISED


@pytest.mark.parametrize("code", Code)
def test_every_error_has_openai_s_shape(code: Code) -> None:
    problem = Problem(code, 'It said "no" 🙂', param="prompt")
    body = json.loads(json.dumps(http_body(problem)))
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert body["error"]["code"] == code.value
    assert body["error"]["message"] == problem.message
    assert 400 <= http_status(problem) < 600
    assert WIRE[code].grpc is not grpc.StatusCode.OK


def test_a_server_s_fault_and_a_caller_s_are_told_apart() -> None:
    for wire in WIRE.values():
        assert (wire.openai == "server_error") == (wire.http >= 500)


@pytest.mark.parametrize("status", [401, 404, 422, 451])
def test_an_upstream_s_own_status_is_passed_on(status: int) -> None:
    problem = Problem(Code.UPSTREAM_REJECTED, "No.", status=status)
    assert http_status(problem) == status
    assert http_status(replace(problem, status=None)) == 400
    assert http_status(replace(problem, code=Code.UPSTREAM_FAILED)) == 502


@pytest.mark.parametrize(
    ("seconds", "header"), [(0.1, "1"), (1.0, "1"), (1.2, "2"), (30, "30"), (None, None)]
)
def test_retry_after_is_whole_seconds_and_never_too_soon(
    seconds: float | None, header: str | None
) -> None:
    problem = Problem(Code.RATE_LIMIT_EXCEEDED, "Slow down.", retry_after=seconds)
    assert http_headers(problem).get("retry-after") == header


def test_a_missing_key_is_asked_for_as_http_does() -> None:
    assert http_headers(Problem(Code.INVALID_API_KEY, "Who?"))["www-authenticate"] == "Bearer"
    assert http_headers(Problem(Code.NOT_FOUND, "Where?")) == {}


def test_a_failed_turn_is_the_error_that_a_plain_answer_would_have_been() -> None:
    failure = Failure("upstream_rejected", "No such model", 404)
    failed = replace(turn("1"), status=Status.FAILED, error=failure)
    problem = problem_of_turn(failed)
    assert problem == Problem(Code.UPSTREAM_REJECTED, "No such model", status=404, turn_id="turn_1")
    assert http_body(problem)["error"]["turn_id"] == "turn_1"
    assert problem_of_turn(turn("1")) is None


def test_an_interrupted_turn_is_an_error_to_who_waits_for_all_of_it() -> None:
    problem = problem_of_turn(replace(turn("1"), status=Status.INTERRUPTED))
    assert problem is not None
    assert (problem.code, http_status(problem)) == (Code.DRAINING, 503)
    assert http_headers(problem) == {"retry-after": "5"}
    assert http_body(problem)["error"]["turn_id"] == "turn_1"


@pytest.mark.parametrize(("told", "wait"), [(7.5, 7.5), (None, 1.0)])
def test_a_failed_turn_says_how_long_to_wait_as_the_upstream_did(
    told: float | None, wait: float
) -> None:
    failure = Failure("rate_limit_exceeded", "Slow down.", retry_after=told)
    problem = problem_of_turn(replace(turn("1"), status=Status.FAILED, error=failure))
    assert problem is not None
    assert problem.retry_after == wait
