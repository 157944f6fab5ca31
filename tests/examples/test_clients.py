"""What `bin/try-clients` installs clients for: the list, and the one client that is at hand."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.live import ROOT, Fork

TRY = ROOT / "bin" / "try-clients"
PROGRAMS = ROOT / "tests" / "examples" / "clients"


def test_help_names_every_client() -> None:
    told = subprocess.run((TRY, "--help"), capture_output=True, text=True, check=True).stdout
    for name in ("openai-0.28", "langchain", "llm", "vercel-ai"):
        assert f"\n  {name}\n" in told


def test_every_program_is_there() -> None:
    named = {word for word in TRY.read_text().split() if word.endswith((".py", ".mjs"))}
    named = {word for word in named if "/" not in word}
    there = {path.name for path in PROGRAMS.glob("[!_]*.*") if path.is_file()}
    assert named == there - {"report.py", "report.mjs"}


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
