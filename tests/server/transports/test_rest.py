"""REST as its callers see it: sockets, core and database are real."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from server.core.conversations import Conversations
from server.transports.shapes import (
    ConversationShape,
    HitShape,
    ListShape,
    MessageShape,
    PreviewShape,
    TurnShape,
)
from server.upstream.port import (
    UpstreamFailedError,
    UpstreamRateLimitedError,
    UpstreamRejectedError,
    UpstreamTimeoutError,
)
from tests.fakes import Puppet
from tests.server.transports.http_server import Served, exact, refused, serving

Client = httpx2.AsyncClient


@pytest.fixture
async def served(conversations: Conversations) -> AsyncIterator[Served]:
    async with serving(conversations) as server:
        yield server


@pytest.fixture
def client(served: Served) -> Client:
    return served.client


async def ask(client: Client, conversation_id: str = "c1", **body: Any) -> dict[str, Any]:
    """Ask, and return the turn when it has ended."""
    response = await client.post(f"/ask/{conversation_id}", json={"prompt": "Hello", **body})
    assert response.status_code == 200, response.text
    return exact(TurnShape, response.json())


async def asking(client: Client, puppet: Puppet, times: int = 1, **body: Any) -> Any:
    """Ask, and return what waits for the answer once the upstream has been asked."""
    task = asyncio.create_task(ask(client, **body))
    await puppet.asked(times)
    return task


async def running(client: Client, conversation_id: str = "c1") -> str:
    """Return the id of the turn that was begun last."""
    messages = (await client.get(f"/conversations/{conversation_id}/messages")).json()["data"]
    return str(messages[-1]["turn_id"])


async def messages(client: Client, conversation_id: str = "c1", **params: Any) -> dict[str, Any]:
    response = await client.get(f"/conversations/{conversation_id}/messages", params=params)
    return exact(ListShape[MessageShape], response.json())


def contents(page: dict[str, Any]) -> list[Any]:
    return [one["content"] for one in page["data"]]


class TestAsking:
    async def test_a_question_is_answered_and_kept(self, client: Client, upstream: Puppet) -> None:
        upstream.answer("Hé", "llo 🎉")
        turn = await ask(client, prompt="Hello")
        assert (turn["conversation_id"], turn["status"]) == ("c1", "completed")
        assert (turn["answer"], turn["finish_reason"], turn["error"]) == ("Héllo 🎉", "stop", None)
        assert turn["created_at"] <= turn["ended_at"]
        assert turn["created_at"].endswith("Z")
        usage = turn["usage"]
        assert usage["prompt_tokens"] + usage["completion_tokens"] == usage["total_tokens"] > 0
        assert turn["context"]["prompt_tokens"] <= turn["context"]["budget"]
        assert turn["context"]["budget"] < turn["context"]["window"]
        question, answer = (await messages(client))["data"]
        assert (question["id"], answer["id"]) == (turn["question_id"], turn["answer_id"])
        assert (question["role"], question["content"]) == ("user", "Hello")
        assert (answer["role"], answer["content"]) == ("assistant", "Héllo 🎉")
        assert (question["parent_id"], answer["parent_id"]) == (None, question["id"])
        assert question["turn_id"] == answer["turn_id"] == turn["id"]

    async def test_new_makes_a_fresh_conversation(self, client: Client, upstream: Puppet) -> None:
        upstream.answer("One").answer("Two")
        first, second = await ask(client, "new"), await ask(client, "new")
        assert first["conversation_id"].startswith("conv_")
        assert first["conversation_id"] < second["conversation_id"]

    async def test_every_field_of_a_question_is_heeded(
        self, client: Client, upstream: Puppet
    ) -> None:
        upstream.answer("Yes")
        sampling = {"max_tokens": 7, "temperature": 0.5, "top_p": 0.25, "seed": -3, "stop": "END"}
        await ask(client, system_prompt="Be brief.", model="eliza-2", **sampling)
        (prompt,) = upstream.prompts
        assert [message.content for message in prompt.messages] == ["Be brief.", "Hello"]
        assert (prompt.model, prompt.max_tokens, prompt.temperature) == ("eliza-2", 7, 0.5)
        assert (prompt.top_p, prompt.seed, prompt.stop) == (0.25, -3, ("END",))

    async def test_content_may_be_parts_in_place_of_a_prompt(
        self, client: Client, upstream: Puppet
    ) -> None:
        upstream.answer("A cat.")
        url = {"url": "https://x.test/a.png", "detail": "auto"}
        parts = [{"type": "text", "text": "What?"}, {"type": "image_url", "image_url": url}]
        response = await client.post("/ask/c1", json={"content": parts})
        assert response.status_code == 200
        assert contents(await messages(client)) == [parts, "A cat."]

    async def test_a_parent_begins_a_branch(self, client: Client, upstream: Puppet) -> None:
        upstream.answer("One").answer("Two").answer("Three")
        first = await ask(client, prompt="A")
        second = await ask(client, prompt="B", parent_id="root")
        assert second["parent_id"] is None
        assert contents(await messages(client)) == ["B", "Two"]
        third = await ask(client, prompt="C", parent_id=first["answer_id"])
        assert third["parent_id"] == first["answer_id"]
        assert contents(await messages(client)) == ["A", "One", "C", "Three"]

    async def test_one_who_leaves_does_not_stop_the_answer(
        self, client: Client, upstream: Puppet
    ) -> None:
        task = await asking(client, upstream)
        upstream.say("Half")
        task.cancel()
        await asyncio.wait([task])
        turn_id = await running(client)
        upstream.say(" and half").finish()
        events = await client.get(f"/turns/{turn_id}/events")
        assert events.text.count("event: turn.ended") == 1
        assert (await client.get(f"/turns/{turn_id}")).json()["answer"] == "Half and half"

    async def test_one_who_leaves_may_have_asked_for_that(
        self, client: Client, upstream: Puppet, caplog: pytest.LogCaptureFixture
    ) -> None:
        task = await asking(client, upstream, on_disconnect="cancel")
        turn_id = await running(client)
        upstream.say("Half")
        task.cancel()
        await asyncio.wait([task])
        ended = (await client.get(f"/turns/{turn_id}/events")).text
        assert '"status":"cancelled"' in ended
        assert upstream.closed == 1
        # A client that leaves is no error of ours.
        assert [one for one in caplog.records if one.levelno >= logging.WARNING] == []


class TestWhileAnotherRuns:
    async def test_it_waits(self, client: Client, upstream: Puppet) -> None:
        first = await asking(client, upstream, prompt="A")
        second = asyncio.create_task(ask(client, prompt="B"))
        upstream.answer("One").answer("Two")
        assert ((await first)["answer"], (await second)["answer"]) == ("One", "Two")
        assert contents(await messages(client)) == ["A", "One", "B", "Two"]

    async def test_it_is_rejected(self, client: Client, upstream: Puppet) -> None:
        first = await asking(client, upstream)
        body = {"prompt": "B", "if_busy": "reject"}
        response = await client.post("/ask/c1", json=body)
        refused(response, 409, "conversation_busy")
        assert int(response.headers["retry-after"]) >= 1
        upstream.answer("One")
        await first
        assert contents(await messages(client)) == ["Hello", "One"]

    async def test_it_interrupts(self, client: Client, upstream: Puppet) -> None:
        first = await asking(client, upstream, prompt="A")
        second = await asking(client, upstream, 2, prompt="B", if_busy="interrupt")
        upstream.answer("", "").answer("Two")
        assert (await first)["status"] == "cancelled"
        assert (await second)["answer"] == "Two"


class TestFailures:
    @pytest.mark.parametrize(
        ("error", "status", "code"),
        [
            (UpstreamFailedError("It broke."), 502, "upstream_failed"),
            (UpstreamTimeoutError("It was slow."), 504, "upstream_timeout"),
            (UpstreamRejectedError("No such model.", status=404), 404, "upstream_rejected"),
            (UpstreamRejectedError("No."), 400, "upstream_rejected"),
            (RuntimeError("a secret of ours"), 500, "internal"),
        ],
    )
    async def test_a_turn_that_fails_is_an_error_and_an_ending(
        self, client: Client, upstream: Puppet, error: Exception, status: int, code: str
    ) -> None:
        upstream.say("Well").fail(error)
        response = await client.post("/ask/c1", json={"prompt": "Hello"})
        told = refused(response, status, code)
        assert "secret" not in response.text
        turn = exact(TurnShape, (await client.get(f"/turns/{told['turn_id']}")).json())
        assert (turn["status"], turn["answer"]) == ("failed", "Well")
        assert turn["error"] == {"code": code, "message": told["message"]}

    async def test_an_upstream_that_is_out_of_breath_says_when_to_come_again(
        self, client: Client, upstream: Puppet
    ) -> None:
        upstream.fail(UpstreamRateLimitedError("Too many.", retry_after=7))
        response = await client.post("/ask/c1", json={"prompt": "Hello"})
        refused(response, 429, "rate_limit_exceeded")
        assert int(response.headers["retry-after"]) >= 1

    async def test_an_answer_that_was_cancelled_is_no_error(
        self, client: Client, upstream: Puppet
    ) -> None:
        task = await asking(client, upstream)
        turn_id = await running(client)
        upstream.say("Half")
        cancelled = await client.post(f"/turns/{turn_id}/cancel")
        assert exact(TurnShape, cancelled.json()) == await task
        assert cancelled.json()["status"] == "cancelled"
        again = await client.post(f"/turns/{turn_id}/cancel")
        assert (again.status_code, again.json()) == (200, cancelled.json())


class TestIdempotency:
    async def test_one_key_is_one_turn(self, client: Client, upstream: Puppet) -> None:
        key = {"idempotency-key": "k1"}

        async def once() -> Any:
            response = await client.post("/ask/c1", json={"prompt": "A"}, headers=key)
            return response.json()

        joined = [asyncio.create_task(once()) for _ in range(3)]
        await upstream.asked(1)
        upstream.answer("One")
        first, second, third = await asyncio.gather(*joined)
        assert first == second == third == await once()
        assert len(upstream.prompts) == 1
        other = await client.post("/ask/c1", json={"prompt": "B"}, headers=key)
        refused(other, 422, "idempotency_mismatch")
        assert contents(await messages(client)) == ["A", "One"]


class TestTurns:
    async def test_a_running_one_shows_its_answer_so_far(
        self, client: Client, upstream: Puppet
    ) -> None:
        task = await asking(client, upstream)
        turn_id = await running(client)
        upstream.say("Half")
        async with client.stream("GET", f"/turns/{turn_id}/events") as response:
            async for line in response.aiter_lines():
                if '"text":"Half"' in line:
                    break
        turn = exact(TurnShape, (await client.get(f"/turns/{turn_id}")).json())
        assert (turn["status"], turn["answer"], turn["answer_id"]) == ("running", "Half", None)
        assert turn["ended_at"] is turn["usage"] is turn["finish_reason"] is None
        upstream.finish()
        assert exact(TurnShape, (await client.get(f"/turns/{turn_id}")).json()) == await task

    @pytest.mark.parametrize(
        ("method", "path"),
        [("GET", "/turns/x"), ("POST", "/turns/x/cancel"), ("GET", "/turns/x/events")],
    )
    async def test_none_is_not_found(self, client: Client, method: str, path: str) -> None:
        refused(await client.request(method, path), 404, "not_found")


class TestConversations:
    async def test_one_is_made_read_changed_and_deleted(self, client: Client) -> None:
        given = {"title": "T", "system_prompt": "S", "model": "m", "metadata": {"a": [1, None]}}
        made = await client.post("/conversations", json={"id": "c1", **given})
        assert made.status_code == 201
        body = exact(ConversationShape, made.json())
        assert {name: body[name] for name in given} == given
        assert (body["id"], body["message_count"], body["head_id"]) == ("c1", 0, None)
        assert (await client.get("/conversations/c1")).json() == body
        changes = {"title": "U", "system_prompt": None, "model": None, "metadata": {}}
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
        seen, after = [], {}
        for _ in range(3):
            response = await client.get("/conversations", params={"limit": 2, **after})
            page = exact(ListShape[ConversationShape], response.json())
            ids = [one["id"] for one in page["data"]]
            assert (page["first_id"], page["last_id"]) == (ids[0], ids[-1])
            seen.append((ids, page["has_more"]))
            after = {"after": page["last_id"]}
        assert seen == [(["e", "d"], True), (["c", "b"], True), (["a"], False)]
        found = (await client.get("/conversations", params={"q": "title d"})).json()
        assert [one["id"] for one in found["data"]] == ["d"]
        nothing = (await client.get("/conversations", params={"q": "nowhere"})).json()
        empty = {"data": [], "first_id": None, "last_id": None, "has_more": False}
        assert nothing == {"object": "list", **empty}

    async def test_a_title_is_the_start_of_the_first_question(
        self, client: Client, upstream: Puppet
    ) -> None:
        upstream.answer("One").answer("Two")
        await ask(client, prompt="Why is the sky blue?")
        await ask(client, prompt="And the sea?")
        found = exact(ConversationShape, (await client.get("/conversations/c1")).json())
        assert (found["title"], found["message_count"]) == ("Why is the sky blue?", 4)

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
        assert (response.status_code, response.json()["status"][:2]) == (200, "ok"[:2]) or (
            response.json() == {"status": "ready"}
        )

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
