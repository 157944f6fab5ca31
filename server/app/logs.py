"""Logging: one line an event, on standard error; never prompts, answers or keys."""

from __future__ import annotations

import logging
import logging.config
import sys
import traceback
from contextlib import suppress
from typing import Any

import structlog
from structlog.typing import EventDict

_SHARED: list[Any] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


def configure(level: str, style: str | None) -> None:
    """Send our events and other libraries' warnings to standard error in one form."""
    if level == "off":
        logging.disable(logging.CRITICAL)
        structlog.configure(
            wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL),
            logger_factory=structlog.ReturnLoggerFactory(),
        )
        return
    style = style or ("console" if sys.stderr.isatty() else "json")
    least = logging.getLevelNamesMapping()[level.upper()]
    renderer: Any = (
        structlog.dev.ConsoleRenderer()
        if style == "console"
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[*_SHARED, _traceback, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(least),
        logger_factory=lambda *_: _Lines(),
        cache_logger_on_first_use=False,
    )
    _take_in_others(max(least, logging.WARNING), renderer)


class _Lines:
    """Writes lines to standard error, and lets go of one that cannot be written.

    It may be a file on a disk that is full: whoever has something to tell of that must not break.
    """

    def msg(self, line: str) -> None:
        with suppress(OSError):
            sys.stderr.write(f"{line}\n")
            sys.stderr.flush()

    debug = info = warning = error = exception = critical = msg


def _take_in_others(least: int, renderer: Any) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_SHARED,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _traceback,
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(least)


def _traceback(_: Any, __: str, event: EventDict) -> EventDict:
    """Show where an exception came from and its kind; its text may be somebody's words."""
    error = event.pop("exc_info", None)
    if error is True:
        error = sys.exc_info()
    if isinstance(error, BaseException):
        error = (type(error), error, error.__traceback__)
    if error and error[0] is not None:
        frames = traceback.format_tb(error[2])
        event["exception"] = "".join([*frames, error[0].__qualname__])
    return event
