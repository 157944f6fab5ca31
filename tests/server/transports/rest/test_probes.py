"""Alive, ready, and how the upstreams do."""

from __future__ import annotations

from collections.abc import Sequence

import httpx2

from server.config.settings import load
from server.core.conversations import Conversations
from server.transports.http.listener import HttpListener
from server.transports.rest import app as rest
from server.transports.rest.state import RestState
from server.transports.sockets import listening_socket
from server.upstream.health import State
from tests.support.access import OPEN_ACCESS

STATES = (
    State("local", calls=9, failures=3, failures_in_a_row=3, resting=4.25),
    State("openai", calls=5, failures=1, failures_in_a_row=0, resting=0.0),
    State("other", calls=1, failures=1, failures_in_a_row=1, resting=0.0),
)


def states() -> Sequence[State]:
    return STATES


async def test_ready_tells_how_the_upstreams_do_where_it_is_asked(
    conversations: Conversations,
) -> None:
    bound = listening_socket("127.0.0.1", 0)
    mounts = [rest.mount(RestState(conversations, states))]
    listener = HttpListener(mounts, conversations.requests, OPEN_ACCESS, load({}), bound=bound)
    async with (
        listener,
        httpx2.AsyncClient(base_url=f"http://127.0.0.1:{listener.port}", verify=False) as client,
    ):
        assert (await client.get("/readyz")).json() == {"status": "ready"}
        told = (await client.get("/readyz?verbose")).json()
        await conversations.drain(0)
        draining = await client.get("/readyz?verbose=1")
    assert (told["status"], told["turns_running"]) == ("ready", 0)
    assert [(one["name"], one["state"]) for one in told["upstreams"]] == [
        ("local", "resting"),
        ("openai", "ok"),
        ("other", "failing"),
    ]
    assert told["upstreams"][0]["resting_seconds"] == 4.2
    assert draining.status_code == 503
    assert draining.json()["error"]["code"] == "draining"
