"""What holds no state and only its upstream can do is handed on, byte for byte; nothing else is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.server.transports.openai.openai_client import HANDED_ON, error_of, passing
from tests.server.transports.openai.responses.stateful import RESPONSES, asked
from tests.support.live import Fork
from tests.support.upstream_script import MODEL, document
from tests.support.upstream_server import ScriptedUpstream

ENCRYPTED = asked(store=False, include=["reasoning.encrypted_content"])
TABLE = """
[[upstreams]]
name = "theirs"
base_url = "{url}"
responses = {responses}
"""


@pytest.mark.parametrize("body", [HANDED_ON, ENCRYPTED])
async def test_a_request_goes_as_it_came(tmp_path: Path, body: dict[str, Any]) -> None:
    raw = json.dumps(body, indent=3).encode()
    async with passing(tmp_path) as (served, upstream):
        upstream.script(document({"id": "resp_1", "output": []}))
        headers = {"content-type": "application/json"}
        answer = await served.client.post(RESPONSES, content=raw, headers=headers)
        assert answer.json() == {"id": "resp_1", "output": []}
        assert (upstream.requests[-1].path, upstream.requests[-1].raw) == (RESPONSES, raw)


@pytest.mark.parametrize(
    "more", [{"store": True}, {"store": None}, {"previous_response_id": "resp_x"}]
)
async def test_what_holds_state_is_ours(tmp_path: Path, more: dict[str, Any]) -> None:
    async with passing(tmp_path) as (served, upstream):
        answer = await served.client.post(RESPONSES, json={**HANDED_ON, "input": "Hi", **more})
        assert answer.status_code in (400, 404)
        assert upstream.requests == []


@pytest.mark.parametrize("responses", [True, False])
async def test_the_settings_say_who_has_it(
    tmp_path: Path, upstream: ScriptedUpstream, responses: bool
) -> None:
    table = TABLE.format(url=upstream.base_url, responses=str(responses).lower())
    (tmp_path / "trialogue.toml").write_text(table)
    upstream.script(document({"id": "resp_1"}))
    async with (
        Fork(tmp_path, env={"TRIALOGUE_MODEL": MODEL}) as server,
        httpx2.AsyncClient(base_url=server.http, timeout=60) as http,
    ):
        answer = await http.post(RESPONSES, json={**HANDED_ON, "input": "Hi"})
        if responses:
            assert answer.json() == {"id": "resp_1"}
        else:
            error_of(answer, 400, "invalid_value")
            assert upstream.requests == []
