"""What /openapi.json says of each operation: names, tags, examples, and refusals that can come."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from jsonschema import Draft202012Validator

from server.transports.rest.operations import OPERATIONS, TAGS
from tests.server.transports.rest.http_client import Served, serving_anew
from tests.support.fakes import Parrot

pytestmark = pytest.mark.asyncio(loop_scope="module")
ASKED = sorted((path, method) for (method, path), one in OPERATIONS.items() if one.asks)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    async with serving_anew(tmp_path_factory.mktemp("operations"), Parrot()) as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def described(served: Served) -> Any:
    return (await served.client.get("/openapi.json")).json()


async def test_every_route_has_its_name_and_tag(described: Any) -> None:
    found = {
        (method, path): (one["operationId"], one["tags"])
        for path, methods in described["paths"].items()
        for method, one in methods.items()
    }
    assert found == {place: (one.id, [one.tag]) for place, one in OPERATIONS.items()}
    assert {one["name"] for one in described["tags"]} == set(TAGS)
    assert {one.tag for one in OPERATIONS.values()} == set(TAGS)


async def test_no_refusal_is_described_that_cannot_come(described: Any) -> None:
    for (method, path), one in OPERATIONS.items():
        told = described["paths"][path][method]["responses"]
        good = {status for status in told if status.startswith("2")}
        assert told.keys() - good == set(map(str, one.refusals)), (method, path)
    assert "HTTPValidationError" not in described["components"]["schemas"]


@pytest.mark.parametrize(("path", "method"), ASKED)
async def test_an_example_is_taken_and_answered_as_described(
    served: Served, described: Any, path: str, method: str
) -> None:
    operation = described["paths"][path][method]
    body = operation["requestBody"]["content"]["application/json"]
    schema = {**body["schema"], "components": described["components"]}
    Draft202012Validator(schema).validate(body["example"])
    if "{conversation_id}" in path:
        await served.client.post("/ask/example", json={"prompt": "Hello"})
    url = path.format(conversation_id="example")
    response = await served.client.request(method, url, json=body["example"])
    assert str(response.status_code) in operation["responses"]
    assert response.status_code in (200, 201), response.text
    answer = operation["responses"][str(response.status_code)]["content"]["application/json"]
    told = {**answer["schema"], "components": described["components"]}
    Draft202012Validator(told).validate(response.json())
