"""Tests of the codes: every error of ours has one, and what is internal stays inside."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import pytest

from server.core import errors
from server.core.errors import (
    CODES,
    WAITING_HELPS,
    Code,
    Problem,
    RefusedError,
    code_of,
    problem_of,
)
from server.openai_protocol import codec
from server.upstream import port as upstream
from storage import port as storage

MEANT_TO_BE_CAUGHT = {
    module.__name__: base
    for module, base in (
        (errors, RefusedError),
        (storage, storage.StoreError),
        (upstream, upstream.UpstreamError),
        (codec, ValueError),
    )
}


def kinds() -> Iterator[type[BaseException]]:
    """Every exception that the core, the store's port, the upstream's port and the codec define."""
    for module in (errors, storage, upstream, codec):
        for _, kind in inspect.getmembers(module, inspect.isclass):
            if issubclass(kind, Exception) and kind.__module__ == module.__name__:
                yield kind


def test_every_error_of_ours_has_a_code() -> None:
    bases = set(MEANT_TO_BE_CAUGHT.values())
    assert set(kinds()) - bases == set(CODES)


def test_every_code_but_internal_has_an_error() -> None:
    assert set(CODES.values()) | {Code.INTERNAL} == set(Code)


def test_a_code_is_that_of_the_nearest_ancestor() -> None:
    class LockedError(storage.UnavailableError): ...

    assert code_of(LockedError("x")) is Code.STORAGE_UNAVAILABLE
    assert code_of(storage.NotFoundError("x")) is Code.NOT_FOUND


@pytest.mark.parametrize(
    "error",
    [
        ValueError("secret prompt"),
        KeyError("x"),
        MemoryError(),
        UnicodeEncodeError("utf-8", "secret prompt", 0, 1, "secret prompt"),
        RefusedError("secret prompt"),
        storage.StoreError("secret prompt"),
    ],
)
def test_what_is_internal_never_shows_its_text(error: Exception) -> None:
    problem = problem_of(error)
    assert problem == Problem(Code.INTERNAL, "Something went wrong on our side.")


def test_a_refusal_shows_its_text_and_parameter() -> None:
    problem = problem_of(errors.InvalidRequestError("limit must be 1 or more.", "limit"))
    assert problem == Problem(Code.INVALID_REQUEST, "limit must be 1 or more.", param="limit")


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (storage.BusyError("x"), WAITING_HELPS[Code.CONVERSATION_BUSY]),
        (storage.UnavailableError("x"), WAITING_HELPS[Code.STORAGE_UNAVAILABLE]),
        (errors.DrainingError("x"), WAITING_HELPS[Code.DRAINING]),
        (errors.RateLimitedError("x", retry_after=7.5), 7.5),
        (errors.RateLimitedError("x"), 1.0),
        (upstream.UpstreamRateLimitedError("x", retry_after=30), 30),
        (upstream.UpstreamRateLimitedError("x"), 1.0),
        (storage.NotFoundError("x"), None),
        (errors.InvalidRequestError("x"), None),
    ],
)
def test_waiting_is_advised_where_it_helps(error: Exception, seconds: float | None) -> None:
    assert problem_of(error).retry_after == seconds


def test_the_upstream_s_own_status_is_passed_on() -> None:
    refusal = upstream.UpstreamRejectedError("No such model", 404, "model_not_found", "model")
    assert problem_of(refusal) == Problem(
        Code.UPSTREAM_REJECTED,
        "No such model",
        param="model",
        status=404,
        upstream_code="model_not_found",
    )
