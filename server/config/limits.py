"""What callers may take of connections, memory and time: one table, by wire.

Sizes are in bytes, times in seconds. docs/limits.md is written from it.
"""

from __future__ import annotations

import resource
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

#: Descriptors that are nobody's share: of the ports, the database, keys, logs, look-ups of names.
OWN = 64
#: Shares of all others, and of the last of these, which upstreams have; each line is the whole.
#: HTTP has more than there are answers: asks held open on it leave room to look and to follow.
_WEBSOCKETS, _HTTP, _GRPC, _UPSTREAMS = (Fraction(n, 16) for n in (5, 5, 2, 4))
_ANSWERS, _SUMMARIES, _KEPT = (Fraction(n, 8) * _UPSTREAMS for n in (6, 1, 1))
_FEWEST, _MOST_AT_THE_DOOR = 12, 64


def _most(default: Any, help: str) -> Any:  # noqa: A002
    return field(default=default, metadata={"help": help})


def _share(part: Fraction, help: str) -> Any:  # noqa: A002
    """Declare a bound of connections to us: such a part of the descriptors is theirs, doors too."""

    def share() -> int:
        all_of_it = int(_descriptors() * part)
        return max(_FEWEST, all_of_it - min(_MOST_AT_THE_DOOR, all_of_it // 4))

    told = f"{part} of the descriptors, less some to refuse the next with"
    return field(default_factory=share, metadata={"help": help, "default": told})


def _whole_share(part: Fraction, help: str) -> Any:  # noqa: A002
    """Declare a bound of connections from us: nobody has to be refused with any of them."""
    told = {"help": help, "default": f"{part} of the descriptors"}
    return field(default_factory=lambda: max(1, int(_descriptors() * part)), metadata=told)


def _descriptors() -> int:
    """Return how many descriptors there are to be shared out."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    every = 1 << 17 if soft == resource.RLIM_INFINITY else soft
    return every - min(OWN, every // 4)


def room_at_the_door(connections: int) -> int:
    """Return how many beyond the most may be told to try later; others are cut at once.

    Where the most is a share of the descriptors, so is this: that share has both.
    """
    return min(_MOST_AT_THE_DOOR, max(_FEWEST, connections // 3))


@dataclass(frozen=True, slots=True)
class TurnLimits:
    """Turns, over all wires together."""

    running: int = 10_000
    running_per_key: int | None = None
    #: questions that wait in one conversation
    waiting: int = 1000


@dataclass(frozen=True, slots=True)
class UpstreamLimits:
    """Connections to upstreams, over all of them, and over all wires together."""

    answers: int = _whole_share(
        _ANSWERS, "turns that run and calls of `/v1` at once; the next is `rate_limit_exceeded`"
    )
    summaries: int = _whole_share(_SUMMARIES, "summaries written at once; the next waits")
    kept: int = _whole_share(_KEPT, "idle connections kept for the next that are asked")


@dataclass(frozen=True, slots=True)
class ReplyLimits:
    """What comes from an upstream, the same for a conversation and under `/v1`."""

    event_bytes: int = _most(16 << 20, "an event of a stream, comments and all")
    answer_chars: int = _most(8 << 20, "characters of an answer's text, streamed or in one piece")
    answer_bytes: int = _most(64 << 20, "an answer in one piece")
    choices: int = _most(4096, "choices of an answer, streamed or in one piece")
    parts: int = _most(1 << 19, "objects and lists in an answer in one piece, or in an event")
    refusal_bytes: int = _most(64 << 10, "of a refusal; what is behind them is not read")
    list_bytes: int = _most(8 << 20, "a list of models")


@dataclass(frozen=True, slots=True)
class ToolLimits:
    """Tools that the server runs itself, in one turn."""

    rounds: int = _most(
        10, "times that the model is asked again with results, then it has to answer"
    )
    calls: int = _most(32, "of one round, all at once; those beyond are not run")
    seconds: float = _most(300.0, "from the first call on; what is called later is not run")
    result_chars: int = _most(64 << 10, "of one result, and no more than the window has room for")


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """REST, SSE, `/v1` and the page."""

    connections: int = _share(_HTTP, "connections; the next is answered with 429 and closed")
    head_bytes: int = _most(64 << 10, "request line and headers together, or all trailers")
    head_seconds: float = _most(15.0, "for a whole head, the first byte of it too (slow loris)")
    body_seconds: float = _most(120.0, "for a whole body, and for each `body_rate` bytes one more")
    body_rate: int = _most(16 << 10, "see `body_seconds`: an upload may take long, a drip may not")
    idle_seconds: int = _most(5, "of silence between two requests")
    patience: float = _most(30.0, "that a client which is behind may read nothing at all")
    check_keys_every: float = _most(1.0, "that a stream of a revoked key goes on at most")


@dataclass(frozen=True, slots=True)
class RpcLimits:
    """gRPC."""

    connections: int = _share(_GRPC, "connections; the next is closed")
    calls: int = _most(10_000, "calls at once, watchers too; the next is `RESOURCE_EXHAUSTED`")
    handshake_seconds: float = _most(20.0, "for TLS and the first frames")
    idle_seconds: float = _most(300.0, "without a call, then the connection is closed (GOAWAY)")
    ping_every: float = _most(60.0, "between the pings that find out who is gone")
    ping_timeout: float = _most(20.0, "that a ping may stay unanswered")
    least_between_pings: float = _most(10.0, "between a client's own pings (ENHANCE_YOUR_CALM)")
    patience: float = _most(60.0, "that a client may need to take one message")
    check_keys_every: float = _most(1.0, "that a stream of a revoked key goes on at most")


@dataclass(frozen=True, slots=True)
class WebsocketLimits:
    """The websocket."""

    connections: int = _share(_WEBSOCKETS, "connections; the next is closed with 1013")
    handshake_seconds: float = _most(10.0, "for the HTTP request that opens it")
    ping_every: float = _most(20.0, "between the pings that find out who is gone")
    ping_timeout: float = _most(20.0, "that a ping may stay unanswered")
    streams: int = _most(64, "streams of one connection at once")
    responses: int = _most(8, "of a connection to `/v1/responses`, in line behind the one written")
    responses_seconds: float = _most(3600.0, "that a connection to `/v1/responses` may last")
    key_timeout: float = _most(5.0, "in which a key must be shown where one is needed")
    check_keys_every: float = _most(1.0, "that the connections of a revoked key stay at most")
    strangers_frame: int = _most(64 << 10, "a frame of someone who was not let in yet")
    waiting_frames: int = _most(4, "frames of one peer that wait to be read")
    unread_pongs: int = _most(1 << 20, "of pongs that a peer asks for and does not read")
    patience: float = _most(30.0, "that a peer which is behind may read nothing at all")
    close_timeout: float = _most(5.0, "that a peer has to answer when it is closed")
