"""Tests of the bounds that depend on the machine: together they leave descriptors for our own."""

from __future__ import annotations

import resource
from collections.abc import Iterator

import pytest

from server.config.limits import (
    HttpLimits,
    RpcLimits,
    UpstreamLimits,
    WebsocketLimits,
    room_at_the_door,
)

#: What a server that does nothing has open, and some for files that come and go.
OUR_OWN = 48


@pytest.fixture
def soft() -> Iterator[None]:
    """Put back how many descriptors this process may have."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize("most", [256, 1000, 1024, 4096, 20_000])
@pytest.mark.usefixtures("soft")
def test_all_that_may_be_open_at_once_leaves_descriptors_for_our_own(most: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    http, upstreams = HttpLimits(), UpstreamLimits()
    taken = [
        limits.connections + room_at_the_door(limits.connections)
        for limits in (WebsocketLimits(), http)
    ]
    asking = upstreams.answers + upstreams.summaries + upstreams.kept
    assert sum(taken) + RpcLimits().connections + asking <= most - OUR_OWN
    assert min(*taken, asking) > most // 6
    # Asks that are held open over HTTP leave connections to look and to follow.
    assert upstreams.answers < http.connections
