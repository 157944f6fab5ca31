"""`/v1` in /openapi.json: every route, and examples that are answered as they are described."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from jsonschema import Draft202012Validator

from server.transports.openai.described import OPERATIONS, TAGS, description
from tests.server.transports.openai.openai_client import Pair
from tests.support.live import Fork

pytestmark = pytest.mark.asyncio(loop_scope="module")
#: Routes that are the upstream's, or another's spelling: its own description has them.
LEFT_OUT = re.compile(r"/v1/deployments/.*|/v1/chat/completions/input_tokens")
ASKED = sorted(
    (path, method) for path, told in OPERATIONS.items() for method, one in told.items() if one.asks
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[httpx2.AsyncClient]:
    async with (
        Fork(tmp_path_factory.mktemp("server")) as server,
        httpx2.AsyncClient(base_url=server.http, trust_env=False, timeout=60) as client,
    ):
        yield client


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def described(client: httpx2.AsyncClient) -> Any:
    return (await client.get("/openapi.json")).json()


async def there(client: httpx2.AsyncClient, path: str) -> str:
    """Return a path with what is there to be named in it."""

    async def made(of: str, **body: Any) -> str:
        return str((await client.post(of, json={"model": "eliza", **body})).json()["id"])

    names: dict[str, str] = {"id": "gpt-4o-mini"}
    said = [{"role": "user", "content": "Hello"}]
    if path.startswith("/v1/chat/completions/{"):
        names["id"] = await made("/v1/chat/completions", store=True, messages=said)
    if path.startswith("/v1/responses/{"):
        names["id"] = await made("/v1/responses", input="Hello", background=True)
    if path.startswith("/v1/conversations/{"):
        made_ = (await client.post("/v1/conversations", json={"items": said})).json()["id"]
        listed = (await client.get(f"/v1/conversations/{made_}/items")).json()
        names |= {"id": made_, "item": listed["first_id"]}
    return path.format(**names)


@pytest.mark.asyncio(loop_scope="function")
async def test_every_route_is_described_and_no_other(pair: Pair) -> None:
    served = {
        (route.path, method.lower())
        for route in pair[0].facade.routes
        for method in route.endpoints
        if not LEFT_OUT.fullmatch(route.path)
    }
    assert served == {(path, method) for path, told in OPERATIONS.items() for method in told}


async def test_it_stands_beside_what_rest_says(described: Any) -> None:
    assert {"/ask/{conversation_id}", *OPERATIONS} <= described["paths"].keys()
    tags = {one["name"] for one in described["tags"]}
    used = {
        tag
        for methods in described["paths"].values()
        for one in methods.values()
        for tag in one["tags"]
    }
    assert set(TAGS) <= tags
    assert used == tags
    names = [one["operationId"] for m in described["paths"].values() for one in m.values()]
    assert len(set(names)) == len(names)


async def test_every_reference_leads_somewhere() -> None:
    told = description()
    named = set(re.findall(r"'#/components/schemas/(\w+)'", str(told)))
    assert named == set(told["schemas"])


@pytest.mark.parametrize(("path", "method"), ASKED)
async def test_an_example_is_taken_and_answered_as_described(
    client: httpx2.AsyncClient, described: Any, path: str, method: str
) -> None:
    operation = described["paths"][path][method]
    body = operation["requestBody"]["content"]["application/json"]
    Draft202012Validator(body["schema"]).validate(body["example"])
    url = await there(client, path)
    response = await client.request(method, url, json=body["example"])
    if path == "/v1/internal/logits":  # Eliza has no probabilities
        assert response.json()["error"]["code"] == "logprobs_unavailable"
    else:
        assert response.status_code == 200, response.text
    answer = operation["responses"][str(response.status_code)]["content"]["application/json"]
    schema = {**answer["schema"], "components": described["components"]}
    Draft202012Validator(schema).validate(response.json())
    for name in body["example"]:
        less = {one: value for one, value in body["example"].items() if one != name}
        refused = (await client.request(method, url, json=less)).status_code == 400
        assert refused == (name in body["schema"]["required"]) or "logits" in path, name


@pytest.mark.parametrize("path", sorted(path for path, told in OPERATIONS.items() if "get" in told))
async def test_what_is_read_is_as_described(
    client: httpx2.AsyncClient, described: Any, path: str
) -> None:
    response = await client.get(await there(client, path))
    assert response.status_code == 200
    answer = described["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]
    Draft202012Validator(answer["schema"]).validate(response.json())
