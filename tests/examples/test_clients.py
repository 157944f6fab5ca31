"""What `bin/try-clients` installs clients for: the list, and the clients that are at hand.

Those of Node, and OpenAI's agents, are installed once: `.ci/run` does so.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.live import CI, ROOT, Fork
from tests.support.tool_model import call_or_answer
from tests.support.upstream_script import MODEL
from tests.support.upstream_server import ScriptedUpstream

TRY = ROOT / "bin" / "try-clients"
PROGRAMS = ROOT / "tests" / "examples" / "clients"
AGENTS = ROOT / ".clients" / "bin" / "python"
#: Programs that use the stateful API, and how many features each has.
STATEFUL = {
    "openai_responses.py": 9,
    "langchain_responses.py": 7,
    "openai_agents.py": 8,
    "openai_responses.mjs": 9,
    "openai_agents.mjs": 8,
    "vercel_responses.mjs": 7,
}


def test_help_names_every_client() -> None:
    told = subprocess.run((TRY, "--help"), capture_output=True, text=True, check=True).stdout
    for name in ("openai-0.28", "langchain", "llm", "vercel-ai", "agents", "codex"):
        assert f"\n  {name}\n" in told


def test_every_program_is_there() -> None:
    named = {word for word in TRY.read_text().split() if word.endswith((".py", ".mjs"))}
    named = {word for word in named if "/" not in word}
    there = {path.name for end in ("py", "mjs") for path in PROGRAMS.glob(f"*_*.{end}")}
    assert named == there - {"__init__.py"}


def test_an_unknown_client_is_refused() -> None:
    done = subprocess.run((TRY, "nobody"), capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no client is named nobody" in done.stderr


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "OPENAI_API_KEY": "any"}


async def test_openais_client(tmp_path: Path, environment: dict[str, str]) -> None:
    """Through a second server, so that Eliza and the passage to an upstream are both tried."""
    for folder in ("near", "far"):
        (tmp_path / folder).mkdir()
    async with Fork(tmp_path / "far") as far:
        behind = {"OPENAI_API_KEY": "any", "OPENAI_BASE_URL": f"{far.http}/v1"}
        async with Fork(tmp_path / "near", env=behind) as near:
            done = subprocess.run(
                (sys.executable, PROGRAMS / "openai_today.py"),
                env={**environment, "OPENAI_BASE_URL": f"{near.http}/v1"},
                capture_output=True,
                text=True,
                check=False,
            )
    verdicts = [line.split("\t")[:2] for line in done.stdout.splitlines()]
    assert len(verdicts) == 10, done.stderr
    assert {verdict for _, verdict in verdicts} == {"ok"}, done.stdout


@pytest.fixture
async def chats(tmp_path: Path) -> AsyncIterator[Fork]:
    """A server over a model that only chats, and calls tools."""
    async with ScriptedUpstream(models=(MODEL,)) as upstream:
        upstream.otherwise = call_or_answer
        behind = {"OPENAI_API_KEY": "any", "OPENAI_BASE_URL": upstream.base_url}
        async with Fork(tmp_path, env=behind) as server:
            yield server


def runner(program: str) -> str:
    """Return what runs a program; where it is missing, the test is skipped."""
    if program.endswith(".mjs"):
        ready = shutil.which("node") and (PROGRAMS / "node_modules").is_dir()
        how, runs = "npm install --prefix tests/examples/clients", "node"
    elif program == "openai_agents.py":
        ready = AGENTS.exists()
        how, runs = "a virtual environment .clients with openai-agents", str(AGENTS)
    else:
        return sys.executable
    if not ready and not CI:
        pytest.skip(f"needs, once: {how}")
    return runs


@pytest.mark.parametrize("program", STATEFUL)
async def test_clients_of_the_stateful_api(
    chats: Fork, environment: dict[str, str], program: str
) -> None:
    env = {**environment, "OPENAI_BASE_URL": f"{chats.http}/v1"}
    words = runner(program), str(PROGRAMS / program)
    process = await asyncio.create_subprocess_exec(*words, env=env, stdout=PIPE, stderr=PIPE)
    told, complaints = await process.communicate()
    seen = [line.split("\t") for line in told.decode().splitlines()]
    assert [line for line in seen if line[1] != "ok"] == [], complaints.decode()
    assert len(seen) == STATEFUL[program], complaints.decode()
    shown = {name: text for name, _, text in seen}
    # All that was said before was heard, and what the tools said in the third turn.
    assert shown["turns"].startswith("Turn 3: "), shown
