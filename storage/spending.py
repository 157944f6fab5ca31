"""What a turn costs in tokens, and how far they are counted."""

from __future__ import annotations

from storage.model import Status, Turn, Usage
from storage.port import Outcome

#: A day in microseconds.
DAY = 24 * 3600 * 1_000_000
#: A day's tokens are counted up to here: sums in 64 bits break where they pass 2^63.
MOST = 1 << 53


def cost(turn: Turn, outcome: Outcome) -> int:
    """Return the tokens that a turn took. One that failed without a word took none."""
    if outcome.status is Status.FAILED and not outcome.said:
        return 0
    sent = outcome.context or turn.context
    usage = outcome.usage or Usage(sent.prompt_tokens, outcome.tokens)
    return usage.total_tokens
