"""Every number that is shown moves, and is labelled by model, wire and status alone."""

from __future__ import annotations

import asyncio
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from server.app.upstreams import show_upstreams
from server.core.conversations import Ask, Conversations
from server.core.observability.metrics import ROWS, Metrics
from server.upstream.pool import UpstreamPool
from server.upstream.port import UpstreamFailedError
from storage.model import Usage
from tests.server.transports.openai.openai_client import CHAT, member, passage, serving
from tests.storage.nouns import ADA
from tests.support.fakes import Puppet
from tests.support.upstream_script import fail, say
from tests.support.upstream_server import ScriptedUpstream

Numbers = dict[tuple[str, tuple[str, ...]], float]


def numbers(metrics: Metrics) -> Numbers:
    """Return every sample of ours by its name and the values of its labels, in their order."""
    found = {}
    for family in text_string_to_metric_families(metrics.render().decode()):
        for sample in family.samples:
            if sample.name.startswith("trialogue_") and not sample.name.endswith("_created"):
                assert set(sample.labels) <= {"model", "wire", "status", "le"}, sample
                found[sample.name.removeprefix("trialogue_"), (*sample.labels.values(),)] = (
                    sample.value
                )
    return found


def test_every_number_says_what_it_is_and_is_labelled_by_model_wire_and_status_alone() -> None:
    assert len({row.name for row in ROWS}) == len(ROWS)
    for row in ROWS:
        assert row.help
        assert set(row.labels) <= {"model", "wire", "status"}, row
        assert bool(row.buckets) == (row.kind == "histogram"), row


async def test_a_turn_is_counted_with_its_tokens_times_and_drift(
    conversations: Conversations, upstream: Puppet
) -> None:
    turn = await conversations.ask(ADA, "c", Ask("Hello"))
    counted = turn.context.prompt_tokens
    upstream.say("One ", "two").finish(usage=Usage(counted + 5, 2))
    await ended(conversations, turn.id)
    found, whose = numbers(conversations.metrics), ("gpt-4o", "internal")
    assert found["turns_total", ("gpt-4o", "completed", "internal")] == 1
    assert found["prompt_tokens_total", whose] == counted + 5
    assert found["completion_tokens_total", whose] == 2
    assert found["time_to_first_token_seconds_count", whose] == 1
    assert found["time_per_token_seconds_count", whose] == 1
    below, above = (found["prompt_token_drift_bucket", (le, "gpt-4o")] for le in ("3.0", "10.0"))
    assert (below, above) == (0, 1)


async def test_a_failure_is_counted_by_its_code(
    conversations: Conversations, upstream: Puppet
) -> None:
    turn = await conversations.ask(ADA, "c", Ask("Hello", model="somebody-elses"))
    upstream.fail(UpstreamFailedError("It broke."))
    await ended(conversations, turn.id)
    found = numbers(conversations.metrics)
    assert found["turns_total", ("other", "failed", "internal")] == 1
    assert found["turn_failures_total", ("upstream_failed",)] == 1


async def test_what_runs_waits_and_follows_is_shown_while_it_does(
    conversations: Conversations, upstream: Puppet
) -> None:
    names = ("turns_running", "turns_waiting", "followers", "database_queue")

    def shown() -> list[float]:
        found = numbers(conversations.metrics)
        return [found[name, ()] for name in names]

    assert shown() == [0, 0, 0, 0]
    turn = await conversations.ask(ADA, "c", Ask("Hello"))
    following = conversations.follow(ADA, turn.id)
    await anext(following)
    waiting = asyncio.create_task(conversations.ask(ADA, "c", Ask("And then?")))
    while shown() != [1, 1, 1, 0]:
        await asyncio.sleep(0.01)
    creating = [asyncio.create_task(conversations.create(ADA)) for _ in range(3)]
    queue = 0.0
    while not queue:  # before the writer has taken the first of them
        await asyncio.sleep(0)
        queue = shown()[-1]
    await asyncio.gather(*creating)
    await following.aclose()
    upstream.answer("One").answer("Two")
    await ended(conversations, (await waiting).id)
    while shown() != [0, 0, 0, 0]:
        await asyncio.sleep(0.01)


async def test_calls_of_v1_and_their_upstreams_are_counted(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with ScriptedUpstream() as upstream:
        upstream.script(say("One", gate), *[fail(500)] * 3)
        async with serving(tmp_path, [member(passage(upstream))]) as served:
            metrics = served.conversations.metrics
            show_upstreams(metrics, served.upstreams)
            before = numbers(metrics)
            assert [before["upstreams", (word,)] for word in ("ok", "failing", "resting")] == [
                *(1, 0, 0)
            ]
            asking = asyncio.create_task(served.client.post("/v1/chat/completions", json=CHAT))
            await upstream.request()
            assert numbers(metrics)["upstream_calls", ()] == 1
            gate.set()
            assert (await asking).status_code == 200
            assert (await served.client.post("/v1/chat/completions", json=CHAT)).status_code >= 500
            assert numbers(metrics)["upstreams", ("failing",)] == 1
            for _ in range(2):
                await served.client.post("/v1/chat/completions", json=CHAT)
            found = await settled(metrics, requests=4)
        assert found["upstreams", ("resting",)] == 1
        assert found["upstream_attempts_total", ()] == 4
        assert found["upstream_failures_total", ()] == 3
        assert found["requests_total", ("200", "openai")] == 1
        assert found["request_seconds_count", ("openai",)] == 4


async def test_every_number_is_shown_by_a_server_that_knows_upstreams(
    conversations: Conversations,
) -> None:
    show_upstreams(conversations.metrics, UpstreamPool([]))
    for of_nodes in ("nodes", "node_holds_its_turns", "turns_mirrored"):  # on PostgreSQL
        conversations.metrics.show(of_nodes, lambda: 1)
    shown = conversations.metrics.render().decode()
    for row in ROWS:
        name = row.shown[0].removesuffix("_bucket")
        assert f"# TYPE {name} {row.kind}" in shown, row
    assert "process_resident_memory_bytes" in shown


async def ended(conversations: Conversations, turn_id: str) -> None:
    """Wait until a turn is ended and counted, which is a moment later."""
    async for _ in conversations.follow(ADA, turn_id):
        pass
    while conversations.running:
        await asyncio.sleep(0)


async def settled(metrics: Metrics, requests: int) -> Numbers:
    """Wait until so many requests have ended; a client hears the answer a moment before."""
    while True:
        found = numbers(metrics)
        if sum(n for (name, _), n in found.items() if name == "requests_total") == requests:
            return found
        await asyncio.sleep(0.01)
