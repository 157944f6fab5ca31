"""Fixtures that every test may ask for."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import structlog

from server.core.conversations import Conversations
from server.core.turns.plan import Defaults
from storage.sqlite.store import SQLiteStore
from tests.support.fakes import Puppet
from tests.support.postgres import PostgresServer, bouncer_before, running_server

MODEL = "gpt-4o"


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
def postgres() -> Iterator[PostgresServer]:
    with running_server() as server:
        yield server


@pytest.fixture(scope="session")
def postgres_url(postgres: PostgresServer) -> str:
    return postgres.create("direct")


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
    async with Conversations(store, upstream, Defaults(MODEL)) as opened:
        yield opened
