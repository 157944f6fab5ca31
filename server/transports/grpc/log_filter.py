"""Keeps what a stranger's malformed request makes gRPC log out of the log."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet() -> Iterator[None]:
    """Drop tracebacks that anybody could cause, and metadata quoted in them: it may be a key."""
    loggers = [logging.getLogger(name) for name in ("grpc._cython.cygrpc", "asyncio")]
    for logger in loggers:
        logger.addFilter(_is_news)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    """Tell whether a record is worth a line; the listener says itself that it was broken."""
    if isinstance(record.msg, UnicodeDecodeError):
        return False
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, UnicodeDecodeError) or not _inside_grpc(error)


def _inside_grpc(error: BaseException) -> bool:
    frames = traceback.walk_tb(error.__traceback__)
    return all("/_cygrpc/" in frame.f_code.co_filename for frame, _ in frames)
