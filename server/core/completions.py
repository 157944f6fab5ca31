"""What a caller had stored: completions, kept here, and whose the things at upstreams are."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from server.core import validation
from server.core.errors import InvalidRequestError
from storage.model import Completion, CompletionQuery, Page, UpstreamObject
from storage.port import Store

#: Bounds on metadata (OpenAI's API reference, "metadata"), in pairs and characters.
MOST_PAIRS = 16
LONGEST_NAME = 64
LONGEST_VALUE = 512
#: of an object at an upstream; what is longer is nobody's
LONGEST_ID = 512
_AT_ONCE = 500


class StoredCompletions:
    """Every call is its owner's: others' completions are not found."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def keep(self, owner: str, completion: Completion) -> None:
        """Keep a completion, for good when this returns."""
        await self._store.keep_completion(owner, completion)

    async def get(self, owner: str, completion_id: str) -> Completion:
        validation.known(completion_id, "completion_id")
        return await self._store.completion(owner, completion_id)

    async def page(
        self, owner: str, wanted: CompletionQuery, *, limit: int = 20, after: str | None = None
    ) -> Page[Completion]:
        """Return a page of the completions wanted."""
        validation.limit(limit)
        validation.known(after, "after")
        validation.known(wanted.model, "model")
        labels(wanted.metadata)
        return await self._store.completions(owner, wanted, limit=limit, after=after)

    async def label(
        self, owner: str, completion_id: str, metadata: Mapping[str, str]
    ) -> Completion:
        """Put metadata in the place of what there was."""
        validation.known(completion_id, "completion_id")
        return await self._store.tag_completion(owner, completion_id, labels(metadata))

    async def delete(self, owner: str, completion_id: str) -> None:
        validation.known(completion_id, "completion_id")
        await self._store.delete_completion(owner, completion_id)


def labels(metadata: Mapping[str, object]) -> Mapping[str, str]:
    """Return metadata as it is kept. Raises InvalidRequestError."""
    if len(metadata) > MOST_PAIRS:
        raise InvalidRequestError(f"metadata may have at most {MOST_PAIRS} pairs.", "metadata")
    kept: dict[str, str] = {}
    for name, value in metadata.items():
        if not isinstance(value, str):
            raise InvalidRequestError("The values of metadata must be strings.", "metadata")
        validation.short_text(name, "metadata", LONGEST_NAME)
        kept[name] = validation.short_text(value, "metadata", LONGEST_VALUE)
    return kept


class UpstreamObjects:
    """Remembers who stored what at an upstream, where all have one key; only names are kept.

    What nobody is remembered to have stored is nobody's: it was made by another client of the
    upstream, before there was this record, or its making was cut off by a crash.
    """

    def __init__(self, store: Store, now: Callable[[], int], *, others_write: bool = False) -> None:
        """`others_write`: other servers may keep something there that is not seen here."""
        self._store = store
        self._now = now
        self._others_write = others_write
        self._owners: set[str] = set()
        self._knows_all = False

    async def alone(self, owner: str) -> bool:
        """Say whether nobody else has, or ever had, anything here."""
        if not self._knows_all and self._owners <= {owner}:
            self._owners |= set(await self._store.object_owners())
            self._knows_all = not self._others_write
        return self._owners <= {owner}

    async def own(self, owner: str, ids: Collection[str]) -> Mapping[str, UpstreamObject]:
        """Return those of these ids that are the owner's."""
        asked = {one for one in ids if _is_name(one)}
        found = await self._store.own_objects(owner, asked) if asked else ()
        return {one.id: one for one in reversed(found)}

    async def has(self, owner: str, kind: str) -> bool:
        return await self._store.has_objects(owner, kind)

    async def remember(
        self, owner: str, objects: Sequence[UpstreamObject], under: str | None = None
    ) -> Collection[str]:
        """Keep whose these are, for good when this returns; return the ids that are the owner's.

        What is somebody else's stays theirs.
        """
        named = {(one.upstream, one.id): one for one in objects if _is_name(one.id)}
        known = await self._mine(owner, named)
        if fresh := [one for place, one in named.items() if place not in known]:
            self._owners.add(owner)  # before it is so: whoever reads meanwhile is not alone
            for start in range(0, len(fresh), _AT_ONCE):  # others write in between
                some = fresh[start : start + _AT_ONCE]
                await self._store.remember_objects(owner, some, self._now(), under)
            known = await self._mine(owner, named)
        return {id_ for _, id_ in known}

    async def forget(self, owner: str, known: UpstreamObject) -> None:
        """Forget what was deleted, and what went with it."""
        await self._store.forget_object(owner, known.upstream, known.id)

    async def _mine(
        self, owner: str, named: Mapping[tuple[str, str], UpstreamObject]
    ) -> set[tuple[str, str]]:
        if not named:
            return set()
        found = await self._store.own_objects(owner, {id_ for _, id_ in named})
        return {(one.upstream, one.id) for one in found} & set(named)


def _is_name(id_: str) -> bool:
    return 0 < len(id_) <= LONGEST_ID and id_.isascii() and id_.isprintable()
