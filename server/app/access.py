"""Who may come in: the keys there are, the first one, made where strangers could come, limits."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from server.config import keyring
from server.config.keyring import key_file
from server.config.quantities import rate
from server.config.settings import Settings
from server.core.access import auth as door
from server.core.access.auth import Auth
from server.core.access.proxies import Proxies
from server.core.access.rate import RateLimit, SharedRateLimit
from server.core.clock import microseconds
from storage.keys import KeyFile
from storage.model import ApiKey

if TYPE_CHECKING:
    from storage.postgres.nodes.keys import KeyTable
    from storage.postgres.store import PostgresStore


async def auth_of(settings: Settings, shared: PostgresStore | None) -> tuple[Auth, str | None]:
    """Return what lets callers in, and the key that was made for it, to be shown this once.

    `shared` is the store that all servers have together, where there are several.
    """
    configured = door.configured(settings.api_keys.get_secret_value() if settings.api_keys else "")
    closed = settings.exposed and settings.auth == "on" and not configured
    keys: KeyFile | KeyTable
    if shared is not None:
        keys, new = shared.keys, await _first_of_table(shared.keys, closed=closed)
    else:
        keys = key_file(settings)
        new = _first_of_file(keys, closed=closed)
    auth = Auth(
        configured,
        keys,
        microseconds,
        open_to_all=settings.auth == "off",
        until_keyed=not (configured or keys.keys()),
        public=settings.public,
        origins=settings.allowed_origins,
        hosts=settings.allowed_hosts,
        rate=_rate(settings, shared),
        most_by_key=settings.max_connections_per_key,
        most_by_address=settings.max_connections_per_address,
        proxies=Proxies(settings.forwarded_allow_ips),
    )
    return auth, new


def _rate(settings: Settings, shared: PostgresStore | None) -> RateLimit | SharedRateLimit | None:
    if settings.rate_limit is None:
        return None
    limit = rate(settings.rate_limit)
    return RateLimit(limit) if shared is None else SharedRateLimit(limit, shared.rates)


def _first_of_file(file: KeyFile, *, closed: bool) -> str | None:
    with keyring.told(file):
        if file.keys() or not closed:
            return None
        text, kept = _made()
        file.add(kept)
        return text


async def _first_of_table(table: KeyTable, *, closed: bool) -> str | None:
    """Make the first key, unless another server made it that began at the same moment."""
    await table.refresh()
    if table.keys() or not closed:
        return None
    from storage.postgres.nodes.keys import FIRST

    text, kept = _made()
    return text if await table.add(replace(kept, id=FIRST)) else None


def _made() -> tuple[str, ApiKey]:
    return door.new_key(door.EVERYONE, microseconds())
