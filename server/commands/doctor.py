"""The command doctor: everything that a server needs, one line a thing, and what to do about it."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from server.app.upstreams import configured, model_of
from server.commands import postgres_doctor
from server.commands.certificate import good_until
from server.commands.doctor_local import local_models
from server.commands.doctor_tools import mcp_servers
from server.config.keyring import key_file
from server.config.settings import Settings, SettingsError, variables
from server.config.unknown_variables import unknown_variables
from server.core.clock import microseconds
from server.tokens.encoding import ENCODINGS, EncodingFileError, check_files
from server.tokens.models import is_known, model
from server.transports.sockets import listening_socket
from server.upstream.model_info import find, window_of
from server.upstream.pool import PoolMember, is_pattern
from server.upstream.port import UpstreamError
from storage.sqlite import integrity
from storage.sqlite.files import room
from storage.sqlite.migrations import SchemaTooNewError, steps
from storage.sqlite.store import SAFE_VERSION

if TYPE_CHECKING:
    from server.upstream.remote.probe import Probed

#: Less than this on the disk of the database, and it is time to make room.
LITTLE_ROOM = 100 << 20
#: So many days before its end a certificate is due.
DUE_DAYS = 14

#: whether it is good, and the line to print
Finding = tuple[bool, str]


async def examine(settings: Settings) -> int:
    """Print a line for each thing looked at; 1 where something is wrong."""
    good = _print((True, f"settings can be read; {_auth(settings)}"))
    in_use = not settings.on_postgres and _in_use(settings.database_path)
    looks: list[Callable[[], Iterator[Finding]]] = [
        lambda: _variables(settings),
        lambda: _encodings(settings),
        lambda: _history(settings, in_use=in_use),
        lambda: _ports(settings, in_use=in_use),
        lambda: _certificate(settings),
        lambda: local_models(settings),
    ]
    for look in looks:
        for finding in _looked(look):
            good &= _print(finding)
    if settings.on_postgres:
        async for finding in postgres_doctor.examine(settings):
            good &= _print(finding)
    async for finding in _upstreams(settings):
        good &= _print(finding)
    async for finding in mcp_servers(settings):
        good &= _print(finding)
    return 0 if good else 1


def _looked(look: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """Yield what a look finds; what keeps it from looking on is a finding too."""
    try:
        yield from look()
    except OSError as error:
        yield False, f"{error.filename}: {error.strerror}"


def refuse(error: SettingsError) -> int:
    """Print what keeps the settings from being read."""
    _print((False, str(error)))
    return 1


def _print(finding: Finding) -> bool:
    good, line = finding
    if sys.stdout.isatty() and not good:
        print(f"\x1b[1mBAD  {line}\x1b[0m", flush=True)
    else:
        print(f"{'ok ' if good else 'BAD'}  {line}", flush=True)
    return good


def _auth(settings: Settings) -> str:
    if not settings.exposed:
        return f"only this machine is let in, on {settings.host}"
    lock = "everybody is let in without a key" if settings.auth == "off" else "a key is needed"
    if not settings.public:
        return f"{settings.host} lets in what TRIALOGUE_ALLOWED_HOSTS and _ORIGINS name, {lock}"
    return f"{settings.host} is open to the network, {lock}"


def _variables(settings: Settings) -> Iterator[Finding]:
    for name, near in unknown_variables(settings):
        meant = f"; is {near} meant?" if near else "; 'trialogue serve --help' shows all"
        yield False, f"{name}: there is no setting of this name{meant}"


def _encodings(settings: Settings) -> Iterator[Finding]:
    whole = []
    for name in ENCODINGS:
        try:
            check_files(name)
            whole.append(name)
        except EncodingFileError as error:
            yield False, f"encoding {name}: {error}"
    yield True, f"encodings {', '.join(whole)}: their files are whole"
    wanted = settings.encoding or model(model_of(settings)).encoding
    if wanted not in ENCODINGS:
        yield False, f"TRIALOGUE_ENCODING: there is no encoding {wanted!r}; choose one of those"


def _in_use(path: Path) -> bool:
    """Say whether a server has the database open."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(file)
    return False


def _history(settings: Settings, *, in_use: bool) -> Iterator[Finding]:
    if not settings.on_postgres:
        yield from _database(settings.database_path, in_use=in_use)
        yield from _keys(settings)


def _database(path: Path, *, in_use: bool) -> Iterator[Finding]:
    folder = path.resolve().parent
    if not folder.is_dir():
        yield False, f"TRIALOGUE_DATABASE: there is no folder {folder}; make it"
        return
    if not os.access(folder, os.W_OK):
        yield False, f"TRIALOGUE_DATABASE: {folder} cannot be written to; change its owner"
    yield _sound(path, in_use=in_use)
    free = room(folder)
    told = f"{free / 1e9:,.1f} GB free on the disk of {folder}"
    yield (free >= LITTLE_ROOM, told if free >= LITTLE_ROOM else f"only {told}; make room")
    version = sqlite3.sqlite_version
    safe = sqlite3.sqlite_version_info >= SAFE_VERSION
    yield True, f"SQLite {version}{'' if safe else ', whose log one process alone may write: ours'}"


def _sound(path: Path, *, in_use: bool) -> Finding:
    if not path.exists():
        return True, f"database {path} is not there yet; the first start makes it"
    try:
        if path.stat().st_size == 0:
            integrity.check(path)
        with closing(integrity.reading(path.resolve(), still=not in_use)) as connection:
            version = integrity.examine(connection, path)
    except (sqlite3.Error, SchemaTooNewError) as error:
        return False, f"TRIALOGUE_DATABASE: {path}: {error}"
    except OSError as error:
        return False, f"TRIALOGUE_DATABASE: {path}: {error.strerror}"
    whose = "a server has it open" if in_use else "no server has it open"
    due = "" if version == len(steps()) else f" of {len(steps())}: the next start brings it up"
    size = path.stat().st_size / 1e6
    return True, f"database {path}: whole, {size:,.1f} MB, {whose}, schema {version}{due}"


def _keys(settings: Settings) -> Iterator[Finding]:
    file = key_file(settings)
    try:
        kept, now = file.keys(), microseconds()
        rights = file.path.stat().st_mode & 0o077 if kept else 0
    except (OSError, ValueError, KeyError, TypeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is damaged"
        yield False, f"keys {file.path}: {why}; bring it back from a backup, or move it away"
        return
    good = [key for key in kept if key.revoked_at is None and (key.expires_at or now + 1) > now]
    if rights:
        yield False, f"keys {file.path}: others may read it; chmod 600 {file.path}"
    if kept and not good and not settings.api_keys:
        yield False, f"keys {file.path}: none is valid; 'trialogue keys create NAME' makes one"
    elif kept:
        yield True, f"keys {file.path}: {len(good)} valid of {len(kept)}"
    else:
        first = settings.exposed and not settings.api_keys and settings.auth == "on"
        told = "the first start makes one" if first else "none is needed there"
        yield True, f"keys {file.path} is not there; {told}"


def _ports(settings: Settings, *, in_use: bool) -> Iterator[Finding]:
    for name in ("http_port", "grpc_port", "websocket_port"):
        variable, port = variables(name)[0], getattr(settings, name)
        where = f"{settings.host} port {port}"
        try:
            listening_socket(settings.host, port).close()
        except OSError as error:
            if in_use:
                yield True, f"{variable}: {where} is taken, as it is by a server that runs"
            else:
                flag = f"--{name.replace('_', '-')}"
                yield False, f"{variable}: {where}: {error.strerror or error}; choose with {flag}"
        else:
            yield True, f"{variable}: {where} is free"


def _certificate(settings: Settings) -> Iterator[Finding]:
    cert, key = settings.tls_cert, settings.tls_key
    if cert is None or key is None:
        return
    name = "TRIALOGUE_TLS_CERT, TRIALOGUE_TLS_KEY"
    try:
        until = good_until(cert.read_text(encoding="ascii", errors="replace"))
        key.read_bytes()
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key)
    except ssl.SSLError as error:
        told = "do not belong together" if "MISMATCH" in str(error) else "cannot be used"
        yield False, f"{name}: {cert} and {key} {told} ({error.reason}); name the right pair"
        return
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        where = error.filename if isinstance(error, OSError) and error.filename else cert
        yield False, f"{name}: {where}: {why}"
        return
    days = (until - datetime.now(UTC)).days
    if days < 0:
        yield False, f"{name}: {cert} ended on {until:%Y-%m-%d}; renew it"
    elif days < DUE_DAYS:
        yield False, f"{name}: {cert} ends in {days} days, on {until:%Y-%m-%d}; renew it"
    else:
        yield True, f"certificate {cert} fits its key, and is good for {days} days"


async def _upstreams(settings: Settings) -> AsyncIterator[Finding]:
    if not configured(settings):
        yield True, "upstream: Eliza, built in; OPENAI_API_KEY is not set"
        return
    if not (settings.upstreams or settings.openai_api_key or settings.openai_base_url):
        return
    # Only now: the clients take long to load.
    from server.app import remote_upstreams
    from server.upstream.remote.client import UpstreamClient
    from server.upstream.remote.probe import probe

    makers: list[tuple[str, Callable[[], PoolMember]]] = [
        (
            table.key_variable or f"the key of {table.name}",
            partial(remote_upstreams.listed, table, settings),
        )
        for table in settings.upstreams
    ]
    if settings.openai_api_key or settings.openai_base_url:
        makers.append(("OPENAI_API_KEY", partial(remote_upstreams.openai, settings)))
    wanted = model_of(settings)
    for variable, make in makers:
        try:
            member = make()
        except SettingsError as error:
            yield False, str(error)
            continue
        try:
            assert isinstance(member.speaker, UpstreamClient)  # noqa: S101 - all of these are
            probing = probe(member.speaker.api_key, member.speaker.base_url)
            finding = await _asked(member, probing, variable, wanted)
            if finding[0] and (own := member.own_name(wanted)) is not None:
                finding = True, finding[1] + await _window_note(member, own, settings)
        finally:
            await member.upstream.close()
            await member.speaker.close()
        if member.own_name(wanted) is not None:
            wanted = ""  # who is asked first for it is the one that must have it
        yield finding


async def _asked(
    member: PoolMember, probing: Awaitable[Probed], variable: str, wanted: str
) -> Finding:
    """Ask an upstream for its models, and look for those that the settings name."""
    name = f"upstream {member.name}"
    try:
        probed = await probing
    except UpstreamError as error:
        return False, f"{name}: {error}; look at its address, and whether it runs"
    if probed.status in (401, 403):
        return False, f"{name}: refused its key ({probed.status}); put a good one in {variable}"
    if probed.models is None:
        return True, f"{name}: answers, but lists no models ({probed.status})"
    named = [*member.aliases.values(), *(one for one in member.models if not is_pattern(one))]
    own = member.own_name(wanted) if wanted else None
    missing = sorted({*named, *([own] if own else [])} - set(probed.models))
    if missing:
        has = ", ".join(probed.models[:5]) + (", …" if len(probed.models) > 5 else "")
        return False, f"{name}: does not list {', '.join(missing)}; it lists {has or 'none'}"
    return True, f"{name}: answers, takes its key, lists {len(probed.models)} models"


async def _window_note(member: PoolMember, model_name: str, settings: Settings) -> str:
    """Return what is to be said of a window that nobody tells; empty where somebody does."""
    if member.window(model_name) or settings.context_window or is_known(model_name):
        return ""
    try:
        listed = find(await member.speaker.models(), model_name) or {}
    except UpstreamError:
        return ""
    if (window := window_of(listed)) is not None:
        return f"; the window of {model_name} is {window:,} tokens"
    return f"; nobody tells the context window of {model_name}: set context_window"
