"""Why an upstream cannot be reached, in words for the log: callers are not told it."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterator

#: So deep may errors lie in each other.
_DEEP = 10


def reason(error: BaseException) -> str:
    """Return why a connection could not be made or was lost, for the log."""
    found = list(_causes(error))
    for one in found:
        match one:
            case ssl.SSLCertVerificationError(verify_message=why):
                return f"its certificate is not trusted: {why}"
            case ssl.SSLError(reason=str(why)):  # aiohttp's own are such errors, without a reason
                return f"TLS failed: {why}; is it http:// there?"
            case socket.gaierror():
                return "its name was not found"
            case ConnectionRefusedError():
                return "the connection was refused: nothing listens there"
    numbers = [one.errno for one in found if isinstance(one, OSError) and one.errno]
    return os.strerror(numbers[0]) if numbers else type(error).__name__


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what it was raised of, innermost last."""
    waiting: list[BaseException | None] = [error]
    for _ in range(_DEEP):
        while waiting and waiting[0] is None:
            waiting.pop(0)
        if not waiting or (one := waiting.pop(0)) is None:
            return
        yield one
        parts = one.exceptions if isinstance(one, BaseExceptionGroup) else ()
        waiting += [*parts, getattr(one, "os_error", None), one.__cause__ or one.__context__]
