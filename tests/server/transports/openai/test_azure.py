"""OpenAI's client for Azure, which has paths of its own, works as it comes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import openai
import pytest

from server.transports.openai.azure import azure_streams_past, under_v1
from tests.server.transports.openai.openai_client import MESSAGES, Pair, error_of, passing
from tests.support.access import locked
from tests.support.upstream_script import MODEL, document, say

VERSION = "2024-10-21"


def azure(pair: Pair, deployment: str | None = None) -> openai.AsyncAzureOpenAI:
    return openai.AsyncAzureOpenAI(
        api_key="a",
        api_version=VERSION,
        azure_endpoint=f"http://127.0.0.1:{pair[0].port}",
        max_retries=0,
        http_client=httpx2.AsyncClient(verify=False),
        azure_deployment=deployment,
    )


@pytest.fixture
async def client(pair: Pair) -> AsyncIterator[openai.AsyncAzureOpenAI]:
    async with azure(pair) as opened:
        yield opened


async def test_chats(pair: Pair, client: openai.AsyncAzureOpenAI) -> None:
    _, upstream = pair
    upstream.script(say("Hi"))
    made = await client.chat.completions.create(model=MODEL, messages=MESSAGES)  # type: ignore[arg-type]
    assert made.choices[0].message.content == "Hi"
    (request,) = upstream.requests
    assert (request.path, request.body["model"]) == ("/v1/chat/completions", MODEL)
    assert "api-key" not in request.headers


async def test_chats_that_are_streamed(pair: Pair, client: openai.AsyncAzureOpenAI) -> None:
    pair[1].script(say("He", "y"))
    async with client.chat.completions.stream(model=MODEL, messages=MESSAGES) as stream:  # type: ignore[arg-type]
        assert (await stream.get_final_completion()).choices[0].message.content == "Hey"


async def test_a_deployment_is_the_model_whatever_the_body_says(pair: Pair) -> None:
    _, upstream = pair
    async with azure(pair, "mine") as client:
        for number, create in enumerate(
            (
                client.chat.completions.create(model="other", messages=MESSAGES),  # type: ignore[arg-type]
                client.completions.create(model="other", prompt="Once"),
            )
        ):
            await create
            assert upstream.requests[number].body["model"] == "mine"


async def test_completions_and_embeddings(pair: Pair, client: openai.AsyncAzureOpenAI) -> None:
    _, upstream = pair
    upstream.script(say("upon"))
    text = await client.completions.create(model="davinci-002", prompt="Once")
    assert text.choices[0].text == "upon"
    vector = {"object": "embedding", "index": 0, "embedding": [0.5]}
    upstream.script(document({"object": "list", "data": [vector], "model": "m", "usage": {}}))
    found = await client.embeddings.create(model="m", input="x", encoding_format="float")
    assert found.data[0].embedding == [0.5]
    paths = [request.path for request in upstream.requests]
    assert paths == ["/v1/completions", "/v1/embeddings"]


async def test_what_has_no_deployment(pair: Pair, client: openai.AsyncAzureOpenAI) -> None:
    listed = [model.id async for model in client.models.list()]
    assert listed == [MODEL, "davinci-002"]
    pair[1].script(document({"created": 1, "data": [{"url": "x"}]}))
    await client.images.generate(model=MODEL, prompt="a cat")
    assert pair[1].requests[-1].path == "/v1/images/generations"


async def test_the_paths_of_azures_v1(pair: Pair) -> None:
    served, upstream = pair
    upstream.script(say("Hi"))
    async with openai.AsyncOpenAI(
        api_key="a",
        base_url=f"http://127.0.0.1:{served.port}/openai/v1/",
        default_query={"api-version": "preview"},
        http_client=httpx2.AsyncClient(verify=False),
    ) as client:
        made = await client.chat.completions.create(model=MODEL, messages=MESSAGES)  # type: ignore[arg-type]
    assert made.choices[0].message.content == "Hi"


async def test_its_header_is_the_key(tmp_path: Path) -> None:
    async with passing(tmp_path, locked("ann:secret-of-ann")) as (served, _):
        path = f"/openai/deployments/{MODEL}/chat/completions?api-version={VERSION}"
        body = {"messages": MESSAGES}
        answers = {
            key: await served.client.post(path, json=body, headers={"api-key": key})
            for key in ("secret-of-ann", "wrong")
        }
    assert answers["secret-of-ann"].status_code == 200
    error_of(answers["wrong"], 401, "invalid_api_key")


@pytest.mark.parametrize(
    ("path", "theirs"),
    [
        ("/openai/deployments/m/chat/completions", "/v1/deployments/m/chat/completions"),
        ("/openai/deployments/org/m/embeddings", "/v1/deployments/org/m/embeddings"),
        ("//openai//deployments//m//completions/"[1:], "/v1/deployments/m/completions/"),
        ("/openai/deployments/m/audio/speech", "/v1/audio/speech"),
        ("/openai/files", "/v1/files"),
        ("/openai/v1/responses", "/v1/responses"),
        ("/openai/v1", "/v1"),
        ("/openai", "/v1"),
        ("/openai/v10/x", "/v1/v10/x"),
    ],
)
def test_paths(path: str, theirs: str) -> None:
    assert under_v1(path) == theirs


def test_what_is_read_whole() -> None:
    assert not azure_streams_past("/openai/deployments/m/chat/completions")
    assert azure_streams_past("/openai/files")


async def test_a_path_that_is_written_in_numbers(pair: Pair) -> None:
    answer = await pair[0].client.post("/%6Fpenai/deployments/m/%69mages/edits", json={})
    assert pair[1].requests[-1].path == "/v1/images/edits", answer.text


async def test_the_page_of_the_description_is_not_azures(pair: Pair) -> None:
    assert (await pair[0].client.get("/openapi.json")).json()["openapi"]
