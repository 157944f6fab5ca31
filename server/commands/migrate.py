"""The command migrate: history from SQLite to PostgreSQL or back, all of it, and compared."""

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack, aclosing, contextmanager
from pathlib import Path

from server.app.stores import need_driver
from server.commands import protected_files
from server.config import database
from server.config.keyring import KEYS
from server.config.settings import SettingsError
from storage.keys import KeyFile
from storage.migration.relations import (
    RELATIONS,
    Digest,
    Relation,
    Source,
    Standing,
    Target,
    digest,
)
from storage.migration.sqlite import SQLiteHistory, SQLiteTarget
from storage.port import UnavailableError
from storage.sqlite.migrations import SchemaTooNewError
from storage.sqlite.opening import DatabaseInUseError

AGAIN = "run it again: it goes on where it stopped"


async def migrate(source_url: str, target_url: str, *, anew: bool) -> int:
    """Bring all history from one database to another; 1 where both differ at the end."""
    source_url, target_url = _checked(source_url), _checked(target_url)
    if database.on_postgres(source_url) == database.on_postgres(target_url):
        copier = "pg_dump" if database.on_postgres(source_url) else "'trialogue backup'"
        raise SettingsError(f"both are of one kind: that is what {copier} copies")
    async with AsyncExitStack() as stack:
        with _told(source_url):
            source = await _source(source_url, stack)
        with _told(target_url):
            target = await _target(target_url, stack)
            return await migrated(source, target, anew=anew)


async def migrated(source: Source, target: Target, *, anew: bool) -> int:
    """Do as `migrate` does with two that are open."""
    if await source.in_use():
        raise SettingsError(f"{source.place}: a server uses it; stop all of them first")
    standing = await target.standing(source.identity)
    if anew and standing in (Standing.HALF, Standing.OTHERS_HALF):
        await target.begin_anew()
        standing = Standing.EMPTY
    if standing is Standing.OTHERS_HALF:
        raise SettingsError(
            f"{target.place}: a part of another history is there already; run that migration to "
            "its end, or throw its part away with --anew"
        )
    if standing is Standing.FULL:
        return await _look_whether_done(source, target)
    await target.begin(source.identity)
    if await target.in_use():
        if standing is Standing.EMPTY:
            await target.begin_anew()
        raise SettingsError(f"{target.place}: a server uses it; stop all of them first")
    async with source.moment():
        for relation in RELATIONS:
            await _copy(source, target, relation)
        await target.finish(await source.last_turn_key())
    if await source.in_use() or not await _same(source, target):
        print(
            f"trialogue: {source.place} was written to meanwhile: stop all servers, and run it "
            "again with --anew",
            file=sys.stderr,
        )
        return 1
    await target.done()
    print(f"{target.place} has all of it; set TRIALOGUE_DATABASE to that, and start a server")
    return 0


async def _look_whether_done(source: Source, target: Target) -> int:
    """Let who was cut off behind the last step know that all is done; refuse everybody else."""
    for relation in RELATIONS:
        if await target.count(relation) != await source.count(relation):
            break
    else:
        if await _same(source, target):
            print(f"{target.place} has all of it already")
            return 0
    raise SettingsError(
        f"{target.place}: there is other history already; name a database that is empty"
    )


async def _copy(source: Source, target: Target, relation: Relation) -> None:
    total, done = await source.count(relation), await target.count(relation)
    told = _Progress(relation.name, total)
    async with aclosing(source.rows(relation, done)) as parts:
        async for rows in parts:
            await target.write(relation, rows)
            done += len(rows)
            told(done)


async def _same(source: Source, target: Target) -> bool:
    """Compare all that both have, and print it."""
    print(f"{'':20} {'rows':>12}  digest")
    same = True
    async with source.moment(), target.moment():
        for relation in RELATIONS:
            _Progress(relation.name, None)(0)
            ours, theirs = await digest(source, relation), await digest(target, relation)
            same = same and ours == theirs
            print(_line(relation, ours, theirs))
    return same


def _line(relation: Relation, ours: Digest, theirs: Digest) -> str:
    line = f"{relation.name:20} {ours.rows:12,}  {ours.shown}"
    return line if ours == theirs else f"{line}  but {theirs.rows:,} rows, {theirs.shown}"


async def _source(url: str, stack: AsyncExitStack) -> Source:
    if database.on_postgres(url):
        from storage.migration.postgres import PostgresHistory

        return await stack.enter_async_context(PostgresHistory(url))
    path, keys = _files(url)
    if not path.is_file():
        raise SettingsError(f"{path}: there is no such file")
    return await stack.enter_async_context(SQLiteHistory(path, keys))


async def _target(url: str, stack: AsyncExitStack) -> Target:
    if database.on_postgres(url):
        from storage.migration.postgres import PostgresTarget

        return await stack.enter_async_context(PostgresTarget(url))
    path, keys = _files(url)
    protected_files.refuse_name(path)
    if not path.parent.is_dir():
        raise SettingsError(f"{path.parent}: there is no such folder")
    return await stack.enter_async_context(SQLiteTarget(path, keys))


def _files(url: str) -> tuple[Path, KeyFile]:
    path = Path(os.path.realpath(database.file_of(url)))
    return path, KeyFile(path.with_suffix(KEYS))


def _checked(url: str) -> str:
    try:
        checked = database.checked(url)
    except ValueError as error:
        raise SettingsError(f"a database {error}") from None
    if database.on_postgres(checked):
        need_driver()
    return checked


@contextmanager
def _told(url: str) -> Iterator[None]:
    """Turn what cannot be done into one line that says what to do."""
    place = database.shown(url)
    try:
        yield
    except DatabaseInUseError:
        raise SettingsError(f"{place}: a server has it open; stop it first") from None
    except UnavailableError as error:
        raise UnavailableError(f"{place}: {str(error).rstrip('.')}; {AGAIN}") from error
    except (SchemaTooNewError, sqlite3.Error) as error:
        raise SettingsError(f"{place}: {error}") from error


class _Progress:
    """Says how far a relation is: over and over on a terminal, else not."""

    def __init__(self, name: str, total: int | None) -> None:
        self._name = name
        self._total = total

    def __call__(self, done: int) -> None:
        if not sys.stderr.isatty():
            return
        if self._total is None:
            print(f"\r\x1b[Kcomparing {self._name}\r", end="", file=sys.stderr, flush=True)
            return
        percent = 100 * done // max(self._total, 1)
        end = "\n" if done >= self._total else ""
        print(
            f"\r{percent:3} % {self._name}: {done:,} of {self._total:,}",
            end=end,
            file=sys.stderr,
            flush=True,
        )
