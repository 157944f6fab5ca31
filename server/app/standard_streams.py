"""Standard input, output and error of a server, which may be closed, full, or read by nobody."""

from __future__ import annotations

import os
import sys

import structlog

log = structlog.get_logger("trialogue")


def hold() -> None:
    """Open what is closed of the three, on nothing.

    Else the next file or socket would have its number, and whoever writes there would write into
    that; libuv aborts the process when it closes one.
    """
    while (lowest := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(lowest)
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115 - for good


def show(text: str, *, secret: bool) -> None:
    """Write to standard output; where that cannot be, the log says so, and the server goes on.

    `secret` says whether a key is in the text, which nobody has seen then.
    """
    try:
        if sys.stdout is None:
            raise OSError("it is closed")
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
    except (OSError, ValueError) as error:
        _let_go(1)
        lost = "; 'trialogue keys create default' makes another key than the one it showed"
        log.warning(f"the start cannot be shown{lost if secret else ''}", error=str(error))


def leave() -> None:
    """Let go of what of the log cannot be written: it is no reason to end otherwise than with 0."""
    try:
        sys.stderr.flush()
    except (OSError, ValueError):
        _let_go(2)


def _let_go(stream: int) -> None:
    """Have what is not written yet go nowhere: the end of the process would fail on it."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, stream)
    os.close(nothing)
