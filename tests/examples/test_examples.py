"""Each example is run as its README says, against a server in a process of its own."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import re
import shutil
import sys
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.support.live import CI, ROOT, Fork, Process

EXAMPLES = ROOT / "examples"


# One server serves all of them, so they share its event loop.
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Process]:
    async with Fork(tmp_path_factory.mktemp("server")) as process:
        yield process


async def run(server: Process, *words: str, key: str = "any") -> str:
    """Run a program against a server; return all that it printed."""
    told = {"OPENAI_BASE_URL": f"{server.http}/v1", "OPENAI_API_KEY": key}
    process = await asyncio.create_subprocess_exec(
        *words, env={"PATH": os.environ["PATH"], **told}, stdout=PIPE, stderr=STDOUT
    )
    said = (await process.communicate())[0].decode()
    assert process.returncode == 0, said
    return said


def check(printed: str) -> None:
    """Check what the examples that have all six parts in common print."""
    lines = dict(line.split(": ", 1) for line in printed.splitlines())
    assert "sad" in lines["chat"]
    assert int(lines["tokens"]) > 0
    assert lines["stream"].strip()
    assert "name" in lines["history"].partition("->")[2]
    assert lines["error"].startswith("400 decimal_above_max_value - Invalid 'temperature'")
    assert "gpt-4o-mini" in lines["models"].split()
    near, far = map(float, re.findall(r"[\d.]+", lines["embeddings"]))
    assert near > far


async def test_openai_python(server: Process) -> None:
    check(await run(server, sys.executable, str(EXAMPLES / "with_openai.py")))


async def test_openai_node(server: Process) -> None:
    ready = shutil.which("node") and (EXAMPLES / "node_modules" / "openai").is_dir()
    if not ready and not CI:
        pytest.skip("needs Node, and once: npm install --prefix examples")
    check(await run(server, "node", str(EXAMPLES / "with_openai.mjs")))


async def test_langchain(server: Process) -> None:
    python = os.environ.get("TRIALOGUE_TEST_LANGCHAIN", sys.executable)
    if python == sys.executable and not CI and not importlib.util.find_spec("langchain_openai"):
        pytest.skip("needs langchain-openai; TRIALOGUE_TEST_LANGCHAIN names a Python that has it")
    check(await run(server, python, str(EXAMPLES / "with_langchain.py")))


async def test_curl(server: Process) -> None:
    said = await run(server, "sh", str(EXAMPLES / "with_curl.sh"))
    parts = dict(part.split("\n", 1) for part in said.split("== ")[1:])
    assert '"object":"chat.completion"' in parts["chat"]
    assert parts["stream"].rstrip().endswith("data: [DONE]")
    assert '"finish_reason":"stop"' in parts["history: what was said before is sent along"]
    assert parts["error: 400, and why"].rstrip().endswith("400")
    assert '"id":"gpt-4o-mini"' in parts["models"]
    assert parts["embeddings"].count('"embedding":[') == 2


async def test_curl_ends_badly_where_the_server_refuses(tmp_path: Path) -> None:
    async with Fork(tmp_path, env={"TRIALOGUE_API_KEYS": "ada:sk-ada"}) as server:
        with pytest.raises(AssertionError, match="invalid_api_key"):
            await run(server, "sh", str(EXAMPLES / "with_curl.sh"), key="sk-eve")
        await run(server, "sh", str(EXAMPLES / "with_curl.sh"), key="sk-ada")


async def test_join_a_conversation(server: Process) -> None:
    said = await run(server, sys.executable, str(EXAMPLES / "join_a_conversation.py"), "demo")
    kept = said.partition("kept:\n")[2].splitlines()
    assert [line.split()[0] for line in kept] == ["user:", "assistant:"] * 3
    assert kept[0].endswith("My name is Ada.")
    tokens = list(map(int, re.findall(r"\((\d+) tokens sent\)", said)))
    assert len(tokens) == 2
    assert tokens[1] > 2 * tokens[0], "the history goes before the question"
