"""What doctor looks at where history is kept on PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator

from server.app.stores import need_driver
from server.config.database import shown
from server.config.settings import Settings, SettingsError
from storage.port import UnavailableError

Finding = tuple[bool, str]
NAME = "TRIALOGUE_DATABASE"


async def examine(settings: Settings) -> AsyncIterator[Finding]:
    """Yield a finding for each thing that a server needs of its database; nothing is changed."""
    try:
        need_driver()
    except SettingsError as error:
        yield False, str(error)
        return
    from storage.postgres import diagnosis
    from storage.postgres.address import address

    where = shown(settings.database)
    try:
        told = await diagnosis.diagnose(address(settings.database))
    except UnavailableError as error:
        yield False, f"{NAME}: {where}: {str(error).rstrip('.')}"
        return
    for good, line in told:
        yield good, f"{'database' if good else f'{NAME}:'} {where}: {line}"
