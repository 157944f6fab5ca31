"""REST as its callers see it: sockets, core and database are real."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from server.transports.rest.schemas import TurnShape
from server.upstream.port import (
    UpstreamFailedError,
    UpstreamRateLimitedError,
    UpstreamRejectedError,
    UpstreamTimeoutError,
)
from tests.server.transports.rest.http_client import (
    Client,
    ask,
    asking,
    contents,
    exact,
    messages,
    refused,
    running,
)
from tests.support.fakes import Puppet


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
        sampling: dict[str, Any] = {
            "max_tokens": 7,
            "temperature": 0.5,
            "top_p": 0.25,
            "seed": -3,
            "stop": "END",
        }
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
        upstream.answer("Two")
        assert (await first)["status"] == "cancelled"
        assert (await second)["answer"] == "Two"


class TestFailures:
    @pytest.mark.parametrize(
        ("error", "status", "code"),
        [
            (UpstreamFailedError("It broke."), 502, "upstream_failed"),
            (UpstreamTimeoutError("It was slow."), 504, "upstream_timeout"),
            (UpstreamRejectedError("No such model.", status=404), 404, "upstream_rejected"),
            (UpstreamRejectedError("No.", status=400), 400, "upstream_rejected"),
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
        told = refused(response, 429, "rate_limit_exceeded")
        assert response.headers["retry-after"] == "7"
        turn = exact(TurnShape, (await client.get(f"/turns/{told['turn_id']}")).json())
        assert turn["error"] == {"code": "rate_limit_exceeded", "message": "Too many."}

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
        ended = await task
        assert exact(TurnShape, (await client.get(f"/turns/{turn_id}")).json()) == ended

    @pytest.mark.parametrize(
        ("method", "path"),
        [("GET", "/turns/x"), ("POST", "/turns/x/cancel"), ("GET", "/turns/x/events")],
    )
    async def test_none_is_not_found(self, client: Client, method: str, path: str) -> None:
        refused(await client.request(method, path), 404, "not_found")
