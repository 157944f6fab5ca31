"""Fixtures that every test may ask for."""

from __future__ import annotations

import logging
import os
import resource
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import structlog

from server.app.core import core_of
from server.config.settings import Settings, variables
from server.core.conversations import Conversations
from server.core.turns.plan import Defaults
from storage.keys import KeyFile
from storage.sqlite.store import SQLiteStore
from tests.support.fakes import MODEL, Clock, Puppet
from tests.support.live import Served, serve
from tests.support.postgres import PostgresServer, bouncer_before, running_server
from tests.support.tiny_gguf import tiny_gguf


def pytest_configure() -> None:
    """Let Ctrl-C reach the processes of tests: a shell's job in the background ignores it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _nothing_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep the settings of whoever runs the tests out of them."""
    for name in list(os.environ):
        if name.startswith(("TRIALOGUE_", "OPENAI_")) and not name.startswith("TRIALOGUE_TEST_"):
            monkeypatch.delenv(name)
    # Reading every authority of the machine costs each client of a test 70 ms; ours speak plain
    # HTTP, or name the certificates that they trust.
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))


@pytest.fixture(autouse=True)
def _logs_as_before() -> Iterator[None]:
    """Take back what a test of the command line made of our logs."""
    yield
    structlog.reset_defaults()
    logging.disable(logging.NOTSET)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GGUF that llama.cpp loads in 50 ms; it writes nonsense, the same each time."""
    return tiny_gguf(tmp_path_factory.mktemp("models") / "tiny.gguf")


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    with running_server() as server:
        yield server


@pytest.fixture(scope="session")
def postgres_url(postgres: PostgresServer) -> str:
    return postgres.create("direct")


@pytest.fixture
def empty_postgres(postgres: PostgresServer) -> str:
    """The URL of a database that nobody has used."""
    return postgres.fresh()


@pytest.fixture(scope="session")
def postgres_of_ctype_c(postgres: PostgresServer) -> str:
    return postgres.create("of_ctype_c", "C")


@pytest.fixture(scope="session")
def postgres_pooled(postgres: PostgresServer) -> Iterator[str]:
    postgres.create("pooled")
    with bouncer_before(postgres) as port:
        yield postgres.url("pooled", port)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SQLiteStore]:
    async with SQLiteStore(tmp_path / "trialogue.db") as opened:
        yield opened


@pytest.fixture
def upstream() -> Puppet:
    return Puppet()


@pytest.fixture
async def conversations(store: SQLiteStore, upstream: Puppet) -> AsyncIterator[Conversations]:
    async with core_of(store, upstream, Defaults(MODEL)) as opened:
        yield opened


@pytest.fixture
async def served(store: SQLiteStore, upstream: Puppet) -> AsyncIterator[Served]:
    """A whole server, every wire of it, whose upstream says what the test lets it say."""
    async with serve(store, upstream) as server:
        yield server


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def key_file(tmp_path: Path) -> KeyFile:
    return KeyFile(tmp_path / "trialogue.keys")


@pytest.fixture
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in an empty folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def no_settings(own_folder: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in an empty folder, with no setting in the environment."""
    for field in Settings.model_fields:
        for name in variables(field):
            monkeypatch.delenv(name, raising=False)


@pytest.fixture
def open_umask() -> Iterator[None]:
    """A umask that lets everybody read what is made."""
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.fixture
def process_as_it_was() -> Iterator[None]:
    """Undo what a start changes in its process."""
    umask, limit = os.umask(0o022), resource.getrlimit(resource.RLIMIT_NOFILE)
    yield
    os.umask(umask)
    resource.setrlimit(resource.RLIMIT_NOFILE, limit)
