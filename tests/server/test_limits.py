"""Tests of the bounds that depend on the machine: together they leave descriptors for our own."""

from __future__ import annotations

import resource
from collections.abc import Iterator

import pytest

from server.limits import HttpLimits, RpcLimits, WebsocketLimits, room_at_the_door


@pytest.fixture
def soft() -> Iterator[None]:
    """Put back how many descriptors this process may have."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize("most", [256, 1000, 1024, 4096])
@pytest.mark.usefixtures("soft")
def test_an_eighth_of_the_descriptors_is_left(most: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    taken = [
        limits.connections + room_at_the_door(limits.connections)
        for limits in (WebsocketLimits(), HttpLimits())
    ]
    assert sum(taken) + RpcLimits().connections <= most * 7 // 8
    assert min(taken) > most // 8
