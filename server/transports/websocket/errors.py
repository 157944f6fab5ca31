"""What goes wrong on a websocket, as the log and the numbers see it."""

from __future__ import annotations

import traceback

import structlog

from server.core.errors import Code, problem_of
from server.core.observability.request import broke

log = structlog.get_logger("trialogue.websocket")


def report(error: Exception) -> None:
    """Note what went wrong, and log what is our fault.

    An exception's own text may quote a prompt, so it stays out.
    """
    broke(error)
    if problem_of(error).code is Code.INTERNAL:
        trace = "".join(traceback.format_tb(error.__traceback__))
        log.error("websocket broke", error=type(error).__name__, traceback=trace)
