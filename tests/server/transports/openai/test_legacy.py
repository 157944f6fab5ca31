"""Routes that OpenAI has given up, and text-generation-webui's logits."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from openai.types.chat import ChatCompletion

from tests.server.transports.openai.completions.chat_only import CHAT_ONLY, chat, checked
from tests.server.transports.openai.openai_client import (
    MESSAGES,
    Pair,
    Served,
    error_of,
    member,
    passage,
    serving,
)
from tests.support.upstream_script import MODEL, document, fail
from tests.support.upstream_server import ScriptedUpstream


async def post(served: Served, path: str, **body: Any) -> Any:
    response = await served.client.post(path, json=body)
    assert response.status_code == 200, response.text
    return json.loads(response.content)


class TestEngines:
    async def test_they_are_the_models(self, pair: Pair) -> None:
        served, _ = pair
        found = (await served.client.get("/v1/engines")).json()
        engine = {"id": MODEL, "object": "engine", "owner": "test", "ready": True}
        assert found["object"] == "list"
        assert found["data"][0] == engine
        assert (await served.client.get(f"/v1/engines/{MODEL}")).json() == engine

    async def test_one_completes(self, pair: Pair) -> None:
        served, upstream = pair
        made = await post(served, "/v1/engines/davinci-002/completions", prompt="Once")
        assert made["choices"][0]["text"] == "You said: Once"
        assert upstream.requests[0].path == "/v1/completions"
        assert upstream.requests[0].body["model"] == "davinci-002"

    async def test_one_chats_with_the_model_of_its_path(self, pair: Pair) -> None:
        served, upstream = pair
        path = "/v1/engines/org/m:1/chat/completions"
        made = await post(served, path, messages=MESSAGES)
        ChatCompletion.model_validate(made, strict=True)
        assert made["choices"][0]["message"]["content"] == "You said: Hello"
        assert upstream.requests[0].path == "/v1/chat/completions"
        assert upstream.requests[0].body == {"model": "org/m:1", "messages": MESSAGES}
        await post(served, path, messages=MESSAGES, model=MODEL)
        assert upstream.requests[1].body["model"] == MODEL

    async def test_one_whose_name_has_slashes_completes(self, pair: Pair) -> None:
        served, upstream = pair
        await post(served, "/v1/engines/org/chat/m/completions", prompt="Once")
        assert upstream.requests[0].body["model"] == "org/chat/m"

    async def test_one_that_no_list_has_is_the_upstreams_to_know(self, pair: Pair) -> None:
        served, upstream = pair
        error_of(await served.client.get("/v1/engines/org/nope"), 404, "model_not_found")
        assert upstream.requests[-1].path == "/v1/models/org%2Fnope"

    async def test_one_that_is_listed_under_another_name_is_found(self, tmp_path: Path) -> None:
        async with (
            ScriptedUpstream(models=("org%2Fm",)) as upstream,
            serving(tmp_path, [member(passage(upstream))]) as served,
        ):
            found = (await served.client.get("/v1/engines/org/m")).json()
        assert found == {"id": "org/m", "object": "engine", "owner": "test", "ready": True}

    async def test_none_is_ready_where_nobody_can_be_reached(self, pair: Pair) -> None:
        served, upstream = pair
        upstream.refuse()
        error_of(await served.client.get("/v1/engines/nope"), 502)

    async def test_one_embeds(self, pair: Pair) -> None:
        served, upstream = pair
        upstream.script(document({"object": "list", "data": []}))
        path = "/v1/engines/org/text-embedding-ada-002/embeddings"
        await post(served, path, input=[[1, 2], [3]])
        assert upstream.requests[0].path == "/v1/embeddings"
        assert upstream.requests[0].body == {
            "model": "org/text-embedding-ada-002",
            "input": [[1, 2], [3]],
        }

    async def test_one_generates(self, pair: Pair) -> None:
        served, upstream = pair
        made = await post(served, "/v1/engines/davinci-002/generate", context="Once", length=5)
        assert made["data"] == made["choices"]
        assert upstream.requests[0].body["max_tokens"] == 5

    async def test_the_oldest_path_has_a_model_by_default(self, pair: Pair) -> None:
        served, upstream = pair
        checked(json.dumps(await post(served, "/v1/text_completion", prompt="Once")).encode())
        assert upstream.requests[0].body["model"] == MODEL


class TestEdits:
    async def test_a_text_is_edited_by_chat(self, pair: Pair) -> None:
        served, upstream = pair
        upstream.script(chat("one", "two"))
        made = await post(served, "/v1/edits", model="m", input="oen", instruction="spell", n=2)
        assert made["object"] == "edit"
        assert made["choices"] == [{"index": 0, "text": "one"}, {"index": 1, "text": "two"}]
        assert set(made["usage"]) == {"prompt_tokens", "completion_tokens", "total_tokens"}
        asked = upstream.requests[0].body
        assert asked["n"] == 2
        assert "oen" in asked["messages"][1]["content"]

    async def test_what_to_do_must_be_said(self, pair: Pair) -> None:
        served, _ = pair
        response = await served.client.post("/v1/edits", json={"input": "x"})
        error_of(response, 400, "missing_required_parameter")


def probable(top: dict[str, float] | None, text: str = "a") -> Any:
    logprobs = None if top is None else {"tokens": [text], "top_logprobs": [top]}
    return document({"choices": [{"text": text, "logprobs": logprobs}]})


class TestLogits:
    async def test_they_are_the_probabilities_of_the_next_token(self, pair: Pair) -> None:
        served, upstream = pair
        upstream.script(probable({"b": math.log(0.2), "a": math.log(0.8)}))
        made = await post(served, "/v1/internal/logits", prompt="Once", top_logits=2)
        assert list(made["logits"]) == ["a", "b"]
        assert made["logits"]["a"] == pytest.approx(0.8)
        asked = upstream.requests[0].body
        assert (asked["max_tokens"], asked["logprobs"], asked["model"]) == (1, 2, MODEL)

    async def test_as_many_are_asked_for_as_there_are(self, pair: Pair) -> None:
        served, upstream = pair
        upstream.script(fail(400, "logprobs: at most 5"), probable({"a": 0.0}))
        await post(served, "/v1/internal/logits", prompt="Once", model="davinci-002")
        assert [request.body["logprobs"] for request in upstream.requests] == [20, 5]

    async def test_chat_has_them_too(self, pair: Pair) -> None:
        served, upstream = pair
        likely = {"token": "a", "logprob": 0.0, "bytes": None}
        told = {"content": [{**likely, "top_logprobs": [likely]}]}
        upstream.script(CHAT_ONLY, chat("a", logprobs=told))
        made = await post(served, "/v1/internal/logits", prompt="Once")
        assert made == {"logits": {"a": 1.0}}

    @pytest.mark.parametrize("untold", ["", "\ufffd"], ids=["the end", "a part of a letter"])
    async def test_a_token_of_which_nothing_is_told_is_drawn_anew(
        self, pair: Pair, untold: str
    ) -> None:
        served, upstream = pair
        upstream.script(probable(None, untold), probable({"a": 0.0}))
        made = await post(served, "/v1/internal/logits", prompt="Once")
        assert made == {"logits": {"a": 1.0}}
        assert [request.body["seed"] for request in upstream.requests] == [0, 1]

    async def test_where_there_are_none_that_is_told(self, pair: Pair) -> None:
        served, upstream = pair
        upstream.script(probable(None))
        response = await served.client.post("/v1/internal/logits", json={"prompt": "Once"})
        error_of(response, 400, "logprobs_unavailable")

    async def test_a_refusal_is_passed_on(self, pair: Pair) -> None:
        served, upstream = pair
        upstream.script(fail(401, "no key"))
        response = await served.client.post("/v1/internal/logits", json={"prompt": "Once"})
        error_of(response, 401)
