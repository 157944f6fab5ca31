"""The commands keys and config."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from pydantic import BaseModel

from server.app.keys import Keys, keys_of
from server.config.keyring import told
from server.config.settings import Settings, SettingsError, variables
from server.core import validation
from server.core.access import auth
from server.core.clock import microseconds
from server.core.errors import InvalidRequestError
from storage.keys import KeyFile
from storage.model import ApiKey
from storage.port import NotFoundError

DAY = 24 * 3600 * 1_000_000


def keys(settings: Settings, action: str, name: str | None, days: float | None) -> int:
    """Make, list or revoke API keys; a running server sees it at its next request."""
    kept = keys_of(settings)
    if not isinstance(kept, KeyFile):
        return _keys(settings, kept, action, name, days)
    with told(kept):
        return _keys(settings, kept, action, name, days)


def _keys(settings: Settings, file: Keys, action: str, name: str | None, days: float | None) -> int:
    match action, name:
        case "list", None:
            kept = file.keys()
            for key in kept:
                print(_row(key))
            if not kept:
                print(f"no keys in {file.place}; 'trialogue keys create NAME' makes one")
        case "create", str(owner):
            try:
                validation.name(owner, "NAME")
            except InvalidRequestError as error:
                raise SettingsError(str(error)) from None
            if days is not None and not 0 < days < 1_000_000:
                raise SettingsError("--days must be more than 0 and less than 1,000,000")
            expires = None if days is None else microseconds() + int(days * DAY)
            text, new = auth.new_key(owner, microseconds(), expires_at=expires)
            file.add(new)
            print(f"{text}\n\nkept as {new.id} in {file.place}; this key is shown only now")
            if (said := _closing(settings, file, new)) is not None:
                print(said)
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


def _closing(settings: Settings, file: Keys, new: ApiKey) -> str | None:
    """Return what the first key changes, and the way on; None where it is not the first."""
    first = [key.id for key in file.keys()] == [new.id]  # noqa: SIM118 - no mapping
    if not first or settings.api_keys or settings.auth == "off":
        return None
    closed = "from now on nobody gets in without a key, on a server that runs neither"
    if new.owner == auth.EVERYONE:
        return f"{closed}; this one opens what was made without one"
    return (
        f"{closed}.\nWhat was made without one belongs to {auth.EVERYONE!r} and is not "
        f"{new.owner}'s to see: 'trialogue keys create {auth.EVERYONE}' makes a key to it"
    )


def config(settings: Settings) -> int:
    """Print every setting as it is now, secrets hidden."""
    plain = settings.model_dump()
    for name in Settings.model_fields:
        value = getattr(settings, name)
        shown = "" if value in (None, (), {}) else _tables(value) or str(plain[name])
        print(f"{variables(name)[0]}={shown}")
    return 0


def _tables(value: object) -> str | None:
    """Return the tables that a setting is as JSON, as its variable takes them."""
    match value:
        case BaseModel():
            return json.dumps(value.model_dump(exclude_unset=True), ensure_ascii=False)
        case dict():
            by_name = {name: table.model_dump(exclude_unset=True) for name, table in value.items()}
            return json.dumps(by_name, ensure_ascii=False)
        case tuple() if all(isinstance(one, BaseModel) for one in value):
            tables = [table.model_dump(exclude_unset=True) for table in value]
            return json.dumps(tables, ensure_ascii=False)
    return None


def _row(key: ApiKey) -> str:
    return f"{key.id}  {key.owner:20}  made {_day(key.created_at)}{_state(key)}"


def _state(key: ApiKey) -> str:
    if key.revoked_at is not None:
        return f", revoked {_day(key.revoked_at)}"
    return "" if key.expires_at is None else f", until {_day(key.expires_at)}"


def _day(micros: int) -> str:
    return f"{datetime.fromtimestamp(micros / 1_000_000, UTC):%Y-%m-%d %H:%M}"
