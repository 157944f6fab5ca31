"""The model that nobody chose: what the start says of it, and of an upstream that is away."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import httpx2
import pytest

from server.app.upstreams import DEFAULT_MODEL
from tests.support.live import Process
from tests.support.upstream_script import document
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


@pytest.mark.parametrize(
    ("told", "window"),
    [({}, None), ({"context_length": "4096"}, None), ({"context_length": 4096}, 4096)],
)
async def test_a_start_and_a_preview_say_where_nobody_tells_a_window(
    tmp_path: Path, told: Mapping[str, object], window: int | None
) -> None:
    async with ScriptedUpstream(models=("llama",)) as upstream:
        upstream.listing = document({"object": "list", "data": [{"id": "llama", **told}]})
        env = {"OPENAI_BASE_URL": upstream.base_url}
        async with Process(tmp_path, env=env) as server, httpx2.AsyncClient() as client:
            warned = "nobody tells its context window: 128,000 tokens are taken; set context_window"
            assert (warned in server.output) is (window is None)
            asked = {"prompt": "Hello"}
            turn = (await client.post(f"{server.http}/ask/c", json=asked)).json()
            url = f"{server.http}/conversations/c/context"
            preview = (await client.post(url, json=asked)).json()
    for context in (turn["context"], preview):
        assert context["window"] == (window or 128_000)
        assert context["window_known"] is (window is not None)
        assert context["counted"] in ("guessed", "learnt")


async def test_a_start_says_why_an_upstream_is_away_and_which_variable_is_misspelt(
    tmp_path: Path,
) -> None:
    async with ScriptedUpstream() as upstream:
        env = {"OPENAI_BASE_URL": upstream.base_url, "TRIALOGUE_MODLE": "x"}
    async with Process(tmp_path, env=env) as server:
        assert "nothing listens there" in server.log
        assert '"variable": "TRIALOGUE_MODLE", "nearest": "TRIALOGUE_MODEL"' in server.log
