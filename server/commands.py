"""The commands beside serve: keys, config, doctor."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from datetime import UTC, datetime

from pydantic import BaseModel

from server.core import checks, doors
from server.core.conversations import microseconds
from server.core.errors import InvalidRequestError
from server.lifecycle import key_file
from server.members import model_of
from server.settings import Settings, SettingsError, variables
from server.transports.http import listening_socket
from server.upstream.encoding import ENCODINGS, encoding
from server.upstream.models import model
from storage.model import ApiKey
from storage.port import NotFoundError
from storage.sqlite import SAFE_VERSION

DAY = 24 * 3600 * 1_000_000


def keys(settings: Settings, action: str, name: str | None, days: float | None) -> int:
    """Make, list or revoke API keys; a running server sees it at its next request."""
    file = key_file(settings)
    match action, name:
        case "list", None:
            kept = file.keys()
            for key in kept:
                print(_row(key))
            if not kept:
                print(f"no keys in {file.path}; 'trialogue keys create NAME' makes one")
        case "create", str(owner):
            try:
                checks.name(owner, "NAME")
            except InvalidRequestError as error:
                raise SettingsError(str(error)) from None
            if days is not None and not 0 < days < 1_000_000:
                raise SettingsError("--days must be more than 0 and less than 1,000,000")
            expires = None if days is None else microseconds() + int(days * DAY)
            text, new = doors.new_key(owner, microseconds(), expires_at=expires)
            file.add(new)
            print(f"{text}\n\nkept as {new.id} in {file.path}; this key is shown only now")
        case "revoke", str(key_id):
            try:
                print(_row(file.revoke(key_id, microseconds())))
            except NotFoundError as error:
                raise SettingsError(str(error)) from None
        case _:
            raise SettingsError(
                "use: keys create NAME [--days N], keys list, or keys revoke KEY_ID"
            )
    return 0


def config(settings: Settings) -> int:
    """Print every setting as it is now, secrets hidden."""
    for name in Settings.model_fields:
        value = getattr(settings, name)
        print(f"{variables(name)[0]}={'' if value in (None, (), {}) else _shown(value)}")
    return 0


def _shown(value: object) -> str:
    """Return a setting on one line; tables as JSON, as the variable takes them."""
    match value:
        case dict():
            by_name = {name: table.model_dump(exclude_unset=True) for name, table in value.items()}
            return json.dumps(by_name, ensure_ascii=False)
        case tuple() if all(isinstance(one, BaseModel) for one in value):
            tables = [table.model_dump(exclude_unset=True) for table in value]
            return json.dumps(tables, ensure_ascii=False)
    return str(value)


async def doctor(settings: Settings) -> int:
    """Check what a start needs, one line a thing; 1 where something is wrong."""
    checks = [_encoding(settings), _database(settings), *_ports(settings), _sqlite()]
    for good, line in checks:
        print(f"{'ok ' if good else 'BAD'}  {line}")
    await asyncio.sleep(0)
    return 0 if all(good for good, _ in checks) else 1


def _encoding(settings: Settings) -> tuple[bool, str]:
    name = settings.encoding or model(model_of(settings)).encoding
    if name not in ENCODINGS:
        return False, f"TRIALOGUE_ENCODING: there is no encoding {name!r}"
    return encoding(name).count("Hello") > 0, f"encoding {name} of model {model_of(settings)}"


def _database(settings: Settings) -> tuple[bool, str]:
    path = settings.database_path
    if not path.exists():
        there = path.parent.is_dir()
        why = "is not there yet; the first start makes it" if there else "has no folder"
        return there, f"TRIALOGUE_DATABASE: {path} {why}"
    try:
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        try:
            (found,) = connection.execute("PRAGMA quick_check").fetchone()
        finally:
            connection.close()
    except sqlite3.Error as error:
        return False, f"TRIALOGUE_DATABASE: {path}: {error}"
    return found == "ok", f"database {path}: {found}"


def _ports(settings: Settings) -> list[tuple[bool, str]]:
    found = []
    for name in ("http_port", "grpc_port", "websocket_port"):
        port = getattr(settings, name)
        try:
            listening_socket(settings.host, port).close()
            found.append((True, f"{settings.host} port {port} is free"))
        except OSError as error:
            found.append((False, f"{variables(name)[0]}: {settings.host} {port}: {error.strerror}"))
    return found


def _sqlite() -> tuple[bool, str]:
    version = sqlite3.sqlite_version
    safe = sqlite3.sqlite_version_info >= SAFE_VERSION
    told = "" if safe else "; before 3.51.3, so no other process may write to the database"
    return True, f"SQLite {version}{told}"


def _row(key: ApiKey) -> str:
    return f"{key.id}  {key.owner:20}  made {_day(key.created_at)}{_state(key)}"


def _state(key: ApiKey) -> str:
    if key.revoked_at is not None:
        return f", revoked {_day(key.revoked_at)}"
    return "" if key.expires_at is None else f", until {_day(key.expires_at)}"


def _day(micros: int) -> str:
    return f"{datetime.fromtimestamp(micros / 1_000_000, UTC):%Y-%m-%d %H:%M}"
