"""Fixtures for tests of responses: a whole server over a scripted upstream, and OpenAI's client."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import openai
import pytest

from tests.server.transports.openai.responses.stateful import client_of, scripted_env
from tests.support.live import Fork
from tests.support.upstream_script import MODEL
from tests.support.upstream_server import ScriptedUpstream


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream(models=(MODEL,)) as scripted:
        yield scripted


@pytest.fixture
async def server(tmp_path: Path, upstream: ScriptedUpstream) -> AsyncIterator[Fork]:
    async with Fork(tmp_path, env=scripted_env(upstream)) as started:
        yield started


@pytest.fixture
async def client(server: Fork) -> AsyncIterator[openai.AsyncOpenAI]:
    async with client_of(server) as made:
        yield made


@pytest.fixture
async def http(server: Fork) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=server.http, timeout=60) as made:
        yield made
