"""Conversations and messages over REST, what lies beside them, and how the server is."""

from __future__ import annotations

from typing import Any

import pytest

from server.transports.rest.schemas import (
    ConversationShape,
    HitShape,
    ListShape,
    PreviewShape,
    TurnShape,
)
from tests.server.transports.rest.http_client import (
    Client,
    Served,
    ask,
    asking,
    contents,
    exact,
    messages,
    refused,
)
from tests.support.fakes import Puppet


class TestConversations:
    async def test_one_is_made_read_changed_and_deleted(self, client: Client) -> None:
        given = {"title": "T", "system_prompt": "S", "model": "m", "metadata": {"a": [1, None]}}
        made = await client.post("/conversations", json={"id": "c1", **given})
        assert made.status_code == 201
        body = exact(ConversationShape, made.json())
        assert {name: body[name] for name in given} == given
        assert (body["id"], body["message_count"], body["head_id"]) == ("c1", 0, None)
        assert (await client.get("/conversations/c1")).json() == body
        changes: dict[str, Any] = {
            "title": "U",
            "system_prompt": None,
            "model": None,
            "metadata": {},
        }
        changed = await client.patch("/conversations/c1", json=changes)
        assert {name: exact(ConversationShape, changed.json())[name] for name in changes} == changes
        deleted = await client.delete("/conversations/c1")
        assert (deleted.status_code, deleted.content) == (204, b"")
        for method in ("GET", "DELETE"):
            refused(await client.request(method, "/conversations/c1"), 404, "not_found")

    @pytest.mark.parametrize("body", [None, {}, {"id": "new"}, {"id": None, "title": None}])
    async def test_nothing_has_to_be_said_of_it(self, client: Client, body: Any) -> None:
        made = (
            await client.post("/conversations", json=body)
            if body is not None
            else (await client.post("/conversations"))
        )
        assert made.status_code == 201, made.text
        assert made.json()["id"].startswith("conv_")

    async def test_an_id_is_taken_once(self, client: Client) -> None:
        await client.post("/conversations", json={"id": "c1"})
        refused(await client.post("/conversations", json={"id": "c1"}), 409, "already_exists")

    async def test_they_are_paged_newest_first(self, client: Client) -> None:
        for name in ("a", "b", "c", "d", "e"):
            await client.post("/conversations", json={"id": name, "title": f"Title {name}"})
        seen: list[Any] = []
        after: dict[str, str] = {}
        for _ in range(3):
            response = await client.get("/conversations", params={"limit": 2, **after})
            page = exact(ListShape[ConversationShape], response.json())
            ids = [one["id"] for one in page["data"]]
            assert (page["first_id"], page["last_id"]) == (ids[0], ids[-1])
            seen.append((ids, page["has_more"]))
            after = {"after": page["last_id"]}
        assert seen == [(["e", "d"], True), (["c", "b"], True), (["a"], False)]
        nothing = (await client.get("/conversations", params={"q": "nowhere"})).json()
        empty: dict[str, Any] = {"data": [], "first_id": None, "last_id": None, "has_more": False}
        assert nothing == {"object": "list", **empty}

    @pytest.mark.parametrize("q", ["Winter", "wint", "winter b", "ÄPFEL"])
    async def test_they_are_found_by_their_titles(self, client: Client, q: str) -> None:
        for name, title in (("a", "Winter a"), ("b", "Winter b: äpfel"), ("c", "Summer b")):
            await client.post("/conversations", json={"id": name, "title": title})
        found = (await client.get("/conversations", params={"q": q})).json()
        right = [
            one["id"]
            for one in found["data"]
            if all(w in one["title"].lower() for w in q.lower().split())
        ]
        assert right == [one["id"] for one in found["data"]] != []

    async def test_a_title_is_the_start_of_the_first_question(
        self, client: Client, upstream: Puppet
    ) -> None:
        upstream.answer("One").answer("Two")
        await ask(client, prompt="Why is the sky blue?")
        await ask(client, prompt="And the sea?")
        found = exact(ConversationShape, (await client.get("/conversations/c1")).json())
        assert (found["title"], found["message_count"]) == ("Why is the sky blue?", 4)

    async def test_a_title_that_was_cleared_stays_so(
        self, client: Client, upstream: Puppet
    ) -> None:
        upstream.answer("One").answer("Two")
        await ask(client, prompt="Why is the sky blue?")
        await client.patch("/conversations/c1", json={"title": ""})
        await ask(client, prompt="And the sea?")
        assert (await client.get("/conversations/c1")).json()["title"] == ""

    async def test_a_first_question_without_words_gives_none(
        self, client: Client, upstream: Puppet
    ) -> None:
        upstream.answer("One").answer("Two")
        image = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
        await ask(client, prompt=None, content=[image])
        await ask(client, prompt="And this?")
        assert (await client.get("/conversations/c1")).json()["title"] == ""

    async def test_deleting_one_ends_what_runs_in_it(
        self, client: Client, upstream: Puppet
    ) -> None:
        task = await asking(client, upstream)
        assert (await client.delete("/conversations/c1")).status_code == 204
        assert (await task)["status"] == "cancelled"
        refused(await client.get("/conversations/c1"), 404, "not_found")

    async def test_its_head_can_be_moved(self, client: Client, upstream: Puppet) -> None:
        upstream.answer("One").answer("Two")
        first = await ask(client, prompt="A")
        await ask(client, prompt="B")
        await client.patch("/conversations/c1", json={"head_id": first["answer_id"]})
        assert contents(await messages(client)) == ["A", "One"]
        nowhere = await client.patch("/conversations/c1", json={"head_id": "msg_x"})
        refused(nowhere, 404, "not_found")


class TestMessages:
    async def test_a_branch_is_paged_from_its_end(self, client: Client, upstream: Puppet) -> None:
        for number in range(3):
            upstream.answer(f"A{number}")
            await ask(client, prompt=f"Q{number}")
        last = await messages(client, limit=4)
        assert (contents(last), last["has_more"]) == (["Q1", "A1", "Q2", "A2"], True)
        ids = [one["id"] for one in last["data"]]
        assert (last["first_id"], last["last_id"]) == (ids[0], ids[-1])
        first = await messages(client, before=last["first_id"], limit=4)
        assert (contents(first), first["has_more"]) == (["Q0", "A0"], False)
        branch = await messages(client, leaf=first["data"][0]["id"])
        assert contents(branch) == ["Q0"]
        for wrong in ({"leaf": "msg_x"}, {"before": "msg_x"}):
            response = await client.get("/conversations/c1/messages", params=wrong)
            refused(response, 404, "not_found")

    async def test_another_answer_is_a_sibling(self, client: Client, upstream: Puppet) -> None:
        upstream.answer("One").answer("Two").answer("Three")
        first = await ask(client)
        again = await client.post("/conversations/c1/regenerate")
        turn = exact(TurnShape, again.json())
        assert (turn["question_id"], turn["answer"]) == (first["question_id"], "Two")
        assert contents(await messages(client)) == ["Hello", "Two"]
        body = {"message_id": first["answer_id"], "temperature": 0.5}
        third = (await client.post("/conversations/c1/regenerate", json=body)).json()
        assert upstream.prompts[2].temperature == 0.5
        siblings = (await messages(client))["data"][-1]["sibling_ids"]
        assert siblings == [first["answer_id"], turn["answer_id"], third["answer_id"]]

    async def test_there_must_be_something_to_answer(self, client: Client) -> None:
        await client.post("/conversations", json={"id": "c1"})
        refused(await client.post("/conversations/c1/regenerate"), 400, "invalid_request")
        refused(await client.post("/conversations/c2/regenerate"), 404, "not_found")


class TestBeside:
    async def test_what_would_be_sent_is_shown_and_asks_nobody(
        self, client: Client, upstream: Puppet
    ) -> None:
        upstream.answer("One")
        await ask(client, system_prompt="Be brief.")
        response = await client.post("/conversations/c1/context", json={"prompt": "And now?"})
        shown = PreviewShape.model_validate(response.json())
        assert [line.role for line in shown.messages] == ["system", "user", "assistant", "user"]
        assert shown.remaining == shown.budget - shown.prompt_tokens
        assert len(upstream.prompts) == 1

    async def test_messages_are_found_by_their_words(
        self, client: Client, upstream: Puppet
    ) -> None:
        upstream.answer("Rayleigh scattering")
        await ask(client, prompt="Why is the sky blue?")
        response = await client.get("/search", params={"q": "rayleigh"})
        (hit,) = ListShape[HitShape].model_validate(response.json()).data
        assert hit.message is not None
        assert (hit.conversation_id, hit.message.content) == ("c1", "Rayleigh scattering")

    @pytest.mark.parametrize("path", ["/healthz", "/health", "/readyz"])
    async def test_it_says_how_it_is(self, client: Client, path: str) -> None:
        response = await client.get(path)
        state = "ready" if path == "/readyz" else "ok"
        assert (response.status_code, response.json()) == (200, {"status": state})

    async def test_while_draining_it_is_alive_and_not_ready(
        self, served: Served, client: Client
    ) -> None:
        await served.conversations.drain(0)
        assert (await client.get("/healthz")).status_code == 200
        for response in (
            await client.get("/readyz"),
            await client.post("/ask/c1", json={"prompt": "Hello"}),
            await client.post("/conversations"),
        ):
            refused(response, 503, "draining")
            assert int(response.headers["retry-after"]) >= 1

    async def test_metrics_are_prometheus_text(self, client: Client, upstream: Puppet) -> None:
        upstream.answer("One")
        await ask(client)
        response = await client.get("/metrics")
        assert response.headers["content-type"].startswith("text/plain; version=")
        assert 'trialogue_turns_total{model="gpt-4o",status="completed",wire="rest"} 1.0' in (
            response.text
        )
