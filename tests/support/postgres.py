"""A real PostgreSQL for tests, and pgbouncer before it, in a temporary folder of their own."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.support.live import ROOT

#: names the folder of PostgreSQL's programs, where it is not Debian's
PROGRAMS = "TRIALOGUE_TEST_POSTGRES"
USER = "trialogue"
#: how many servers use a database at once
NODES = 8
_PATIENCE = 60.0
_BOUNCER = """
[databases]
* = host=127.0.0.1 port={server}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 4
max_client_conn = 200
logfile = {folder}/pgbouncer.log
"""

_EMPTY = """
DO $$
DECLARE
    one regclass;
BEGIN
    FOR one IN SELECT c.oid FROM pg_class c WHERE c.relkind = 'r'
        AND c.relnamespace = 'public'::regnamespace
        AND c.relname NOT IN ('migrations', 'pings', 'cluster')
    LOOP
        EXECUTE 'DELETE FROM ' || one;
    END LOOP;
END
$$
"""


async def emptied(url: str) -> str:
    """Delete whatever a test before has left in a database; return its URL."""
    connection = await asyncpg.connect(url, statement_cache_size=0)
    try:
        await connection.execute(_EMPTY)
    finally:
        await connection.close()
    return url


async def fetched(url: str, sql: str) -> list[tuple[object, ...]]:
    """Return what a statement finds in a database."""
    connection = await asyncpg.connect(url)
    try:
        return [tuple(row) for row in await connection.fetch(sql)]
    finally:
        await connection.close()


def command(folder: Path, url: str, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run one of our commands to its end."""
    paths = f"{ROOT}:{ROOT / 'proto'}"
    return subprocess.run(
        [sys.executable, "-m", "server", *words],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": paths, "TRIALOGUE_DATABASE": url, **env},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def programs() -> Path | None:
    """Return the folder of PostgreSQL's programs, the latest there is."""
    named = os.environ.get(PROGRAMS)
    if named:
        return Path(named)
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda one: int(one.parent.name))
    if found:
        return found[-1]
    which = shutil.which("postgres")
    return Path(which).parent if which else None


def missing(what: str) -> None:
    """Skip a test for want of a program; where everything is to be tested, fail it."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what} is not installed, and CI tests everything")
    pytest.skip(f"{what} is not installed")


class PostgresServer:
    """A server that is started, killed and started again on one port."""

    def __init__(self, folder: Path, binaries: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self._numbers = count()
        self._data = folder / "data"
        self._binaries = binaries
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        """What it has complained of so far."""
        return (self.folder / "postgres.log").read_text()

    def url(self, database: str, port: int | None = None, query: str = "") -> str:
        return f"postgresql://{USER}@127.0.0.1:{port or self.port}/{database}{query}"

    def make(self) -> None:
        """Make the files of a cluster."""
        _run(
            [
                *(str(self._binaries / "initdb"), "-D", str(self._data), "-U", USER),
                *("-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"),
            ]
        )

    def start(self) -> None:
        """Start it and wait until it lets somebody in."""
        options = {
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "max_connections": 120,
            "shared_buffers": "32MB",
        }
        log = (self.folder / "postgres.log").open("ab")
        with log:
            self._process = subprocess.Popen(
                [
                    *(str(self._binaries / "postgres"), "-D", str(self._data)),
                    *(f"--{name}={value}" for name, value in options.items()),
                ],
                stdout=log,
                stderr=log,
                cwd=self.folder,
                **_as_nobody(),
            )
        self._wait()

    def kill(self) -> None:
        """Kill it as a crash does: its children too, before it can be told."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
                ids = [int(one) for one in children.read_text().split()]
                for one in (self._process.pid, *ids):
                    with suppress(ProcessLookupError):
                        os.kill(one, signal.SIGKILL)
            self._process.wait()

    def stop(self) -> None:
        """Stop it at once, without a last checkpoint."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(timeout=_PATIENCE)

    def _wait(self) -> None:
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                raise AssertionError(self.log[-2000:])
            ready = subprocess.run(
                [str(self._binaries / "psql"), "-Atc", "SELECT 1", self.url("postgres")],
                capture_output=True,
                check=False,
            )
            if ready.returncode == 0:
                return
            time.sleep(0.05)
        raise AssertionError("PostgreSQL does not let us in")

    def execute(self, sql: str, database: str = "postgres") -> None:
        """Run one statement as the owner of everything."""
        _run([str(self._binaries / "psql"), "-qAtc", sql, self.url(database)])

    def create(self, name: str, ctype: str = "C.UTF-8") -> str:
        """Make an empty database; return its URL."""
        self.execute(f"CREATE DATABASE {name} TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE '{ctype}'")
        return self.url(name)

    def fresh(self) -> str:
        """Make an empty database under a name of its own; return its URL."""
        return self.create(f"fresh_{next(self._numbers)}")


@contextmanager
def running_server() -> Iterator[PostgresServer]:
    """Run a server of this machine's PostgreSQL as long as the context lasts."""
    binaries = programs()
    if binaries is None:
        missing("PostgreSQL")
        raise AssertionError
    with _folder() as folder:
        server = PostgresServer(folder, binaries)
        server.make()
        server.start()
        try:
            yield server
        finally:
            server.stop()


@contextmanager
def bouncer_before(server: PostgresServer) -> Iterator[int]:
    """Run pgbouncer in transaction mode before a server; yield its port."""
    program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        missing("pgbouncer")
        raise AssertionError
    with _folder() as folder:
        port = free_port()
        file = folder / "pgbouncer.ini"
        text = _BOUNCER.format(server=server.port, port=port, folder=folder)
        # `any` lets everybody in, as whom the server is asked by
        file.write_text(text.replace("* = ", f"* = user={USER} "))
        process = subprocess.Popen(
            [program, "--quiet", str(file)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **_as_nobody(),
        )
        try:
            _wait_for_port(port, process)
            yield port
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=_PATIENCE)


@contextmanager
def _folder() -> Iterator[Path]:
    """Make a folder of whoever runs the server: PostgreSQL refuses root."""
    folder = Path(tempfile.mkdtemp(prefix="trialogue-postgres-"))
    try:
        if os.geteuid() == 0:
            shutil.chown(folder, _nobody(), None)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _nobody() -> str:
    names = {one.pw_name for one in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def _as_nobody() -> dict[str, Any]:
    return {"user": _nobody(), "extra_groups": []} if os.geteuid() == 0 else {}


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, check=False, cwd="/", **_as_nobody())
    assert done.returncode == 0, done.stderr.decode()


def free_port() -> int:
    """Return a port that nobody has, as yet."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def _wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        assert process.poll() is None, "pgbouncer has stopped"
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.02)
    raise AssertionError("pgbouncer does not let us in")
