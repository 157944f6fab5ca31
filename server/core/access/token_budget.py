"""The tokens that an owner may use in a day or a month, and what is done when they are spent."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import structlog

from server.config.quantities import Budget
from server.core.access.rate import span
from server.core.errors import QuotaSpentError
from storage.port import Store, UnavailableError

log = structlog.get_logger("trialogue.spending")


class TokenBudget:
    """Refuses an owner whose tokens are spent; what runs when they are is not cut short."""

    def __init__(self, store: Store, budget: Budget | None, now: Callable[[], int]) -> None:
        self._store = store
        self._budget = budget
        self._now = now

    @property
    def limited(self) -> bool:
        return self._budget is not None

    async def check(self, owner: str) -> None:
        """Raise QuotaSpentError where nothing is left to an owner."""
        if self._budget is None:
            return
        now = datetime.fromtimestamp(self._now() / 1e6, UTC)
        began = int(self._budget.began(now).timestamp()) * 1_000_000
        if await self._store.spent(owner, began) < self._budget.tokens:
            return
        wait = (self._budget.ends(now) - now).total_seconds()
        raise QuotaSpentError(
            f"The budget of {self._budget.tokens} tokens a {self._budget.period} is spent; "
            f"it is full again in {span(round(wait))}.",
            retry_after=wait,
        )

    async def spend(self, owner: str, tokens: int) -> None:
        """Count tokens that no turn does; where they cannot be kept, the log has them alone."""
        try:
            await self._store.spend(owner, tokens, self._now())
        except UnavailableError:
            log.error("used tokens could not be counted", owner=owner, tokens=tokens)
