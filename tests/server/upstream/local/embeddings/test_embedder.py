"""Embeddings: the model's own numbers, the queue, OpenAI's shapes, and the extra that is absent."""

from __future__ import annotations

import asyncio
import base64
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types import CreateEmbeddingResponse

from server.upstream.local.embeddings.embedder import (
    LONGEST_QUEUE,
    Embedder,
    EmbedderBusyError,
    NotInstalledError,
)
from server.upstream.local.service import ElizaApi
from tests.server.upstream.local.openai_helpers import (
    WORDS,
    answered,
    client_of,
    eliza,
    needs_extra,
    refused,
    strict,
)

PATH = "/embeddings"
#: The first numbers that the model's card and many pages after it show for this sentence.
EXAMPLE = "This is an example sentence"
PUBLISHED = [0.0676569, 0.0634959, 0.0487131, 0.0793049, 0.0374480, 0.0026528, 0.0393749]


@pytest.fixture(scope="module")
def embedder() -> Iterator[Embedder]:
    """Open one for all tests: the model takes a while to be read."""
    opened = Embedder()
    yield opened
    asyncio.run(opened.close())


@pytest.fixture
def api(embedder: Embedder) -> ElizaApi:
    return eliza(embedder)


def ask(value: Any, **more: Any) -> dict[str, Any]:
    return {"model": "all-MiniLM-L6-v2", "input": value, **more}


async def vectors(api: ElizaApi, value: Any, **more: Any) -> list[list[float]]:
    told = await answered(api, PATH, ask(value, **more))
    answer = strict(CreateEmbeddingResponse, told)
    assert [one.index for one in answer.data] == list(range(len(answer.data)))
    return [one.embedding for one in answer.data]


def likeness(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


@needs_extra
class TestModel:
    async def test_the_published_numbers(self, api: ElizaApi) -> None:
        [vector] = await vectors(api, EXAMPLE)
        assert vector[: len(PUBLISHED)] == pytest.approx(PUBLISHED, abs=2e-6)
        assert len(vector) == 384
        assert likeness(vector, vector) == pytest.approx(1, abs=1e-5)

    async def test_likeness_of_meaning(self, api: ElizaApi) -> None:
        weather, sunny, drove = await vectors(
            api,
            ["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."],
        )
        assert likeness(weather, sunny) == pytest.approx(0.6660, abs=1e-4)
        assert likeness(weather, drove) == pytest.approx(0.1046, abs=1e-4)
        assert likeness(sunny, drove) == pytest.approx(0.1411, abs=1e-4)

    async def test_company_changes_nothing(self, api: ElizaApi) -> None:
        texts = [EXAMPLE, "no", "word " * 300, "é 中"]
        together = await vectors(api, texts)
        for text, vector in zip(texts, together, strict=True):
            assert (await vectors(api, text))[0] == pytest.approx(vector, abs=1e-5)

    async def test_long_texts_are_read_to_their_end(self, api: ElizaApi) -> None:
        rain, both, cars = await vectors(
            api,
            ["rain " * 400, "rain " * 400 + "cars and engines. " * 130, "cars and engines. " * 130],
        )
        assert likeness(both, cars) > likeness(rain, cars) + 0.1

    async def test_one_pass_over_many_at_once(self, api: ElizaApi) -> None:
        asked = [f"sentence number {number}" for number in range(12)]
        alone = await asyncio.gather(*(vectors(api, text) for text in asked))
        together = await vectors(api, asked)
        for [vector], same in zip(alone, together, strict=True):
            assert vector == pytest.approx(same, abs=1e-5)


@needs_extra
class TestShapes:
    async def test_the_model_is_echoed_and_the_tokens_counted(self, api: ElizaApi) -> None:
        told = await answered(api, PATH, ask(["Hello there", "you"], model="ada"))
        assert told["model"] == "ada"
        assert told["object"] == "list"
        count = WORDS.count("Hello there") + WORDS.count("you")
        assert told["usage"] == {"prompt_tokens": count, "total_tokens": count}

    async def test_tokens_and_lists_of_them(self, api: ElizaApi) -> None:
        [vector] = await vectors(api, EXAMPLE)
        tokens = WORDS.encode(EXAMPLE)
        assert await vectors(api, tokens) == [vector]
        assert await vectors(api, [tokens]) == [vector]

    async def test_base64(self, api: ElizaApi) -> None:
        [vector] = await vectors(api, EXAMPLE)
        told = await answered(api, PATH, ask(EXAMPLE, encoding_format="base64"))
        data = base64.b64decode(told["data"][0]["embedding"])
        assert list(struct.unpack("<384f", data)) == pytest.approx(vector, rel=1e-6)

    async def test_dimensions(self, api: ElizaApi) -> None:
        [vector] = await vectors(api, EXAMPLE)
        [short] = await vectors(api, EXAMPLE, dimensions=16)
        length = likeness(vector[:16], vector[:16]) ** 0.5
        assert short == pytest.approx([number / length for number in vector[:16]], abs=1e-5)

    @pytest.mark.parametrize(
        ("model", "size"),
        [
            ("text-embedding-3-small", 1_536),
            ("text-embedding-ada-002", 1_536),
            ("text-embedding-3-large", 3_072),
        ],
    )
    async def test_as_many_numbers_as_openais_models_have(
        self, api: ElizaApi, model: str, size: int
    ) -> None:
        texts = [EXAMPLE, "Hello"]
        own, long = await vectors(api, texts), await vectors(api, texts, model=model)
        for short, filled in zip(own, long, strict=True):
            assert filled == [*short, *[0.0] * (size - 384)]
        assert likeness(*long) == pytest.approx(likeness(*own))
        asked = ask(EXAMPLE, model=model, encoding_format="base64")
        told = await answered(api, PATH, asked)
        assert len(base64.b64decode(told["data"][0]["embedding"])) == 4 * size
        for wanted in (16, 384, 1_024, size):
            [vector] = await vectors(api, EXAMPLE, model=model, dimensions=wanted)
            assert len(vector) == wanted
            assert likeness(vector, vector) == pytest.approx(1, abs=1e-5)
        _, error = await refused(api, PATH, ask("a", model=model, dimensions=size + 1))
        assert error["code"] == "integer_above_max_value"

    async def test_openais_own_client(self, api: ElizaApi) -> None:
        async with client_of(api) as client:
            answer = await client.embeddings.create(model="text-embedding-3-small", input=EXAMPLE)
        assert answer.data[0].embedding[: len(PUBLISHED)] == pytest.approx(PUBLISHED, abs=2e-6)


@needs_extra
@pytest.mark.parametrize(
    ("more", "param", "code"),
    [
        ({"input": None}, "input", "missing_required_parameter"),
        ({"input": ""}, "input", None),
        ({"input": ["a", ""]}, "input", None),
        ({"input": []}, "input", "empty_array"),
        ({"input": [[]]}, "input[0]", "empty_array"),
        ({"input": 5}, "input", "invalid_type"),
        ({"input": ["a", 5]}, "input[1]", "invalid_type"),
        ({"input": [99_999_999]}, "input", "invalid_value"),
        ({"input": ["a"] * 2_049}, "input", "array_above_max_length"),
        ({"input": ["word " * 8_000] * 40}, "input", "max_tokens_per_request"),
        ({"model": None}, "model", "missing_required_parameter"),
        ({"dimensions": 385}, "dimensions", "integer_above_max_value"),
        ({"dimensions": 0}, "dimensions", "integer_below_min_value"),
        ({"encoding_format": "hex"}, "encoding_format", "invalid_value"),
    ],
)
async def test_refusals(api: ElizaApi, more: dict[str, Any], param: str, code: str | None) -> None:
    status, error = await refused(api, PATH, {**ask("Hello"), **more})
    assert (status, error["param"], error["code"]) == (400, param, code)


@needs_extra
async def test_an_input_that_is_too_long_says_so(api: ElizaApi) -> None:
    _, error = await refused(api, PATH, ask("word " * 8_200))
    assert error["message"].startswith("This model's maximum context length is 8192 tokens")


@needs_extra
async def test_too_many_waiting_are_told_to_come_again(embedder: Embedder) -> None:
    asking = [asyncio.create_task(embedder.embed(["a"])) for _ in range(LONGEST_QUEUE)]
    await asyncio.sleep(0)
    with pytest.raises(EmbedderBusyError):
        await embedder.embed(["b"])
    status, error = await refused(eliza(embedder), PATH, ask("b"))
    assert (status, error["code"]) == (429, "rate_limit_exceeded")
    await asyncio.gather(*asking)


@needs_extra
async def test_an_abandoned_request_gives_its_place_up(embedder: Embedder) -> None:
    asking = asyncio.create_task(embedder.embed(["word " * 200] * 200))
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert (await embedder.embed(["a"])).shape == (1, 384)


class TestWithoutTheExtra:
    @pytest.mark.parametrize("embedder", [None, Embedder(("there_is_no_such_package",))])
    @pytest.mark.parametrize("path", [PATH, "/moderations"])
    async def test_the_error_names_the_command(self, embedder: Embedder | None, path: str) -> None:
        status, error = await refused(eliza(embedder), path, ask("Hello"))
        assert (status, error["code"]) == (404, "embeddings_not_installed")
        assert "pip install 'trialogue[embeddings]'" in error["message"]
        assert "requirements-embeddings.lock" in error["message"]

    async def test_openais_client_does_not_try_again(self) -> None:
        async with client_of(eliza(None)) as client:
            with pytest.raises(openai.NotFoundError, match="trialogue"):
                await client.embeddings.create(model="m", input="Hello")

    async def test_the_embedder_says_so(self) -> None:
        embedder = Embedder(("there_is_no_such_package",))
        assert not embedder.installed
        with pytest.raises(NotInstalledError):
            await embedder.embed(["a"])
        await embedder.close()


@needs_extra
def test_files_that_are_not_the_published_ones_are_refused(tmp_path: Path) -> None:
    from server.upstream.local.embeddings.minilm import MiniLM, ModelFileError

    with pytest.raises(ModelFileError, match=r"cannot read the model's file vocab\.txt"):
        MiniLM(tmp_path)
    (tmp_path / "vocab.txt").write_text("[PAD]\n")
    with pytest.raises(ModelFileError, match=r"vocab\.txt is damaged"):
        MiniLM(tmp_path)
