"""What doctor looks at where history is kept on PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator

from server.app.stores import need_driver
from server.config.database import shown
from server.config.settings import Settings, SettingsError
from server.nodes.membership import port_refuses
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
        members = await diagnosis.members(address(settings.database))
    except UnavailableError as error:
        yield False, f"{NAME}: {where}: {str(error).rstrip('.')}"
        return
    for good, line in told:
        yield good, f"{'database' if good else f'{NAME}:'} {where}: {line}"
    for node, at in members:
        yield await _reached(node, at)


async def _reached(node: str, at: str) -> Finding:
    """Say whether another server of this database is reached from here."""
    if not at:
        return True, f"node {node}: it does not listen yet"
    if await port_refuses(at):
        return False, (
            f"node {node}: nothing listens at {at}; where it runs, TRIALOGUE_NODE_ADDRESS says "
            "where others reach its gRPC port: until then its turns are followed by their rows"
        )
    return True, f"node {node}: reached at {at}"
