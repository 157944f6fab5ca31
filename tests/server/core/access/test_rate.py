"""Tests of the rate limit: what is let through, what is left, and when it comes back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.config.quantities import Rate, rate
from server.core.access.rate import RateLimit, span
from server.core.errors import RateLimitedError
from tests.support.fakes import Clock


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("60/minute", Rate(60, 60)),
        (" 5 / Second ", Rate(5, 1)),
        ("1/hour", Rate(1, 3600)),
        ("1000/day", Rate(1000, 86_400)),
    ],
)
def test_a_rate_is_read(text: str, read: Rate) -> None:
    assert rate(text) == read


@pytest.mark.parametrize(
    "text", ["", "60", "0/minute", "-1/minute", "60/week", "60/minutes", "1.5/minute", "six/minute"]
)
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="60/minute"):
        rate(text)


def test_a_full_allowance_is_let_through_at_once_and_no_more(clock: Clock) -> None:
    limit = RateLimit(Rate(3, 60), clock)
    assert [limit.count("ada").remaining for _ in range(3)] == [2, 1, 0]
    refused = limit.count("ada")
    assert (refused.wait, refused.remaining, refused.limit) == (20, 0, 3)
    with pytest.raises(RateLimitedError, match="try again in 20s") as caught:
        refused.check()
    assert caught.value.retry_after == 20


def test_after_the_wait_that_was_told_one_is_let_through(clock: Clock) -> None:
    limit = RateLimit(Rate(3, 60), clock)
    for _ in range(3):
        limit.count("ada").check()
    clock.now += limit.count("ada").wait or 0
    limit.count("ada").check()
    assert limit.count("ada").wait == 20


def test_what_is_refused_takes_nothing(clock: Clock) -> None:
    limit = RateLimit(Rate(1, 60), clock)
    limit.count("ada").check()
    waits = [limit.count("ada").wait for _ in range(100)]
    assert waits == [60] * 100


def test_it_is_full_again_when_it_said(clock: Clock) -> None:
    limit = RateLimit(Rate(60, 60), clock)
    for _ in range(7):
        last = limit.count("ada")
    assert (last.remaining, last.full_after) == (53, 7)
    clock.now += last.full_after
    assert limit.count("ada").remaining == 59


def test_owners_do_not_meet(clock: Clock) -> None:
    limit = RateLimit(Rate(1, 60), clock)
    limit.count("ada").check()
    limit.count("bob").check()
    assert limit.count("ada").refusal is not None


@given(
    st.integers(1, 20),
    st.sampled_from([1, 60, 3600]),
    st.lists(st.floats(0, 100, allow_nan=False), max_size=60),
)
def test_never_more_than_the_rate_and_one_allowance(
    requests: int, seconds: int, pauses: list[float]
) -> None:
    clock = Clock()
    limit = RateLimit(Rate(requests, seconds), clock)
    passed = 0
    for pause in pauses:
        clock.now += pause
        allowance = limit.count("ada")
        passed += allowance.refusal is None
        assert 0 <= allowance.remaining < requests or allowance.remaining == 0
        assert 0 <= allowance.full_after <= seconds * 1.001
    assert passed <= requests + sum(pauses) * requests / seconds + 1e-3


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0, "0ms"),
        (0.12, "120ms"),
        (1, "1s"),
        (8.64, "8.64s"),
        (59.9996, "1m0s"),
        (360, "6m0s"),
        (61.5, "1m1.5s"),
        (3600, "1h0m0s"),
        (86_400, "24h0m0s"),
    ],
)
def test_spans_are_written_as_openai_does(seconds: float, told: str) -> None:
    assert span(seconds) == told
