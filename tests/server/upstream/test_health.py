"""When an upstream is left alone, and when it is tried again."""

from __future__ import annotations

from server.upstream.health import FIRST_REST, LONGEST_REST, PATIENCE, Health
from tests.support.fakes import Clock


def broken(clock: Clock, times: int = PATIENCE) -> Health:
    health = Health(clock)
    for _ in range(times):
        health.tried()
        health.failed()
    return health


def test_a_few_failures_are_forgiven() -> None:
    assert not broken(Clock(100.0), PATIENCE - 1).is_open


def test_one_that_keeps_failing_rests_and_is_tried_again() -> None:
    clock = Clock(100.0)
    health = broken(clock)
    assert health.is_open
    clock.now += FIRST_REST
    assert not health.is_open


def test_the_rest_doubles_up_to_a_bound() -> None:
    clock = Clock(100.0)
    health = broken(clock)
    is_open = []
    for _ in range(12):
        is_open.append(health.state("x").resting)
        clock.now += is_open[-1]
        health.tried()
        health.failed()
    assert is_open[:3] == [FIRST_REST, 2 * FIRST_REST, 4 * FIRST_REST]
    assert is_open[-1] == LONGEST_REST


def test_while_one_call_tries_others_wait() -> None:
    clock = Clock(100.0)
    health = broken(clock)
    clock.now += FIRST_REST
    health.tried()
    assert health.is_open
    health.worked()
    assert not health.is_open


def test_one_success_and_all_is_forgiven() -> None:
    health = broken(Clock(100.0), PATIENCE - 1)
    health.worked()
    health.failed()
    assert not health.is_open


def test_it_is_left_alone_for_as_long_as_it_asks() -> None:
    clock = Clock(100.0)
    health = broken(clock, PATIENCE - 1)
    health.failed(60.0)
    assert health.state("x").resting == 60.0


def test_its_state_says_how_it_has_done() -> None:
    health = broken(Clock(100.0))
    state = health.state("x")
    assert (state.name, state.calls, state.failures, state.failures_in_a_row) == ("x", 3, 3, 3)
