"""What a websocket peer may cost: its bounds in bytes, seconds and streams."""

from __future__ import annotations

import resource
from dataclasses import dataclass, field


def half_of_the_descriptors() -> int:
    """Return how many connections leave enough descriptors for everything else."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(16, (1 << 17 if soft == resource.RLIM_INFINITY else soft) // 2)


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of one listener. Times are in seconds."""

    connections: int = field(default_factory=half_of_the_descriptors)
    #: streams that one connection may have at once
    streams: int = 64
    #: in which a key must be shown where one is needed
    key_timeout: float = 5.0
    #: that the connections of a revoked key have left at most
    check_keys_every: float = 5.0
    #: bytes of a frame of someone who was not let in yet: it holds no more than a key
    strangers_frame: int = 64 << 10
    #: frames of one peer that wait to be read; each may be as large as a body
    waiting_frames: int = 4
    #: bytes that a peer may leave unread of the pongs that its own pings ask for
    unread_pongs: int = 1 << 20
    #: that a peer which is behind may read nothing at all
    patience: float = 30.0
    #: that a peer has to answer when its connection is closed
    close_timeout: float = 5.0
