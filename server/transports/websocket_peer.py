"""One peer that was let in: its own conversation, and the streams it asked for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from typing import Any

import structlog
from websockets.exceptions import ConnectionClosed

from server.core.conversations import Conversations
from server.core.errors import InvalidRequestError, RateLimitedError, problem_of
from server.core.questions import ROOT, Ask, OnDisconnect
from server.core.turns import Delta, Ended, TurnEvent
from server.transports import websocket_answers as answers
from server.transports.websocket_frames import (
    AskFrame,
    AuthenticateFrame,
    CancelFrame,
    EasyAsk,
    FollowFrame,
    Frame,
    FrameError,
    PingFrame,
    Prompt,
    RegenerateFrame,
    UnwatchFrame,
    WatchFrame,
    parse,
)
from server.transports.websocket_guard import GuardedConnection
from storage.model import Status, Turn

log = structlog.get_logger("trialogue.websocket")

#: Streams that one connection may have at once; cancellations are counted apart.
MAX_STREAMS = 64
EASY_END = b"<|end|>"
EASY_ERROR = b"<|err|>"
