"""The model that nobody chose: what the start says of it, and of an upstream that is away."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.app.upstreams import DEFAULT_MODEL
from tests.support.live import Process
from tests.support.upstream_server import ScriptedUpstream


@pytest.mark.parametrize(
    ("listed", "taken"), [(("llama3", "qwen"), "llama3"), (("qwen", DEFAULT_MODEL), DEFAULT_MODEL)]
)
async def test_a_start_names_a_model_that_is_there(
    tmp_path: Path, listed: tuple[str, ...], taken: str
) -> None:
    async with ScriptedUpstream(models=listed) as upstream:
        env = {"OPENAI_BASE_URL": upstream.base_url}
        async with Process(tmp_path, env=env) as server:
            assert f"model {taken}" in server.output


async def test_a_start_says_why_an_upstream_is_away_and_which_variable_is_misspelt(
    tmp_path: Path,
) -> None:
    async with ScriptedUpstream() as upstream:
        env = {"OPENAI_BASE_URL": upstream.base_url, "TRIALOGUE_MODLE": "x"}
    async with Process(tmp_path, env=env) as server:
        assert "nothing listens there" in server.log
        assert '"variable": "TRIALOGUE_MODLE", "nearest": "TRIALOGUE_MODEL"' in server.log
