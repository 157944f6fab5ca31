"""Completions that a caller asked to be stored: kept, listed, labelled and deleted."""

from __future__ import annotations

from collections.abc import Mapping

from server.core import checks
from server.core.errors import InvalidRequestError
from storage.model import Completion, Completions, Page
from storage.port import Store

#: Bounds on metadata (OpenAI's API reference, "metadata"), in pairs and characters.
MOST_PAIRS = 16
LONGEST_NAME = 64
LONGEST_VALUE = 512


class StoredCompletions:
    """Every call is its owner's: others' completions are not found."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def keep(self, owner: str, completion: Completion) -> None:
        """Keep a completion, for good when this returns."""
        await self._store.keep_completion(owner, completion)

    async def get(self, owner: str, completion_id: str) -> Completion:
        checks.known(completion_id, "completion_id")
        return await self._store.completion(owner, completion_id)

    async def page(
        self, owner: str, wanted: Completions, *, limit: int = 20, after: str | None = None
    ) -> Page[Completion]:
        """Return a page of the completions wanted."""
        checks.limit(limit)
        checks.known(after, "after")
        checks.known(wanted.model, "model")
        labels(wanted.metadata)
        return await self._store.completions(owner, wanted, limit=limit, after=after)

    async def label(
        self, owner: str, completion_id: str, metadata: Mapping[str, str]
    ) -> Completion:
        """Put metadata in the place of what there was."""
        checks.known(completion_id, "completion_id")
        return await self._store.tag_completion(owner, completion_id, labels(metadata))

    async def delete(self, owner: str, completion_id: str) -> None:
        checks.known(completion_id, "completion_id")
        await self._store.delete_completion(owner, completion_id)


def labels(metadata: Mapping[str, object]) -> Mapping[str, str]:
    """Return metadata as it is kept. Raises InvalidRequestError."""
    if len(metadata) > MOST_PAIRS:
        raise InvalidRequestError(f"metadata may have at most {MOST_PAIRS} pairs.", "metadata")
    kept: dict[str, str] = {}
    for name, value in metadata.items():
        if not isinstance(value, str):
            raise InvalidRequestError("The values of metadata must be strings.", "metadata")
        checks.short_text(name, "metadata", LONGEST_NAME)
        kept[name] = checks.short_text(value, "metadata", LONGEST_VALUE)
    return kept
