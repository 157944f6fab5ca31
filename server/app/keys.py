"""Where API keys are kept: in a file beside SQLite's database, or in PostgreSQL's."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

from server.app.stores import need_driver
from server.config.database import shown
from server.config.keyring import key_file
from server.config.settings import Settings, SettingsError
from storage.model import ApiKey
from storage.port import UnavailableError

if TYPE_CHECKING:
    from storage.postgres.nodes.keys import KeyTable

T = TypeVar("T")


class Keys(Protocol):
    """What the commands do with keys."""

    @property
    def place(self) -> str:
        """Where they are, in words."""
        ...

    def keys(self) -> Sequence[ApiKey]: ...

    def add(self, key: ApiKey) -> object: ...

    def revoke(self, key_id: str, now: int) -> ApiKey: ...


class TableOfKeys:
    """The keys of a database, for a command that ends soon: a connection for each thing it does."""

    def __init__(self, settings: Settings) -> None:
        need_driver()
        self._url = settings.database
        self.place = shown(settings.database)

    def keys(self) -> Sequence[ApiKey]:
        async def read(table: KeyTable) -> Sequence[ApiKey]:
            await table.refresh()
            return table.keys()

        return self._run(read)

    def add(self, key: ApiKey) -> bool:
        return self._run(lambda table: table.add(key))

    def revoke(self, key_id: str, now: int) -> ApiKey:
        return self._run(lambda table: table.revoke(key_id, now))

    def _run(self, work: Callable[[KeyTable], Awaitable[T]]) -> T:
        from storage.postgres.migrations import SchemaTooNewError, UnfitError
        from storage.postgres.store import PostgresStore

        async def run() -> T:
            async with PostgresStore(self._url) as store:
                return await work(store.keys)

        try:
            return asyncio.run(run())
        except (UnavailableError, SchemaTooNewError, UnfitError) as error:
            raise SettingsError(f"TRIALOGUE_DATABASE: {self.place}: {error}") from None


def keys_of(settings: Settings) -> Keys:
    """Return the keys that a command works on."""
    return TableOfKeys(settings) if settings.on_postgres else key_file(settings)
